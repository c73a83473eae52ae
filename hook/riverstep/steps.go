package riverstep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Steps accepts runs and runs their steps. It is safe for concurrent use.
type Steps struct {
	db      outbox.DB
	runner  Runner
	config  Config
	rows    rows
	client  atomic.Pointer[river.Client[pgx.Tx]]
	clocks  clocks
	metrics metrics

	unprunable unprunable
}

// New returns a runtime, or every fault of its configuration at once. It touches no database. A process that only
// submits, cancels and reads the status of runs needs no runner.
//
// db is the pool of the River client: runs and jobs must be in one database, because they change in one transaction. It must
// have BeginTx, as a pgx pool does. A test may pass a pgx.Tx, as rivertest.Worker needs it.
func New(db outbox.DB, runner Runner, config Config) (*Steps, error) {
	c := config.withDefaults()
	if err := errors.Join(c.validate(), beginnable(db)); err != nil {
		return nil, fmt.Errorf("riverstep: %w", err)
	}
	made := instruments.New(c.MeterProvider, "github.com/seed-abbacb8b/epilogue/hook/riverstep", c.Schema)
	s := &Steps{db: db, runner: runner, config: c, rows: rows{c.Schema}, metrics: newMetrics(made)}
	if err := made.Err(); err != nil { // the provider refuses a name or a unit of ours
		c.Logger.Warn("some metrics cannot be measured", "error", err)
	}
	return s, nil
}

// Register adds to a River configuration what steps need: the workers of their two kinds of job, and the periodic sweep.
// Everything else in it stays as it is. It adds no queue: the configuration must have Config.Queue.
func (s *Steps) Register(config *river.Config) error {
	if s.runner == nil {
		return errors.New("riverstep: no Runner; a process that runs steps needs one")
	}
	if config == nil {
		return errors.New("riverstep: the River configuration is nil")
	}
	if _, works := config.Queues[s.config.Queue]; !works && len(config.Queues) > 0 {
		s.config.Logger.Warn("no step will run on this client, unless the queue is added to it: its configuration has other queues only", "queue", s.config.Queue)
	}
	if config.Workers == nil {
		config.Workers = river.NewWorkers()
	}
	err := errors.Join(
		river.AddWorkerSafely(config.Workers, s.StepWorker()),
		river.AddWorkerSafely(config.Workers, &sweeper{steps: s}),
	)
	if err != nil {
		return fmt.Errorf("riverstep: %w", err)
	}
	config.PeriodicJobs = append(config.PeriodicJobs, river.NewPeriodicJob(
		river.PeriodicInterval(s.config.SweepInterval),
		func() (river.JobArgs, *river.InsertOpts) {
			return sweepArgs{}, &river.InsertOpts{Queue: s.config.Queue, MaxAttempts: 1}
		},
		&river.PeriodicJobOpts{ID: SweepKind, RunOnStart: true},
	))
	return nil
}

// StepWorker returns the River worker that [Steps.Register] adds, for rivertest.NewWorker.
func (s *Steps) StepWorker() river.Worker[StepArgs] { return &worker{steps: s} }

// Bind gives the runtime the client through which it inserts and cancels jobs. It may be an insert-only one.
func (s *Steps) Bind(client *river.Client[pgx.Tx]) { s.client.Store(client) }

func (s *Steps) bound() (*river.Client[pgx.Tx], error) {
	if client := s.client.Load(); client != nil {
		return client, nil
	}
	return nil, errNotBound
}

// working returns the client that runs the job of this context.
func (s *Steps) working(ctx context.Context) *river.Client[pgx.Tx] {
	return river.ClientFromContext[pgx.Tx](ctx)
}

func (s *Steps) log(r run) *slog.Logger {
	return s.config.Logger.With("run_id", r.RunID, "instance", r.Instance.String(), "step", r.Step)
}

// tell calls the hook for a run's end, in the transaction that ended it.
func (s *Steps) tell(ctx context.Context, tx pgx.Tx, ended run, e ending) error {
	headers, _ := ended.headers() // headers that cannot be decoded were the reason for this end
	outcome := outbox.RunOutcome{
		RunID: ended.RunID, Status: e.status, Headers: withInstance(headers, ended.Instance), FinalStep: ended.Step,
	}
	if e.status == outbox.Succeeded {
		outcome.Result = e.result
	} else {
		outcome.Error = e.reason
	}
	if err := s.config.Hook.OnTermination(ctx, lent{tx}, outcome); err != nil {
		return fmt.Errorf("terminal hook: %w", err)
	}
	return nil
}

// lent is a transaction that only riverstep may end.
type lent struct{ pgx.Tx }

var errLent = errors.New("the step's transaction is committed and rolled back by riverstep alone")

func (lent) Commit(context.Context) error   { return errLent }
func (lent) Rollback(context.Context) error { return errLent }
