package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// handArgs are a step's job in a service without a table of runs: everything about the run is in the arguments.
type handArgs struct {
	RunID   string            `json:"run_id"`
	Step    uint32            `json:"step"`
	Payload []byte            `json:"payload"`
	Headers map[string]string `json:"headers"`
}

func (handArgs) Kind() string { return "step_by_hand" }

// handWorker settles steps with River's public calls. It does as much as a tutorial would: it handles only success, and has no
// cancel and no fence against a worker that lost its job.
type handWorker struct {
	river.WorkerDefaults[handArgs]
	pool *pgxpool.Pool
	hook hook.TerminalHook
	row  string // statement that moves the run's row; "" without one
}

func (w *handWorker) Work(ctx context.Context, job *river.Job[handArgs]) error {
	a := job.Args
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if _, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job); err != nil {
			return err
		}
		last := a.Step+1 == stepsPerRun
		if w.row != "" {
			status := "active"
			if last {
				status = "succeeded"
			}
			if _, err := tx.Exec(ctx, w.row, a.RunID, int64(a.Step), status, a.Payload); err != nil {
				return err
			}
		}
		if last {
			return w.hook.OnTermination(ctx, tx, outbox.RunOutcome{
				RunID: a.RunID, Status: outbox.Succeeded, Result: a.Payload, Headers: a.Headers, FinalStep: a.Step,
			})
		}
		a.Step++
		_, err := river.ClientFromContext[pgx.Tx](ctx).InsertTx(ctx, tx, a, nil)
		return err
	})
}

const (
	handTable  = `CREATE TABLE bench.run (id text PRIMARY KEY, step bigint NOT NULL DEFAULT 0, status text NOT NULL DEFAULT 'active', payload bytea)`
	handInsert = `INSERT INTO bench.run (id, payload) VALUES ($1, $2)`
	handUpdate = `UPDATE bench.run SET step = $2, status = $3, payload = $4 WHERE id = $1 AND status = 'active'`
)

func stepsByHand(row bool) func(context.Context, *trial, *pgxpool.Pool) (stepRuntime, error) {
	return func(ctx context.Context, t *trial, pool *pgxpool.Pool) (stepRuntime, error) {
		h, err := hook.NewWebhook(hook.WebhookConfig{Schema: t.DB.Schema})
		if err != nil {
			return stepRuntime{}, err
		}
		w := &handWorker{pool: pool, hook: h}
		if row {
			w.row = t.DB.In(handUpdate)
			if err := t.DB.Exec(ctx, handTable); err != nil {
				return stepRuntime{}, err
			}
		}
		config := stepsConfig(t.DB.Schema)
		river.AddWorker(config.Workers, w)
		client, err := river.NewClient(riverpgxv5.New(pool), config)
		if err != nil {
			return stepRuntime{}, err
		}
		l := writersLoad()
		return stepRuntime{client, func(ctx context.Context, n int) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				if row {
					if _, err := tx.Exec(ctx, t.DB.In(handInsert), stand.RunID(n), l.Body(n)); err != nil {
						return err
					}
				}
				_, err := client.InsertTx(ctx, tx, handArgs{RunID: stand.RunID(n), Payload: l.Body(n), Headers: l.Outcome(n).Headers}, nil)
				return err
			})
		}}, nil
	}
}
