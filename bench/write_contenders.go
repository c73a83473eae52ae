package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
	"github.com/seed-abbacb8b/epilogue/hook"
)

// pipeline sends begin, the acknowledgement, the other statements of the transaction, and commit, in one round trip.
func pipeline(ctx context.Context, c *pgxpool.Conn, ackSQL string, n int, more func(*pgx.Batch) error) error {
	var b pgx.Batch
	b.Queue("BEGIN")
	b.Queue(ackSQL, stand.RunID(n), stepOutput)
	if err := more(&b); err != nil {
		return err
	}
	b.Queue("COMMIT")
	return c.SendBatch(ctx, &b).Close()
}

func ackBare(_ context.Context, t *trial) (acknowledger, error) {
	ackSQL := t.DB.In(stepAck)
	return func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pipeline(ctx, c, ackSQL, n, func(*pgx.Batch) error { return nil })
	}, nil
}

func ackNotify(_ context.Context, t *trial) (acknowledger, error) {
	ackSQL, channel := t.DB.In(stepAck), t.DB.Schema
	return func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pipeline(ctx, c, ackSQL, n, func(b *pgx.Batch) error {
			b.Queue("SELECT pg_notify($1, '')", channel)
			return nil
		})
	}, nil
}

func ackHook(ctx context.Context, t *trial) (acknowledger, error) {
	h, l, err := newHook(ctx, t)
	ackSQL := t.DB.In(stepAck)
	return func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pipeline(ctx, c, ackSQL, n, func(b *pgx.Batch) error {
			_, err := h.Queue(ctx, b, l.Outcome(n))
			return err
		})
	}, err
}

func ackHookTx(ctx context.Context, t *trial) (acknowledger, error) {
	h, l, err := newHook(ctx, t)
	ackSQL := t.DB.In(stepAck)
	return func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, ackSQL, stand.RunID(n), stepOutput); err != nil {
				return err
			}
			return h.OnTermination(ctx, tx, l.Outcome(n))
		})
	}, err
}

// ackRiver uses a client that only inserts. River's call takes a pgx.Tx and cannot ride in a pipeline.
func ackRiver(ctx context.Context, t *trial) (acknowledger, error) {
	if err := t.DB.MigrateRiver(ctx); err != nil {
		return nil, err
	}
	client, err := newRiverClient(t.DB.Pool, t.DB.Schema, nil)
	if err != nil {
		return nil, err
	}
	l := writersLoad()
	ackSQL := t.DB.In(stepAck)
	return func(ctx context.Context, c *pgxpool.Conn, n int) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, ackSQL, stand.RunID(n), stepOutput); err != nil {
				return err
			}
			_, err := client.InsertTx(ctx, tx, webhook(l, n), nil)
			return err
		})
	}, nil
}

func newHook(ctx context.Context, t *trial) (*hook.WebhookTerminalHook, stand.Load, error) {
	if err := t.DB.MigrateOutbox(ctx); err != nil {
		return nil, stand.Load{}, err
	}
	h, err := hook.NewWebhook(hook.WebhookConfig{Schema: t.DB.Schema})
	return h, writersLoad(), err
}

// writersLoad is written and never delivered.
func writersLoad() stand.Load { return stand.Load{URLs: []string{"http://127.0.0.1:9/hook"}} }
