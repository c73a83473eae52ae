// Command sqlservice is the smallest service with database/sql that writes a run's outcome into the outbox: copy it.
//
// It uses pgx's driver. lib/pq works the same: import _ "github.com/lib/pq" and open "postgres" instead of "pgx". The
// top of examples/pgxservice says how to see the outcome arrive; the last line is then
//
//	go run ./examples/sqlservice http://127.0.0.1:9000/hook
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("DATABASE_URL"), os.Getenv("OUTBOX_SCHEMA"), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sqlservice:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, databaseURL, schema string, args []string, out io.Writer) error {
	if databaseURL == "" {
		return errors.New("DATABASE_URL is empty; name a database, like DATABASE_URL=postgres://user@localhost/app")
	}
	if len(args) != 1 {
		return errors.New("want the callback URL: go run ./examples/sqlservice http://127.0.0.1:9000/hook")
	}
	db, err := sql.Open("pgx", databaseURL)
	if err != nil {
		return err
	}
	defer db.Close()
	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: schema}) // "" is the default schema, outbox
	if err != nil {
		return err
	}
	outcome := outbox.RunOutcome{
		RunID: "run-" + rand.Text(), Status: outbox.Failed, Error: "the disk is full",
		Headers: map[string]string{hook.DefaultURLHeader: args[0]},
	}
	if err := terminal.CheckHeaders(outcome.Headers); err != nil {
		return err // at submit time, when the submitter can still be told
	}
	if _, err := db.ExecContext(ctx, createStep); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, `INSERT INTO example_step (run_id, number) VALUES ($1, 0)`, outcome.RunID); err != nil {
		return err
	}
	if err := acknowledge(ctx, db, terminal, outcome); err != nil {
		return fmt.Errorf("%s: %w", outcome.RunID, err)
	}
	wake(ctx, db, schema)
	_, err = fmt.Fprintf(out, "%s %s: its outcome is on its way\n", outcome.RunID, outcome.Status)
	return err
}

const (
	createStep = `CREATE TABLE IF NOT EXISTS example_step (
    run_id text, number bigint, state text NOT NULL DEFAULT 'ready', PRIMARY KEY (run_id, number))`
	// A step is acknowledged only while it is ready: a second try, for example after a lost connection, changes nothing.
	acknowledgeStep = `UPDATE example_step SET state = $3 WHERE run_id = $1 AND number = $2 AND state = 'ready'`
)

// acknowledge ends the run with its last step: both are committed, or neither.
func acknowledge(ctx context.Context, db *sql.DB, terminal hook.TerminalHook, outcome outbox.RunOutcome) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	result, err := tx.ExecContext(ctx, acknowledgeStep, outcome.RunID, int64(outcome.FinalStep), outcome.Status)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, errors.New("the step is not ready: somebody else acknowledged it"))
	}
	if err := terminal.OnTermination(ctx, outbox.SQLTx(tx), outcome); err != nil {
		return err // the acknowledgement is rolled back
	}
	return tx.Commit()
}

// wake saves the wait for the worker's next poll. It comes after the commit, never inside the transaction. Its error does not
// matter: without it, the outcome arrives a poll later. (A service that ends many runs a second wakes less often.)
func wake(ctx context.Context, db *sql.DB, schema string) {
	if schema == "" {
		schema = outbox.DefaultSchema
	}
	_, _ = db.ExecContext(ctx, `SELECT pg_notify($1::text, '')`, outbox.WakeChannel(schema))
}
