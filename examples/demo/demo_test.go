//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// programVariable makes the test program behave like the demo with its guard, so that tests can kill it.
const programVariable = "EPILOGUE_DEMO_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		main()
		return
	}
	leakcheck.Main(m)
}

// rig is a demo that uses the server of the test, and has its own TMPDIR.
type rig struct {
	cmd  *exec.Cmd
	url  string
	temp string
}

func newRig(t *testing.T, args ...string) *rig {
	t.Helper()
	server, err := throwaway.Start(t.Context(), throwaway.Options{Log: t.Logf})
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	r := &rig{cmd: exec.Command(os.Args[0], args...), url: server.URL(), temp: t.TempDir()}
	r.cmd.Env = append(os.Environ(), programVariable+"=1", "TMPDIR="+r.temp, throwaway.URLVariable+"="+r.url)
	return r
}

// until starts the demo and returns when it has printed a line with the words.
func (r *rig) until(t *testing.T, words string) (rest io.Reader) {
	t.Helper()
	out, err := r.cmd.StdoutPipe()
	must(t, err)
	r.cmd.Stderr = r.cmd.Stdout
	must(t, r.cmd.Start())
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); _ = r.cmd.Wait() })
	lines := bufio.NewReader(out)
	var printed strings.Builder
	for {
		line, err := lines.ReadString('\n')
		printed.WriteString(line)
		if err != nil {
			t.Fatalf("the demo never printed %q:\n%s", words, printed.String())
		}
		if strings.Contains(line, words) {
			return lines
		}
	}
}

// left lists what the demo has not removed: files, schemas, and processes that have its TMPDIR in their environment.
func (r *rig) left(t *testing.T) (left []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.temp, "*"))
	must(t, err)
	left = append(left, files...)
	conn, err := pgx.Connect(t.Context(), r.url)
	must(t, err)
	defer func() { must(t, conn.Close(context.Background())) }()
	rows, err := conn.Query(t.Context(), `SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'epilogue\_demo\_%'`)
	must(t, err)
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	left = append(left, schemas...)
	processes, err := filepath.Glob("/proc/[0-9]*") // nothing on a system without /proc
	must(t, err)
	for _, process := range processes {
		environment, _ := os.ReadFile(filepath.Join(process, "environ"))
		if bytes.Contains(environment, []byte("TMPDIR="+r.temp+"\x00")) {
			name, _ := os.ReadFile(filepath.Join(process, "cmdline"))
			left = append(left, process+" "+string(name))
		}
	}
	return left
}

// The tests below are not parallel: each looks for what any demo has left on the server.

func TestTheDemoReportsSuccessAndLeavesNothing(t *testing.T) {
	r := newRig(t, "-files", "150", "-kill=false")
	out, err := r.cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, want := range []string{
		"every run ended: 150 of 150", "every committed outcome arrived: 150 of 150", "arrived but never committed: 0",
	} {
		if !strings.Contains(string(out), "  ok     ") || !strings.Contains(string(out), want) {
			t.Errorf("the demo did not print %q:\n%s", want, out)
		}
	}
	if left := r.left(t); len(left) > 0 {
		t.Errorf("the demo has left %q, want nothing", left)
	}
}

func TestADemoThatASignalStopsLeavesNothing(t *testing.T) {
	for words, signal := range map[string]os.Signal{
		"building":      os.Interrupt,
		"runs ended":    syscall.SIGTERM,
		"started again": syscall.SIGHUP,
	} {
		t.Run(words, func(t *testing.T) {
			r := newRig(t, "-files", "500")
			rest := r.until(t, words)
			must(t, r.cmd.Process.Signal(signal))
			out, err := io.ReadAll(rest)
			must(t, err)
			err = r.cmd.Wait()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitInterrupted {
				t.Errorf("the demo ended with %v, want the status %d; it printed:\n%s", err, exitInterrupted, out)
			}
			if left := r.left(t); len(left) > 0 {
				t.Errorf("the demo has left %q, want nothing", left)
			}
		})
	}
}

func TestADemoWhoseOutputIsClosedLeavesNothing(t *testing.T) {
	r := newRig(t, "-files", "6000", "-kill=false")
	out, err := r.cmd.StdoutPipe()
	must(t, err)
	must(t, r.cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	must(t, err)
	must(t, out.Close())
	if err := r.cmd.Wait(); err == nil {
		t.Error("the demo ran to its end, want an error because nobody reads its output")
	}
	if left := r.left(t); len(left) > 0 {
		t.Errorf("the demo has left %q, want nothing", left)
	}
}

func TestTheGuardCleansUpAfterADemoThatWasKilled(t *testing.T) {
	r := newRig(t, "-files", "6000", "-kill=false")
	r.until(t, "runs ended")
	must(t, r.cmd.Process.Kill())
	_ = r.cmd.Wait() // killed
	deadline := time.Now().Add(time.Minute)
	for left := r.left(t); len(left) > 0; left = r.left(t) {
		if time.Now().After(deadline) {
			t.Fatalf("the guard has left %q, want nothing", left)
		}
		time.Sleep(50 * time.Millisecond) // there is no event for the end of another process's child
	}
}

func TestBadFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-files", "-1"}, {"now"}, {"-speed"}} {
		if status := run(args); status != exitUsage {
			t.Errorf("%q: the status is %d, want %d", args, status, exitUsage)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
