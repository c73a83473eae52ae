package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// River as tuned for throughput: its defaults of a cooldown of 100 ms and a poll of 1 s would hold it far below.
const (
	riverWorkers  = 200
	riverConns    = 32
	riverCooldown = 2 * time.Millisecond
)

// webhookArgs are a River job that is the webhook itself.
type webhookArgs struct {
	URL  string `json:"url"`
	Body string `json:"body"`
}

func (webhookArgs) Kind() string { return "webhook" }

type webhookWorker struct {
	river.WorkerDefaults[webhookArgs]
	poster stand.Poster
}

func (w *webhookWorker) Work(ctx context.Context, job *river.Job[webhookArgs]) error {
	return w.poster.Post(ctx, job.Args.URL, job.ID, []byte(job.Args.Body))
}

// drainRiver drains a backlog of River jobs, one per webhook, that carry all that the request needs.
func drainRiver(ctx context.Context, t *trial, size drainSize) (report.Sample, error) {
	if err := t.DB.MigrateRiver(ctx); err != nil {
		return nil, err
	}
	l, err := t.NewLoad(size.messages, size.endpoints)
	if err != nil {
		return nil, err
	}
	if err := insertJobs(ctx, t.DB, l.Messages, func(n int) river.JobArgs { return webhook(l, n) }); err != nil {
		return nil, err
	}
	if err := t.DB.Settle(ctx); err != nil {
		return nil, err
	}
	workers, done := webhookWorkers()
	defer done()
	d, err := t.newRiver(ctx, workers, nil)
	if err != nil {
		return nil, err
	}
	return t.drain(ctx, l, d)
}

// webhookWorkers are the River workers that post webhook jobs; done closes their connections.
func webhookWorkers() (workers *river.Workers, done func()) {
	p := stand.NewPoster(riverWorkers)
	workers = river.NewWorkers()
	river.AddWorker(workers, &webhookWorker{poster: p})
	return workers, p.Close
}

// webhook is the job of the n-th message.
func webhook(l stand.Load, n int) river.JobArgs {
	return webhookArgs{URL: l.URL(n), Body: string(l.Body(n))}
}

// newRiver makes a River client with a pool of its own (pool, when the workers already have one).
func (t *trial) newRiver(ctx context.Context, workers *river.Workers, pool *pgxpool.Pool) (stand.Drainer, error) {
	if pool == nil {
		var err error
		if pool, err = t.DB.NewPool(ctx, riverConns); err != nil {
			return stand.Drainer{}, err
		}
	}
	client, err := newRiverClient(pool, t.DB.Schema, workers)
	if err != nil {
		return stand.Drainer{}, err
	}
	return stand.Drainer{
		Run: func(ctx context.Context) error {
			// River ends at once when the context it started with ends; so this stops it gracefully.
			if err := client.Start(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			<-ctx.Done()
			return client.Stop(context.WithoutCancel(ctx))
		},
		Done: func(ctx context.Context) (bool, error) {
			return stand.One[bool](ctx, t.DB, `SELECT NOT EXISTS (SELECT FROM bench.river_job
				WHERE state IN ('available', 'pending', 'retryable', 'running', 'scheduled', 'cancelled', 'discarded'))`)
		},
	}, nil
}

// newRiverClient makes a client that works, or one that only inserts when workers is nil.
func newRiverClient(pool *pgxpool.Pool, schema string, workers *river.Workers) (*river.Client[pgx.Tx], error) {
	config := &river.Config{Schema: schema, Logger: stand.Quiet()}
	if workers != nil {
		config.Workers = workers
		config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverWorkers}}
		config.FetchCooldown = riverCooldown
	}
	return river.NewClient(riverpgxv5.New(pool), config)
}

// insertJobs inserts a backlog by COPY, River's fastest way.
func insertJobs(ctx context.Context, d *stand.Database, n int, args func(int) river.JobArgs) error {
	const perBatch = 2000
	client, err := newRiverClient(d.Pool, d.Schema, nil)
	if err != nil {
		return err
	}
	for from := 0; from < n; from += perBatch {
		var jobs []river.InsertManyParams
		for i := from; i < min(from+perBatch, n); i++ {
			jobs = append(jobs, river.InsertManyParams{Args: args(i)})
		}
		if _, err := client.InsertManyFast(ctx, jobs); err != nil {
			return err
		}
	}
	return nil
}
