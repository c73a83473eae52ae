// Command riverservice is the smallest service whose steps run on River with hook/riverstep: copy it.
//
// It submits one run of three steps, the second of which fails once, and waits for its end; the outcome is then on its way
// to the callback URL. The service's own writes are committed with the step that makes them. To see it arrive, in four
// terminals, with DATABASE_URL naming a database of yours:
//
//	OUTBOX_DATABASE_URL=$DATABASE_URL go run ./cmd/outbox-worker migrate up
//	OUTBOX_DATABASE_URL=$DATABASE_URL OUTBOX_ALLOW_HTTP=true OUTBOX_ALLOWED_CIDRS=127.0.0.0/8 go run ./cmd/outbox-worker run
//	go run ./cmd/outbox-worker receive
//	go run ./examples/riverservice http://127.0.0.1:9000/hook
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("DATABASE_URL"), os.Getenv("OUTBOX_SCHEMA"), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "riverservice:", err)
		os.Exit(1)
	}
}

// The service's own tables, River's among them, are in a schema of the service: the outbox's River is the worker's.
const serviceSchema = "example_river"

func run(ctx context.Context, databaseURL, schema string, args []string, out io.Writer) error {
	if databaseURL == "" {
		return errors.New("DATABASE_URL is empty; name a database, like DATABASE_URL=postgres://user@localhost/app")
	}
	if len(args) != 1 {
		return errors.New("want the callback URL: go run ./examples/riverservice http://127.0.0.1:9000/hook")
	}
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := create(ctx, pool); err != nil {
		return err
	}
	waker, err := outbox.NewWaker(pool, schema)
	if err != nil {
		return err
	}
	steps, client, err := newSteps(pool, schema, waker)
	if err != nil {
		return err
	}
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	submitted, err := steps.Submit(ctx, riverstep.RunSpec{
		Input: []byte("paper"), Headers: map[string]string{hook.DefaultURLHeader: args[0]},
	})
	if err == nil {
		var ended riverstep.RunStatus
		if ended, err = steps.Wait(ctx, submitted.RunID); err == nil {
			fmt.Fprintf(out, "%s %s after step %d: its outcome is on its way\n", ended.RunID, ended.State, ended.Step)
		}
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, client.StopAndCancel(stopCtx), waker.Close(stopCtx))
}

// newSteps makes the runtime and the service's River client. Queues, middleware and retry policy are the service's.
func newSteps(pool *pgxpool.Pool, schema string, waker *outbox.Waker) (*riverstep.Steps, *river.Client[pgx.Tx], error) {
	terminal, err := hook.NewWebhook(hook.WebhookConfig{
		Schema:    schema,              // "" is the default schema, outbox
		DedupeKey: riverstep.DedupeKey, // one message per run, by a unique index too
	})
	if err != nil {
		return nil, nil, err
	}
	steps, err := riverstep.New(pool, riverstep.RunnerFunc(order), riverstep.Config{
		Schema: schema, Hook: terminal, CheckHeaders: terminal.CheckHeaders, Wake: waker.Wake,
	})
	if err != nil {
		return nil, nil, err
	}
	config := &river.Config{
		Schema: serviceSchema,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 10}},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if err := steps.Register(config); err != nil {
		return nil, nil, err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), config)
	if err != nil {
		return nil, nil, err
	}
	steps.Bind(client)
	return steps, client, nil
}

// order is the work: check the stock, book, report.
func order(_ context.Context, step riverstep.Step) (riverstep.Verdict, error) {
	switch step.Number {
	case 0:
		if len(step.Payload) == 0 {
			return riverstep.Fail("there is nothing to order"), nil // an end, not an error: nothing is tried again
		}
		return riverstep.Continue(step.Payload), nil
	case 1:
		if step.Attempt == 1 {
			return riverstep.Verdict{}, errors.New("the stock does not answer") // tried again, by River's retry policy
		}
		// What the step writes is committed with it, or not at all.
		return riverstep.Continue(step.Payload).With(func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO `+serviceSchema+`.booking (run_id, item) VALUES ($1, $2)`, step.RunID, string(step.Payload))
			return err
		}), nil
	}
	return riverstep.Succeed([]byte(`{"booked":true}`)), nil
}

func create(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+serviceSchema+`;
CREATE TABLE IF NOT EXISTS `+serviceSchema+`.booking (run_id text PRIMARY KEY, item text NOT NULL)`)
	if err != nil {
		return err
	}
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: serviceSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}
