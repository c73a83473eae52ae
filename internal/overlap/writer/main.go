// Command writer ends runs, as a service does, until its stdin is closed. The test of overlapping versions builds it from this
// tree and from that of the release before, so it uses only what both have.
//
// Some of its runs have a dedupe key, and two writers end them at the same time. Some name a URL to which nothing can be
// delivered. The table ack of the application's schema has the acknowledged runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "writer:", err)
		os.Exit(1)
	}
}

const (
	writers = 4
	pause   = 5 * time.Millisecond // of each writer, between two runs
)

func run(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, os.Getenv("OVERLAP_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	terminal, err := hook.NewWebhook(hook.WebhookConfig{
		Schema: os.Getenv("OVERLAP_SCHEMA"),
		DedupeKey: func(o outbox.RunOutcome) string {
			if strings.HasPrefix(o.RunID, "twice-") {
				return o.RunID
			}
			return ""
		},
	})
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	service := service{pool, terminal, os.Getenv("OVERLAP_APP"), os.Getenv("OVERLAP_RECEIVER")}
	var group sync.WaitGroup
	faults := make([]error, writers)
	for i := range faults {
		group.Go(func() { faults[i] = service.endRuns(ctx, stop) })
	}
	group.Wait()
	return errors.Join(faults...)
}

type service struct {
	pool          *pgxpool.Pool
	terminal      *hook.WebhookTerminalHook
	app, receiver string
}

func (s service) endRuns(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(pause):
		}
		if err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return s.endRun(ctx, tx) }); err != nil {
			return err
		}
	}
}

// endRun takes the next number. Two consecutive numbers are one run, which is ended twice, mostly by two writers.
func (s service) endRun(ctx context.Context, tx pgx.Tx) error {
	var n int64
	if err := tx.QueryRow(ctx, "SELECT nextval('"+s.app+".number')").Scan(&n); err != nil {
		return err
	}
	id, url := fmt.Sprintf("once-%d", n), s.receiver
	switch {
	case n%40 == 0:
		id, url = fmt.Sprintf("invalid-%d", n), "relative"
	case n%4 < 2:
		id = fmt.Sprintf("twice-%d", n/2)
	}
	if _, err := tx.Exec(ctx, "INSERT INTO "+s.app+".ack (run) VALUES ($1)", id); err != nil {
		return err
	}
	return s.terminal.OnTermination(ctx, tx, outbox.RunOutcome{
		RunID: id, Status: outbox.Succeeded, Result: []byte(`{"ok":true}`), Headers: map[string]string{"callback_url": url},
	})
}
