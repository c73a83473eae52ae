package worker

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
	"github.com/seed-abbacb8b/epilogue/worker/internal/database"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// sampleQueue is a queue of its own: a long run of retention must not make samples late.
const sampleQueue = "outbox_sample"

// sampleArgs are the River job that measures the outbox. The worker that works it measures for all workers.
type sampleArgs struct{}

// Kind is the job's kind in river_job.
func (sampleArgs) Kind() string { return "outbox_sample" }

// Hooks are as for drains.
func (sampleArgs) Hooks() []rivertype.Hook { return drainArgs{}.Hooks() }

func periodicSample(every time.Duration) *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(every), func() (river.JobArgs, *river.InsertOpts) {
		return sampleArgs{}, &river.InsertOpts{Queue: sampleQueue, MaxAttempts: 1}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}

// sampleWorker works the sample jobs.
type sampleWorker struct {
	river.WorkerDefaults[sampleArgs]
	sampler *postgres.Sampler
	logger  *slog.Logger
	away    func() bool
}

// Work measures once. It logs a failure itself and does not return it to River: the next job comes soon.
func (w *sampleWorker) Work(ctx context.Context, _ *river.Job[sampleArgs]) error {
	if err := w.sampler.Sample(database.For(ctx, database.CauseSample)); err != nil && ctx.Err() == nil && !w.away() {
		w.logger.WarnContext(ctx, "the outbox could not be sampled; its metrics and status show no current state", "error", err)
	}
	return nil
}

func samplerConfig(c Config, worker string) postgres.SamplerConfig {
	return postgres.SamplerConfig{
		Schema: c.Schema, Worker: worker, Interval: c.SampleInterval, Delivered: c.Retention, Dead: c.DeadRetention,
		WorkerSeenMax: operator.WorkerSeenMax,
	}
}

// samples keeps the newest sample, whoever made it, for the metrics.
type samples struct {
	store  *operator.Store
	newest atomic.Pointer[readSample]
}

// readSample is a sample as it was read.
type readSample struct {
	operator.Sample
	age time.Duration // when it was read, by the database's clock
	at  time.Time     // when it was read, by this process's clock
}

// sampleReadTimeout bounds the reading of a sample.
const sampleReadTimeout = 5 * time.Second

// read reads the newest sample, three times an interval, until ctx ends. After a failure the old sample stays, and its age grows.
func (s *samples) read(ctx context.Context, interval time.Duration) {
	ctx = database.For(ctx, database.CauseSample)
	ticker := time.NewTicker(interval / 3)
	defer ticker.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, sampleReadTimeout)
		newest, now, err := s.store.Sample(within)
		cancel()
		if err == nil && newest != nil {
			s.newest.Store(&readSample{*newest, now.Sub(newest.At), time.Now()})
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// The values of labels. Any other reason or wait is counted as other.
var (
	deadReasons = []string{"invalid", "refused", "exhausted", "gone", "poison", "expired", "cancelled", "other"}
	waitKinds   = []string{"signing_key", "proxy", "database", "other"}
)

// outboxGauges are the figures of the newest sample. All processes export the same; take the maximum, not the sum.
type outboxGauges struct {
	age, took, estimated                         instruments.Gauge
	messages, dead, waits                        map[string]instruments.Gauge
	oldestDue, open, paused, deadRows, workers   instruments.Gauge
	horizonAge, horizonXIDs, retentionOverdueAge instruments.Gauge
}

func newOutboxGauges(m *instruments.Maker) outboxGauges {
	return outboxGauges{
		age:                 m.Gauge("outbox.sample.age", "s", "How long ago the outbox was last measured. After three intervals, the other figures of the sample are left out."),
		took:                m.Gauge("outbox.sample.duration", "s", "How long the last sample took."),
		estimated:           m.Gauge("outbox.sample.estimated", "", "1 when a count of the last sample is an estimate, beyond 100 000 messages due or dead."),
		messages:            m.Gauge("outbox.messages", "{message}", "Messages still to be delivered, by state.").By("state", "pending", "delivering", "retrying"),
		dead:                m.Gauge("outbox.dead_messages", "{message}", "Messages given up, by reason, until replayed or pruned.").By("reason", deadReasons...),
		waits:               m.Gauge("outbox.waiting_messages", "{message}", "Messages that wait for something that the workers lack, by what it is.").By("for", waitKinds...),
		oldestDue:           m.Gauge("outbox.oldest_due.age", "s", "How long the oldest message is due that is not in flight and not held back; 0 when there is none."),
		open:                m.Gauge("outbox.breakers_open", "", "Circuit breakers that are open: of endpoints, of tenants at endpoints, of URLs."),
		paused:              m.Gauge("outbox.paused", "", "Endpoints, and tenants at endpoints, that are paused."),
		deadRows:            m.Gauge("outbox.due_dead_rows", "", "Row versions of the table due that vacuum has not removed yet."),
		workers:             m.Gauge("outbox.workers", "", "Workers that were seen a moment ago."),
		horizonAge:          m.Gauge("outbox.mvcc_horizon.age", "s", "How long the oldest transaction or snapshot keeps vacuum from removing rows; 0 when none does."),
		horizonXIDs:         m.Gauge("outbox.mvcc_horizon.transactions", "{transaction}", "The same in transactions, replication slots included."),
		retentionOverdueAge: m.Gauge("outbox.retention.overdue", "s", "How long ago retention should have removed the oldest row that is still there; 0 when there is none."),
	}
}

// watch exports the newest sample.
func (s *samples) watch(m *instruments.Maker) {
	g := newOutboxGauges(m)
	all := []instruments.Gauge{g.age, g.took, g.estimated, g.oldestDue, g.open, g.paused, g.deadRows, g.workers, g.horizonAge, g.horizonXIDs, g.retentionOverdueAge}
	for _, by := range []map[string]instruments.Gauge{g.messages, g.dead, g.waits} {
		for _, gauge := range by {
			all = append(all, gauge)
		}
	}
	m.Watch(func(seen instruments.Seen) {
		if x := s.newest.Load(); x != nil {
			g.export(seen, x)
		}
	}, all...)
}

func (g *outboxGauges) export(seen instruments.Seen, x *readSample) {
	age := x.age + time.Since(x.at)
	seen(g.age, max(age, 0).Seconds())
	if now := x.At.Add(age); x.Stale(now) {
		return
	}
	seen(g.took, (time.Duration(x.TookMS) * time.Millisecond).Seconds())
	estimated := 0.0
	if slices.Contains(x.Estimated, "due") || slices.Contains(x.Estimated, "dead") {
		estimated = 1
	}
	seen(g.estimated, estimated)
	for gauge, n := range map[*instruments.Gauge]*int64{
		at(g.messages, "pending"): x.Pending, at(g.messages, "delivering"): x.Delivering, at(g.messages, "retrying"): x.Retrying,
		&g.open: x.BreakersOpen, &g.paused: x.Paused, &g.deadRows: x.DueDeadRows, &g.workers: x.Workers, &g.horizonXIDs: x.HorizonXIDs,
	} {
		if n != nil {
			seen(*gauge, float64(*n))
		}
	}
	for _, by := range []struct {
		gauges map[string]instruments.Gauge
		counts map[string]int64
		group  string
	}{{g.dead, x.Dead, "dead"}, {g.waits, x.Waits, "due"}} {
		if !slices.Contains(x.Missing, by.group) {
			exportCounts(seen, by.gauges, by.counts)
		}
	}
	for _, since := range []struct {
		gauge instruments.Gauge
		at    *time.Time
		group string
	}{{g.oldestDue, x.OldestDue, "oldest_due"}, {g.horizonAge, x.HorizonSince, "horizon"}, {g.retentionOverdueAge, x.RetentionFrom, "retention"}} {
		switch {
		case slices.Contains(x.Missing, since.group):
		case since.at == nil:
			seen(since.gauge, 0)
		default:
			seen(since.gauge, max(x.At.Sub(*since.at), 0).Seconds())
		}
	}
}

func at(gauges map[string]instruments.Gauge, name string) *instruments.Gauge {
	g := gauges[name]
	return &g
}

// exportCounts gives each gauge its count, or 0, and adds up what has no gauge of its own.
func exportCounts(seen instruments.Seen, gauges map[string]instruments.Gauge, counts map[string]int64) {
	other := int64(0)
	for name, n := range counts {
		if _, known := gauges[name]; !known || name == "other" {
			other += n
		}
	}
	for name, gauge := range gauges {
		if name == "other" {
			seen(gauge, float64(other))
		} else {
			seen(gauge, float64(counts[name]))
		}
	}
}
