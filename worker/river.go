package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// River's queues, in the outbox's own schema.
const (
	drainQueue       = "outbox_drain"
	maintenanceQueue = "outbox_maintenance"
)

// River's settings, where its defaults do not fit. A job that its worker took to the grave is rescued after riverRescue
// rather than an hour: nothing waits for it, but an operator who looks at river_job should not be misled. A drain's row
// says nothing after an hour. Between jobs River listens; its poll is for a lost notification.
const (
	riverFetchCooldown = 2 * time.Millisecond // default 100 ms: a ring's latency
	riverFetchPoll     = 5 * time.Second      // default 1 s
	riverRescue        = 10 * time.Minute     // default 1 h; more than drainTurn and the retention's timeout
	riverJobsKept      = time.Hour            // default 24 h
	ringEvery          = time.Minute          // the periodic ring, should every doorbell be broken
)

func newRiverClient(pool *pgxpool.Pool, c Config, d *drainer, p *pruner) (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, d)
	river.AddWorker(workers, p)
	return river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema:                      c.Schema,
		Logger:                      slog.New(atLeast{c.Logger.Handler(), slog.LevelWarn}).With("component", "river"),
		Workers:                     workers,
		Queues:                      map[string]river.QueueConfig{drainQueue: {MaxWorkers: 1}, maintenanceQueue: {MaxWorkers: 1}},
		FetchCooldown:               riverFetchCooldown,
		FetchPollInterval:           riverFetchPoll,
		RescueStuckJobsAfter:        riverRescue,
		CompletedJobRetentionPeriod: riverJobsKept,
		CancelledJobRetentionPeriod: riverJobsKept,
		DiscardedJobRetentionPeriod: riverJobsKept,
		PeriodicJobs: []*river.PeriodicJob{
			river.NewPeriodicJob(river.PeriodicInterval(ringEvery),
				func() (river.JobArgs, *river.InsertOpts) { return drainArgs{}, drainOptions() }, nil),
			river.NewPeriodicJob(river.PeriodicInterval(retentionEvery),
				func() (river.JobArgs, *river.InsertOpts) {
					return retentionArgs{}, &river.InsertOpts{Queue: maintenanceQueue, MaxAttempts: 1}
				}, &river.PeriodicJobOpts{RunOnStart: true}),
		},
	})
}

// atLeast passes on records of a level and above: what River says below that is about its own house.
type atLeast struct {
	slog.Handler
	level slog.Level
}

func (h atLeast) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level && h.Handler.Enabled(ctx, level)
}

func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(attrs), h.level}
}

func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.Handler.WithGroup(name), h.level}
}
