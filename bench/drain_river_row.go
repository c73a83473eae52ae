package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// The usual outbox: one wide row with its state, and a job that points to it.
const rowTable = `CREATE TABLE bench.outbox_row (
    id           bigint PRIMARY KEY,
    run_id       text NOT NULL,
    url          text NOT NULL,
    body         bytea NOT NULL,
    state        text NOT NULL DEFAULT 'pending',
    attempts     integer NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz
)`

// rowArgs are a River job for one outbox row.
type rowArgs struct {
	RowID int64 `json:"row_id"`
}

func (rowArgs) Kind() string { return "outbox_row" }

type rowWorker struct {
	river.WorkerDefaults[rowArgs]
	poster       stand.Poster
	pool         *pgxpool.Pool
	load, finish string // statements
}

func (w *rowWorker) Work(ctx context.Context, job *river.Job[rowArgs]) error {
	var url string
	var body []byte
	if err := w.pool.QueryRow(ctx, w.load, job.Args.RowID).Scan(&url, &body); err != nil {
		return fmt.Errorf("load row: %w", err)
	}
	if err := w.poster.Post(ctx, url, job.Args.RowID, body); err != nil {
		return err
	}
	if _, err := w.pool.Exec(ctx, w.finish, job.Args.RowID); err != nil {
		return fmt.Errorf("finish row: %w", err)
	}
	return nil
}

// drainRiverRow drains outbox rows, each by a River job that loads it, posts it and marks it.
func drainRiverRow(ctx context.Context, t *trial, size drainSize) (report.Sample, error) {
	if err := t.DB.MigrateRiver(ctx); err != nil {
		return nil, err
	}
	l, err := t.NewLoad(size.messages, size.endpoints)
	if err != nil {
		return nil, err
	}
	if err := insertRows(ctx, t.DB, l); err != nil {
		return nil, err
	}
	if err := t.DB.Settle(ctx); err != nil {
		return nil, err
	}
	p := stand.NewPoster(riverWorkers)
	defer p.Close()
	pool, err := t.DB.NewPool(ctx, riverConns)
	if err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &rowWorker{
		poster: p, pool: pool,
		load: t.DB.In("SELECT url, body FROM bench.outbox_row WHERE id = $1"),
		finish: t.DB.In(`UPDATE bench.outbox_row
			SET state = 'delivered', attempts = attempts + 1, delivered_at = now() WHERE id = $1`),
	})
	d, err := t.newRiver(ctx, workers, pool)
	if err != nil {
		return nil, err
	}
	return t.drain(ctx, l, d)
}

func insertRows(ctx context.Context, d *stand.Database, l stand.Load) error {
	if err := d.Exec(ctx, rowTable); err != nil {
		return err
	}
	_, err := d.Pool.CopyFrom(ctx, pgx.Identifier{d.Schema, "outbox_row"}, []string{"id", "run_id", "url", "body"},
		pgx.CopyFromSlice(l.Messages, func(n int) ([]any, error) {
			return []any{int64(n), stand.RunID(n), l.URL(n), l.Body(n)}, nil
		}))
	if err != nil {
		return fmt.Errorf("insert rows: %w", err)
	}
	return insertJobs(ctx, d, l.Messages, func(n int) river.JobArgs { return rowArgs{RowID: int64(n)} })
}
