package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
)

// stepsScenario: what riverstep costs against the same steps written by hand on River.
func stepsScenario() scenario {
	return scenario{
		name:  "steps",
		about: fmt.Sprintf("runs of %d steps on River, the last one ending the run with the webhook hook", stepsPerRun),
		contenders: []contender{
			{name: "riverstep", about: "hook/riverstep", run: measureSteps(stepsOfRiverstep)},
			{name: "by-hand", about: "begin, JobCompleteTx, InsertTx of the next step or the hook, commit", run: measureSteps(stepsByHand(false))},
			{name: "by-hand-row", about: "the same, and a row per run that says where it stands", run: measureSteps(stepsByHand(true))},
		},
		metrics: []report.Metric{
			{Name: "rate", Title: "steps/s"},
			{Name: "wal", Title: "WAL bytes/step"},
			{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
		},
		budgets: []report.Budget{
			{Metric: "rate", Of: "riverstep", Against: "by-hand"},
			{Metric: "rate", Of: "riverstep", Against: "by-hand-row"},
			{Metric: "wal", Of: "riverstep", Against: "by-hand-row"},
		},
		roundsMax: 3,
	}
}

const (
	stepsPerRun = 4
	stepWorkers = 32
	stepConns   = 40
)

// stepRuntime is a contender that is ready to work.
type stepRuntime struct {
	client *river.Client[pgx.Tx]
	submit func(ctx context.Context, n int) error
}

// measureSteps submits the runs, and then measures from the start of the workers to the last run's message.
func measureSteps(newRuntime func(context.Context, *trial, *pgxpool.Pool) (stepRuntime, error)) func(context.Context, *trial) (report.Sample, error) {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		runs := pick(t.size, 100, 300, 5_000)
		pool, err := t.DB.NewPool(ctx, stepConns)
		if err != nil {
			return nil, err
		}
		if err := t.DB.MigrateOutbox(ctx); err != nil {
			return nil, err
		}
		r, err := newRuntime(ctx, t, pool)
		if err != nil {
			return nil, err
		}
		for n := range runs {
			if err := r.submit(ctx, n); err != nil {
				return nil, err
			}
		}
		if err := t.DB.Settle(ctx); err != nil {
			return nil, err
		}
		return t.workSteps(ctx, r.client, runs)
	}
}

func (t *trial) workSteps(ctx context.Context, client *river.Client[pgx.Tx], runs int) (report.Sample, error) {
	before, err := t.DB.WALPosition(ctx)
	if err != nil {
		return nil, err
	}
	begun, took := time.Now(), time.Duration(0)
	used, err := t.Timed(func() error {
		begun = time.Now()
		if err := client.Start(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		err := t.untilMessages(ctx, runs)
		took = time.Since(begun)
		return errors.Join(err, client.Stop(context.WithoutCancel(ctx)))
	})
	if err != nil {
		return nil, err
	}
	after, err := t.DB.WALPosition(ctx)
	steps := float64(runs * stepsPerRun)
	found := report.Sample{"rate": steps / took.Seconds(), "wal": float64(after-before) / steps}
	noteOthers(found, used)
	return found, err
}

func (t *trial) untilMessages(ctx context.Context, want int) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		n, err := stand.One[int](ctx, t.DB, "SELECT count(*) FROM bench.message")
		if err != nil || n == want {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func stepsConfig(schema string) *river.Config {
	return &river.Config{
		Schema: schema, Logger: stand.Quiet(), Workers: river.NewWorkers(), FetchCooldown: riverCooldown,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: stepWorkers}},
	}
}

func stepsOfRiverstep(_ context.Context, t *trial, pool *pgxpool.Pool) (stepRuntime, error) {
	h, err := hook.NewWebhook(hook.WebhookConfig{Schema: t.DB.Schema})
	if err != nil {
		return stepRuntime{}, err
	}
	runner := riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		if s.Number+1 < stepsPerRun {
			return riverstep.Continue(s.Payload), nil
		}
		return riverstep.Succeed(s.Payload), nil
	})
	steps, err := riverstep.New(pool, runner, riverstep.Config{Schema: t.DB.Schema, Hook: h, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return stepRuntime{}, err
	}
	config := stepsConfig(t.DB.Schema)
	if err := steps.Register(config); err != nil {
		return stepRuntime{}, err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), config)
	if err != nil {
		return stepRuntime{}, err
	}
	steps.Bind(client)
	l := writersLoad()
	return stepRuntime{client, func(ctx context.Context, n int) error {
		_, err := steps.Submit(ctx, riverstep.RunSpec{ID: stand.RunID(n), Input: l.Body(n), Headers: l.Outcome(n).Headers})
		return err
	}}, nil
}
