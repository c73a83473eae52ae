package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/internal/rivertime"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// River's queues, in the outbox's own schema.
const (
	drainQueue       = "outbox_drain"
	maintenanceQueue = "outbox_maintenance"
)

// River's settings, where its defaults do not fit. A job whose worker died is rescued after riverRescue rather than an
// hour: nothing waits for it, but it must not mislead an operator who looks at river_job. An old drain's row is of no use
// after an hour. River polls for jobs that another process inserted.
const (
	riverFetchCooldown = 2 * time.Millisecond // default 100 ms: the latency of a new drain
	riverFetchPoll     = 5 * time.Second      // default 1 s
	riverRescue        = 10 * time.Minute     // default 1 h; more than drainTurn and the retention's timeout
	riverJobsKept      = time.Hour            // default 24 h
	drainEvery         = time.Minute          // the periodic drain, in case every scan loop fails
)

// drainTurn is how long one drain claims before it hands over, so that its River job is seen to end.
const drainTurn = time.Minute

// drainArgs are the River job of a drain: it carries no message.
type drainArgs struct{}

// Kind is the job's kind in river_job.
func (drainArgs) Kind() string { return "outbox_drain" }

// Hooks are River's, for jobs of this kind: the database says when they may run.
func (drainArgs) Hooks() []rivertype.Hook {
	return []rivertype.Hook{rivertime.Database{Periodic: true}}
}

// drainOptions: a drain is never retried, because the next one is inserted instead.
func drainOptions() *river.InsertOpts { return &river.InsertOpts{Queue: drainQueue, MaxAttempts: 1} }

// waitingDrains lists one drain that waits for a worker, if there is one.
func waitingDrains() *river.JobListParams {
	return river.NewJobListParams().Queues(drainQueue).States(rivertype.JobStateAvailable, rivertype.JobStateScheduled).First(1)
}

// insertTimeout bounds the insert of a drain.
const insertTimeout = 10 * time.Second

// drainWorker works the drain jobs: each is one run of the claim loop.
type drainWorker struct {
	river.WorkerDefaults[drainArgs]
	loops *loops
}

// Timeout is none: a drain bounds its own time.
func (w *drainWorker) Timeout(*river.Job[drainArgs]) time.Duration { return -1 }

// Work drains.
func (w *drainWorker) Work(ctx context.Context, _ *river.Job[drainArgs]) error {
	w.loops.drain(ctx)
	return nil
}

// retentionArgs are the River job that prunes what is old.
type retentionArgs struct{}

// Kind is the job's kind in river_job.
func (retentionArgs) Kind() string { return "outbox_retention" }

// Hooks are as for drains.
func (retentionArgs) Hooks() []rivertype.Hook { return drainArgs{}.Hooks() }

// Retention runs every retentionEvery and stops after retentionTurn: the next run continues.
const (
	retentionEvery = time.Minute
	retentionTurn  = 30 * time.Second
)

// retentionWorker works the retention jobs.
type retentionWorker struct {
	river.WorkerDefaults[retentionArgs]
	pruner *postgres.Pruner
	logger *slog.Logger
}

// Work prunes until nothing is old or its turn is over.
func (w *retentionWorker) Work(ctx context.Context, _ *river.Job[retentionArgs]) error {
	end := time.Now().Add(retentionTurn)
	var total postgres.Pruned
	for more := true; more && ctx.Err() == nil && time.Now().Before(end); {
		var batch postgres.Pruned
		var err error
		if batch, more, err = w.pruner.Prune(ctx); err != nil {
			return err
		}
		total.Delivered += batch.Delivered
		total.Dead += batch.Dead
	}
	if total.Delivered+total.Dead > 0 {
		w.logger.InfoContext(ctx, "retention", "delivered_pruned", total.Delivered, "dead_pruned", total.Dead)
	}
	return errors.Join(w.pruner.PruneEndpoints(ctx), w.pruner.PruneOrphans(ctx))
}

// jobs are what the River jobs work with.
type jobs struct {
	loops   *loops
	pruner  *postgres.Pruner
	sampler *postgres.Sampler
}

func newRiverClient(pool *pgxpool.Pool, c Config, jobs jobs, away func() bool) (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &drainWorker{loops: jobs.loops})
	river.AddWorker(workers, &retentionWorker{pruner: jobs.pruner, logger: c.Logger})
	river.AddWorker(workers, &sampleWorker{sampler: jobs.sampler, logger: c.Logger, away: away})
	return river.NewClient(localDriver{riverpgxv5.New(pool)}, &river.Config{
		Schema:                      c.Schema,
		Logger:                      slog.New(riverLog{c.Logger.Handler(), away}).With("component", "river"),
		Workers:                     workers,
		Queues:                      map[string]river.QueueConfig{drainQueue: {MaxWorkers: 1}, maintenanceQueue: {MaxWorkers: 1}, sampleQueue: {MaxWorkers: 1}},
		FetchCooldown:               riverFetchCooldown,
		FetchPollInterval:           riverFetchPoll,
		RescueStuckJobsAfter:        riverRescue,
		CompletedJobRetentionPeriod: riverJobsKept,
		CancelledJobRetentionPeriod: riverJobsKept,
		DiscardedJobRetentionPeriod: riverJobsKept,
		PeriodicJobs: []*river.PeriodicJob{
			river.NewPeriodicJob(river.PeriodicInterval(drainEvery),
				func() (river.JobArgs, *river.InsertOpts) { return drainArgs{}, drainOptions() }, nil),
			river.NewPeriodicJob(river.PeriodicInterval(retentionEvery),
				func() (river.JobArgs, *river.InsertOpts) {
					return retentionArgs{}, &river.InsertOpts{Queue: maintenanceQueue, MaxAttempts: 1}
				}, &river.PeriodicJobOpts{RunOnStart: true}),
			periodicSample(c.SampleInterval),
		},
	})
}

// localDriver is River's driver without its listener: a client then starts the jobs that it inserted itself at once, and
// finds those of others by polling. Each worker inserts its own drains, so nothing waits for a notification, which a
// pooler in transaction mode would lose, and no connection is held for it.
type localDriver struct{ *riverpgxv5.Driver }

// SupportsListener tells River that there is no listener.
func (localDriver) SupportsListener() bool { return false }

// riverLog passes on River's log lines from slog.LevelWarn upwards: lower ones are about River's own work. While the database
// cannot be used, which the worker has logged already, it passes on nothing: each of River's services would repeat it.
type riverLog struct {
	slog.Handler
	away func() bool
}

func (h riverLog) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && !h.away() && h.Handler.Enabled(ctx, level)
}

func (h riverLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return riverLog{h.Handler.WithAttrs(attrs), h.away}
}

func (h riverLog) WithGroup(name string) slog.Handler {
	return riverLog{h.Handler.WithGroup(name), h.away}
}
