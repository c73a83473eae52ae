package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
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
	poster       poster
	pool         *pgxpool.Pool
	load, finish string // statements
}

func (w *rowWorker) Work(ctx context.Context, job *river.Job[rowArgs]) error {
	var url string
	var body []byte
	if err := w.pool.QueryRow(ctx, w.load, job.Args.RowID).Scan(&url, &body); err != nil {
		return fmt.Errorf("load row: %w", err)
	}
	if err := w.poster.post(ctx, url, job.Args.RowID, body); err != nil {
		return err
	}
	if _, err := w.pool.Exec(ctx, w.finish, job.Args.RowID); err != nil {
		return fmt.Errorf("finish row: %w", err)
	}
	return nil
}

// drainRiverRow drains outbox rows, each by a River job that loads it, posts it and marks it.
func drainRiverRow(ctx context.Context, t *trial, size drainSize) (sample, error) {
	if err := t.db.migrateRiver(ctx); err != nil {
		return nil, err
	}
	l, err := t.newLoad(size.messages, size.endpoints)
	if err != nil {
		return nil, err
	}
	if err := insertRows(ctx, t.db, l); err != nil {
		return nil, err
	}
	if err := t.db.settle(ctx); err != nil {
		return nil, err
	}
	p := newPoster(riverWorkers)
	defer p.close()
	pool, err := t.db.newPool(ctx, riverConns)
	if err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &rowWorker{
		poster: p, pool: pool,
		load: t.db.in("SELECT url, body FROM bench.outbox_row WHERE id = $1"),
		finish: t.db.in(`UPDATE bench.outbox_row
			SET state = 'delivered', attempts = attempts + 1, delivered_at = now() WHERE id = $1`),
	})
	d, err := t.newRiver(ctx, workers, pool)
	if err != nil {
		return nil, err
	}
	return t.drain(ctx, l, d)
}

func insertRows(ctx context.Context, d *database, l load) error {
	if err := d.exec(ctx, rowTable); err != nil {
		return err
	}
	_, err := d.pool.CopyFrom(ctx, pgx.Identifier{d.schema, "outbox_row"}, []string{"id", "run_id", "url", "body"},
		pgx.CopyFromSlice(l.messages, func(n int) ([]any, error) {
			return []any{int64(n), runID(n), l.url(n), l.body(n)}, nil
		}))
	if err != nil {
		return fmt.Errorf("insert rows: %w", err)
	}
	return insertJobs(ctx, d, l.messages, func(n int) river.JobArgs { return rowArgs{RowID: int64(n)} })
}
