package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// chaosSchema holds the writers' own tables: the acknowledgements, and River's for riverstep.
const chaosSchema = "chaos"

// Settings of riverstep's writer. A step of a killed process is rescued after rescueAfter; River checks every half minute.
const (
	stepTimeout   = 4 * time.Second
	settleTimeout = 6 * time.Second
	rescueAfter   = 15 * time.Second
)

// runSteps submits runs of two steps, and works them and those that a killed process has left. The hook writes the
// acknowledgement in the transaction that settles the last step.
func (w *writer) runSteps(ctx context.Context) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	steps, err := riverstep.New(w.pool, riverstep.RunnerFunc(w.step), riverstep.Config{
		Hook: w, Wake: w.waker.Wake, Timeout: stepTimeout, SettleTimeout: settleTimeout, SweepInterval: 2 * time.Second, Logger: log,
	})
	if err != nil {
		return err
	}
	config := &river.Config{
		Schema: chaosSchema, Logger: log, FetchCooldown: 5 * time.Millisecond,
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}},
		RescueStuckJobsAfter: rescueAfter, RetryPolicy: soon{},
	}
	if err := steps.Register(config); err != nil {
		return err
	}
	client, err := river.NewClient(riverpgxv5.New(w.pool), config)
	if err != nil {
		return err
	}
	steps.Bind(client)
	if err := startRiver(ctx, client); err != nil {
		return err
	}
	w.each(ctx, func(ctx context.Context, c content) { w.submit(ctx, steps, c) })
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = client.StopAndCancel(stopCtx) // the next process works the steps that this one leaves
	return nil
}

// startRiver retries while the database is away.
func startRiver(ctx context.Context, client *river.Client[pgx.Tx]) error {
	for {
		err := client.Start(context.WithoutCancel(ctx))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// soon retries a failed step after a moment.
type soon struct{}

func (soon) NextRetry(*rivertype.JobRow) time.Time { return time.Now().Add(300 * time.Millisecond) }

// input is a run's input: all that the second step needs to end it.
type input struct {
	Outcome  outbox.RunOutcome
	RollBack bool
}

func (w *writer) submit(ctx context.Context, steps *riverstep.Steps, c content) {
	ctx, cancel := context.WithTimeout(ctx, writeMax)
	defer cancel()
	text, err := json.Marshal(input{c.outcome, c.rollBack})
	if err == nil {
		_, err = steps.Submit(ctx, riverstep.RunSpec{ID: c.outcome.RunID, Input: text, Headers: c.outcome.Headers, Attempts: stepAttempts})
	}
	if err != nil {
		w.counts.failed.Add(1) // it may have been submitted all the same; then it is worked
	}
}

// stepAttempts are enough for all faults during a run. A run that fails because it has no attempts left is correct, but its
// outcome differs from the submitted one.
const stepAttempts = 100

// step is the runner: the first step continues, and the second one ends the run.
func (w *writer) step(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
	var in input
	if err := json.Unmarshal(s.Payload, &in); err != nil {
		return riverstep.Verdict{}, riverstep.Permanent(err)
	}
	if s.Number == 0 {
		return riverstep.Continue(s.Payload), nil
	}
	switch o := in.Outcome; {
	case in.RollBack && s.Attempt == 1 && odd(s.RunID):
		return riverstep.Verdict{}, errors.New("the step fails once, on purpose")
	case o.Status == outbox.Succeeded:
		return riverstep.Succeed(o.Result), nil
	case o.Status == outbox.Failed:
		return riverstep.Fail(o.Error), nil
	default:
		return riverstep.Cancel(o.Error), nil
	}
}

func odd(text string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text))
	return h.Sum32()%2 == 1
}

// OnTermination acknowledges the run in the transaction that settles it.
func (w *writer) OnTermination(ctx context.Context, tx outbox.Tx, o outbox.RunOutcome) error {
	if _, err := tx.Exec(ctx, insertAck, ackArgs(w.kind, o)...); err != nil {
		return err
	}
	if err := w.hook.OnTermination(ctx, tx, o); err != nil {
		return err
	}
	w.counts.committed.Add(1) // almost: the commit follows
	return nil
}

// createChaos makes the writers' tables.
func createChaos(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `CREATE SCHEMA chaos;
CREATE TABLE chaos.ack (
    run_id   text  PRIMARY KEY,
    writer   text  NOT NULL,
    status   text  NOT NULL,
    url      text  NOT NULL,
    headers  jsonb NOT NULL,
    body_sha bytea NOT NULL
);`+prepareRows)
	if err != nil {
		return fmt.Errorf("create the writers' tables: %w", err)
	}
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: chaosSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}
