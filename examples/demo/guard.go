package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// guardCommand as the first argument makes the demo a guard: `demo guard DIRECTORY`.
const guardCommand = "guard"

// guard is a second process of the demo's own program that waits for the end of the first. On the pipe between them, the
// first one reports what it started, and in the end that nothing is left. If the pipe ends without that, the demo was killed,
// and the guard ends its processes and removes what it made. (The throwaway Postgres cleans up by itself.)
type guard struct {
	mu   sync.Mutex
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

func startGuard(directory string) (*guard, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	g := &guard{cmd: exec.Command(program, guardCommand, directory)}
	g.cmd.SysProcAttr = ownGroup()
	if g.pipe, err = g.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return g, nil
}

// tell reports what there is to clean up. Its errors are dropped: the demo also works without a guard.
func (g *guard) tell(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, _ = fmt.Fprintf(g.pipe, format+"\n", args...)
}

// dismiss ends the guard when nothing is left to clean up.
func (g *guard) dismiss(context.Context) error {
	g.tell("nothing left")
	if err := errors.Join(g.pipe.Close(), g.cmd.Wait()); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	return nil
}

// estate is what a killed demo leaves.
type estate struct {
	directory string
	children  map[int]bool
	schemas   []string
}

// guardMain is the guard's whole life.
func guardMain(pipe io.Reader, args []string) {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	if len(args) != 1 {
		return
	}
	e := estate{directory: args[0], children: map[int]bool{}}
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		if lines.Text() == "nothing left" {
			return
		}
		e.hear(lines.Text())
	}
	e.cleanUp()
}

func (e *estate) hear(line string) {
	what, rest, _ := strings.Cut(line, " ")
	pid, _ := strconv.Atoi(rest)
	switch what {
	case "child":
		e.children[pid] = true
	case "ended":
		delete(e.children, pid)
	case "schemas":
		e.schemas = strings.Fields(rest)
	}
}

// cleanUp drops its errors, because nobody would see them.
func (e *estate) cleanUp() {
	for pid := range e.children {
		if process, err := os.FindProcess(pid); err == nil {
			_ = process.Kill()
		}
	}
	_ = os.RemoveAll(e.directory)
	if len(e.schemas) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if conn, err := pgx.Connect(ctx, os.Getenv(throwaway.URLVariable)); err == nil {
		_ = dropSchemas(ctx, conn, e.schemas)
		_ = conn.Close(ctx)
	}
}
