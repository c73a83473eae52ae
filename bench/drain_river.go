package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
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
	poster poster
}

func (w *webhookWorker) Work(ctx context.Context, job *river.Job[webhookArgs]) error {
	return w.poster.post(ctx, job.Args.URL, job.ID, []byte(job.Args.Body))
}

// drainRiver drains a backlog of River jobs, one per webhook, that carry all that the request needs.
func drainRiver(ctx context.Context, t *trial, size drainSize) (sample, error) {
	if err := t.db.migrateRiver(ctx); err != nil {
		return nil, err
	}
	l, err := t.newLoad(size.messages, size.endpoints)
	if err != nil {
		return nil, err
	}
	if err := insertJobs(ctx, t.db, l.messages, l.webhook); err != nil {
		return nil, err
	}
	if err := t.db.settle(ctx); err != nil {
		return nil, err
	}
	p := newPoster(riverWorkers)
	defer p.close()
	workers := river.NewWorkers()
	river.AddWorker(workers, &webhookWorker{poster: p})
	d, err := t.newRiver(ctx, workers, nil)
	if err != nil {
		return nil, err
	}
	return t.drain(ctx, l, d)
}

func (l load) webhook(n int) river.JobArgs {
	return webhookArgs{URL: l.url(n), Body: string(l.body(n))}
}

// newRiver makes a River client with a pool of its own (pool, when the workers already have one).
func (t *trial) newRiver(ctx context.Context, workers *river.Workers, pool *pgxpool.Pool) (drainer, error) {
	if pool == nil {
		var err error
		if pool, err = t.db.newPool(ctx, riverConns); err != nil {
			return drainer{}, err
		}
	}
	client, err := newRiverClient(pool, t.db.schema, workers)
	if err != nil {
		return drainer{}, err
	}
	return drainer{
		run: func(ctx context.Context) error {
			// River ends at once when the context it started with ends; a graceful stop is asked for.
			if err := client.Start(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			<-ctx.Done()
			return client.Stop(context.WithoutCancel(ctx))
		},
		done: func(ctx context.Context) (bool, error) {
			return one[bool](ctx, t.db, `SELECT NOT EXISTS (SELECT FROM bench.river_job
				WHERE state IN ('available', 'pending', 'retryable', 'running', 'scheduled', 'cancelled', 'discarded'))`)
		},
	}, nil
}

// newRiverClient makes a client that works, or one that only inserts when workers is nil.
func newRiverClient(pool *pgxpool.Pool, schema string, workers *river.Workers) (*river.Client[pgx.Tx], error) {
	config := &river.Config{Schema: schema, Logger: quiet()}
	if workers != nil {
		config.Workers = workers
		config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverWorkers}}
		config.FetchCooldown = riverCooldown
	}
	return river.NewClient(riverpgxv5.New(pool), config)
}

// insertJobs inserts a backlog by COPY, River's fastest way.
func insertJobs(ctx context.Context, d *database, n int, args func(int) river.JobArgs) error {
	const perBatch = 2000
	client, err := newRiverClient(d.pool, d.schema, nil)
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
