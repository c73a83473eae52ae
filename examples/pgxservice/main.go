// Command pgxservice is the smallest service with pgx that writes a run's outcome into the outbox: copy it.
//
// It ends two runs, each with the acknowledgement of its last step: one with a call of the hook, one with the hook's
// statement in the acknowledgement's own batch, which costs no round trip. To see them arrive, in four terminals, with
// DATABASE_URL naming a database of yours:
//
//	OUTBOX_DATABASE_URL=$DATABASE_URL go run ./cmd/outbox-worker migrate up
//	OUTBOX_DATABASE_URL=$DATABASE_URL OUTBOX_ALLOW_HTTP=true OUTBOX_ALLOWED_CIDRS=127.0.0.0/8 go run ./cmd/outbox-worker run
//	go run ./cmd/outbox-worker receive
//	go run ./examples/pgxservice http://127.0.0.1:9000/hook
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("DATABASE_URL"), os.Getenv("OUTBOX_SCHEMA"), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pgxservice:", err)
		os.Exit(1)
	}
}

// service is what an embedding service holds: its pool, the hook, and a waker, so that the outcome does not wait for the worker's next poll.
type service struct {
	pool     *pgxpool.Pool
	terminal *hook.WebhookTerminalHook
	waker    *outbox.Waker
}

func run(ctx context.Context, databaseURL, schema string, args []string, out io.Writer) error {
	if databaseURL == "" {
		return errors.New("DATABASE_URL is empty; name a database, like DATABASE_URL=postgres://user@localhost/app")
	}
	if len(args) != 1 {
		return errors.New("want the callback URL: go run ./examples/pgxservice http://127.0.0.1:9000/hook")
	}
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: schema}) // "" is the default schema, outbox
	if err != nil {
		return err
	}
	waker, err := outbox.NewWaker(pool, schema)
	if err != nil {
		return err
	}
	s := service{pool, terminal, waker}
	headers := map[string]string{hook.DefaultURLHeader: args[0]}
	if err := terminal.CheckHeaders(headers); err != nil {
		return err // at submit time, when the submitter can still be told
	}
	if _, err := pool.Exec(ctx, createStep); err != nil {
		return err
	}
	for _, acknowledge := range []func(context.Context, outbox.RunOutcome) error{s.acknowledge, s.acknowledgeInBatch} {
		outcome := outbox.RunOutcome{
			RunID: "run-" + rand.Text(), Status: outbox.Succeeded, Result: []byte(`{"answer":42}`), Headers: headers,
		}
		if _, err := pool.Exec(ctx, `INSERT INTO example_step (run_id, number) VALUES ($1, 0)`, outcome.RunID); err != nil {
			return err
		}
		if err := acknowledge(ctx, outcome); err != nil {
			return fmt.Errorf("%s: %w", outcome.RunID, err)
		}
		waker.Wake() // after the commit, never inside the transaction
		fmt.Fprintf(out, "%s %s: its outcome is on its way\n", outcome.RunID, outcome.Status)
	}
	return waker.Close(ctx)
}

const (
	createStep = `CREATE TABLE IF NOT EXISTS example_step (
    run_id text, number bigint, state text NOT NULL DEFAULT 'ready', PRIMARY KEY (run_id, number))`
	// A step is acknowledged only while it is ready: a second try, for example after a lost connection, changes nothing.
	acknowledgeStep = `UPDATE example_step SET state = 'done' WHERE run_id = $1 AND number = $2 AND state = 'ready'`
)

// acknowledge ends the run with its last step: both are committed, or neither.
func (s service) acknowledge(ctx context.Context, outcome outbox.RunOutcome) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, acknowledgeStep, outcome.RunID, outcome.FinalStep)
		if err == nil {
			err = onlyOne(tag)
		}
		if err != nil {
			return err
		}
		return s.terminal.OnTermination(ctx, tx, outcome) // an error rolls the acknowledgement back
	})
}

// acknowledgeInBatch does the same, with both statements in one round trip.
func (s service) acknowledgeInBatch(ctx context.Context, outcome outbox.RunOutcome) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(acknowledgeStep, outcome.RunID, outcome.FinalStep).Exec(onlyOne)
		if _, err := s.terminal.Queue(ctx, batch, outcome); err != nil {
			return err
		}
		return tx.SendBatch(ctx, batch).Close()
	})
}

func onlyOne(tag pgconn.CommandTag) error {
	if tag.RowsAffected() != 1 {
		return errors.New("the step is not ready: somebody else acknowledged it")
	}
	return nil
}
