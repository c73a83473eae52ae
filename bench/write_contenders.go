package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// pipeline sends begin, the acknowledgement, what else is to be in the transaction, and commit, in one round trip.
func pipeline(ctx context.Context, c *pgxpool.Conn, ackSQL string, n int, more func(*pgx.Batch) error) error {
	var b pgx.Batch
	b.Queue("BEGIN")
	b.Queue(ackSQL, runID(n), stepOutput)
	if err := more(&b); err != nil {
		return err
	}
	b.Queue("COMMIT")
	return c.SendBatch(ctx, &b).Close()
}

func ackBare(_ context.Context, t *trial) (acknowledger, error) {
	ackSQL := t.db.in(stepAck)
	return func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pipeline(ctx, c, ackSQL, n, func(*pgx.Batch) error { return nil })
	}, nil
}

func ackNotify(_ context.Context, t *trial) (acknowledger, error) {
	ackSQL, channel := t.db.in(stepAck), t.db.schema
	return func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pipeline(ctx, c, ackSQL, n, func(b *pgx.Batch) error {
			b.Queue("SELECT pg_notify($1, '')", channel)
			return nil
		})
	}, nil
}

func ackHook(ctx context.Context, t *trial) (acknowledger, error) {
	h, l, err := newHook(ctx, t)
	ackSQL := t.db.in(stepAck)
	return func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pipeline(ctx, c, ackSQL, n, func(b *pgx.Batch) error {
			_, err := h.Queue(ctx, b, l.outcome(n))
			return err
		})
	}, err
}

func ackHookTx(ctx context.Context, t *trial) (acknowledger, error) {
	h, l, err := newHook(ctx, t)
	ackSQL := t.db.in(stepAck)
	return func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, ackSQL, runID(n), stepOutput); err != nil {
				return err
			}
			return h.OnTermination(ctx, tx, l.outcome(n))
		})
	}, err
}

// ackRiver uses a client that only inserts. River's call takes a pgx.Tx and cannot ride in a pipeline.
func ackRiver(ctx context.Context, t *trial) (acknowledger, error) {
	if err := t.db.migrateRiver(ctx); err != nil {
		return nil, err
	}
	client, err := newRiverClient(t.db.pool, t.db.schema, nil)
	if err != nil {
		return nil, err
	}
	l := writersLoad()
	ackSQL := t.db.in(stepAck)
	return func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, ackSQL, runID(n), stepOutput); err != nil {
				return err
			}
			_, err := client.InsertTx(ctx, tx, l.webhook(n), nil)
			return err
		})
	}, nil
}

func newHook(ctx context.Context, t *trial) (*hook.WebhookTerminalHook, load, error) {
	if err := t.db.migrateOutbox(ctx); err != nil {
		return nil, load{}, err
	}
	h, err := hook.NewWebhook(hook.WebhookConfig{Schema: t.db.schema})
	return h, writersLoad(), err
}

// writersLoad is written and never delivered.
func writersLoad() load { return load{urls: []string{"http://127.0.0.1:9/hook"}} }

// outcome returns the n-th message's as a run would leave it behind.
func (l load) outcome(n int) outbox.RunOutcome {
	o := l.message(n).Outcome
	o.Headers = map[string]string{hook.DefaultURLHeader: l.url(n)}
	return o
}
