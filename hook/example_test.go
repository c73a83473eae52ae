package hook_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// A service on pgx acknowledges the last step and writes the run's outcome in one transaction.
func Example() {
	ctx := context.Background()
	pool, schema, done := exampleService() // a migrated outbox, and a table of steps
	defer done()

	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: schema})
	if err != nil {
		log.Fatal(err)
	}
	outcome := outbox.RunOutcome{
		RunID:     "order-4711",
		Status:    outbox.Succeeded,
		Result:    []byte(`{"shipped":true}`),
		Headers:   map[string]string{"callback_url": "https://shop.example/hooks/orders"},
		FinalStep: 3,
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE "+schema+".step SET acknowledged = true WHERE run_id = $1 AND NOT acknowledged", outcome.RunID)
		if err != nil {
			return err
		}
		return terminal.OnTermination(ctx, tx, outcome) // an error rolls both back
	})
	if err != nil {
		log.Fatal(err)
	}

	store, err := operator.NewStore(pool, schema)
	if err != nil {
		log.Fatal(err)
	}
	messages, err := store.List(ctx, operator.Filter{RunID: outcome.RunID})
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range messages {
		fmt.Println(m.RunID, m.Status, "to", m.Endpoint, "is", m.State)
	}
	// Output: order-4711 succeeded to https://shop.example is pending
}

// A service on database/sql, with pgx's driver or lib/pq, wraps its transaction.
func Example_databaseSQL() {
	ctx := context.Background()
	db, schema, done := exampleSQLService() // a migrated outbox, and a table of steps
	defer done()

	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: schema, DefaultURL: "https://shop.example/hooks/orders"})
	if err != nil {
		log.Fatal(err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(ctx, "UPDATE "+schema+".step SET acknowledged = true WHERE run_id = $1 AND NOT acknowledged", "order-4711")
	if err != nil {
		log.Fatal(err)
	}
	err = terminal.OnTermination(ctx, outbox.SQLTx(tx), outbox.RunOutcome{
		RunID: "order-4711", Status: outbox.Failed, Error: "card declined",
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}

	var body string
	if err := db.QueryRowContext(ctx, "SELECT error FROM "+schema+".message").Scan(&body); err != nil {
		log.Fatal(err)
	}
	fmt.Println(body)
	// Output: card declined
}

// In a pgx.Batch the outcome costs no round trip of its own.
func ExampleWebhookTerminalHook_Queue() {
	ctx := context.Background()
	pool, schema, done := exampleService()
	defer done()

	terminal, err := hook.NewWebhook(hook.WebhookConfig{Schema: schema})
	if err != nil {
		log.Fatal(err)
	}
	var batch pgx.Batch
	batch.Queue("UPDATE "+schema+".step SET acknowledged = true WHERE run_id = $1 AND NOT acknowledged", "order-4711")
	queued, err := terminal.Queue(ctx, &batch, outbox.RunOutcome{
		RunID: "order-4711", Status: outbox.Cancelled,
		Headers: map[string]string{"callback_url": "https://shop.example/hooks/orders"},
	})
	if err != nil {
		log.Fatal(err)
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return tx.SendBatch(ctx, &batch).Close() })
	fmt.Println(queued, batch.Len(), err)
	// Output: true 2 <nil>
}

// A service refuses, at submit time, a run whose outcome could never be delivered.
func ExampleWebhookTerminalHook_CheckHeaders() {
	terminal, err := hook.NewWebhook(hook.WebhookConfig{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(terminal.CheckHeaders(map[string]string{"callback_url": "shop.example/hooks"}))
	fmt.Println(terminal.CheckHeaders(map[string]string{"callback_url": "https://shop.example/hooks"}))
	// Output:
	// header "callback_url": url: relative; want https://host/path
	// <nil>
}

// A service with hooks of its own runs them in the same transaction.
func ExampleMulti() {
	terminal, err := hook.NewWebhook(hook.WebhookConfig{})
	if err != nil {
		log.Fatal(err)
	}
	var billing hook.TerminalHook = hook.NoopTerminalHook{}
	both := hook.Multi(billing, terminal)
	err = both.OnTermination(context.Background(), nil, outbox.RunOutcome{Status: outbox.Succeeded})
	fmt.Println(err)
	// Output: terminal hook 2 of 2: webhook hook: invalid outcome: RunID is empty
}
