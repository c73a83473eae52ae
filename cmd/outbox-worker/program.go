package main

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/session"
)

// program is one invocation: its input, and what it opened.
type program struct {
	env    map[string]string
	stdin  io.Reader
	stdout *output
	stderr io.Writer

	schema string // --schema; the environment's when empty
	pool   *pgxpool.Pool
	pooler session.Pooler // the kind of pooler before the database
}

// run is the whole program: it parses, runs and closes, and returns the exit status. It ends soon after ctx does.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{env: variablesOf(environ), stdin: stdin, stdout: &output{w: stdout}, stderr: stderr}
	defer p.close()
	root := p.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = p.stdout.err
	}
	return p.report(ctx, err)
}

// closeTimeout bounds the end of the sessions with a database that may not answer; the end of the process closes them too.
const closeTimeout = 250 * time.Millisecond

func (p *program) close() {
	if p.pool == nil {
		return
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		p.pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

// variablesOf turns an environment as os.Environ returns it into a map. As in the shell, the last value holds.
func variablesOf(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}
