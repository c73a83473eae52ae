package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
	"github.com/seed-abbacb8b/epilogue/worker"
)

// recoveryScenario: the only worker ends with requests in flight, and another is started at once.
func recoveryScenario() scenario {
	return scenario{
		name:  "recovery",
		about: "the only worker ends while its requests hang and more wait; from the start of the next one's process",
		contenders: []contender{
			{name: "kill", about: fmt.Sprintf("SIGKILL; a lease of %v, the shortest for a delivery timeout of %v", killLease, killTimeout),
				run: recoverAfter(killed)},
			{name: "graceful", about: fmt.Sprintf("SIGTERM; requests that outlast the shutdown timeout of %v", stopGrace),
				run: recoverAfter(stopped)},
		},
		metrics: []report.Metric{
			{Name: "first", Title: "first redelivery s", Digits: 2},
			{Name: "over_lease", Title: "beyond the lease s", Digits: 2},
			{Name: "last", Title: "last redelivery s", Digits: 2},
			{Name: "resumed", Title: "first delivery s", Digits: 2},
			{Name: "in_flight", Title: "in flight", Detail: true},
			{Name: "lease", Title: "lease s", Digits: 1, Detail: true},
			{Name: "stop", Title: "SIGTERM to end s", Digits: 2, Detail: true},
		},
		budgets: []report.Budget{
			{Metric: "over_lease", Of: "kill", AtMost: 2, Unit: "s"},
			{Metric: "first", Of: "graceful", AtMost: 1, Unit: "s"},
		},
		roundsMax: 3, noWarmUp: true,
	}
}

const (
	recoveryEndpoints = 20
	killTimeout       = time.Second
	killLease         = killTimeout + worker.LeaseMargin
	stopTimeout       = 30 * time.Second // of a request: it outlasts the grace
	stopGrace         = 500 * time.Millisecond
)

// ending is one way for a worker to end.
type ending struct {
	lease, timeout time.Duration
	end            func(w *stand.WorkerProcess) error
	left           string // query for what is wrong with what it left behind; no rows when nothing is
	loses          bool   // what was in flight counts as attempts that were lost
}

func killed() ending {
	return ending{
		lease: killLease, timeout: killTimeout, end: (*stand.WorkerProcess).Kill, loses: true,
		left: "SELECT 'it gave up a lease' FROM bench.due WHERE locked_by IS NULL AND attempt > 0 LIMIT 1",
	}
}

// stopped takes the grace, and the time that River and the last record may take too.
func stopped() ending {
	return ending{
		lease: stopTimeout + worker.LeaseMargin, timeout: stopTimeout,
		end: func(w *stand.WorkerProcess) error { return w.Stop(stopGrace + 10*time.Second) },
		left: `SELECT 'a lease is left' FROM bench.due WHERE locked_by IS NOT NULL
UNION ALL SELECT 'an attempt is counted' FROM bench.due WHERE attempt > 0
UNION ALL SELECT 'an attempt is recorded' FROM bench.attempt LIMIT 1`,
	}
}

// recoverAfter fills a worker with requests that hang, ends it, lets the endpoints answer, and starts the next one.
func recoverAfter(newEnding func() ending) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		how := newEnding()
		if err := t.DB.MigrateOutbox(ctx); err != nil {
			return nil, err
		}
		l, err := t.NewLoad(pick(t.size, 500, 1_000, 5_000), recoveryEndpoints)
		if err != nil {
			return nil, err
		}
		if err := t.Receiver.Behave(stand.Behaviour{To: recoveryEndpoints, Hang: true}); err != nil {
			return nil, err
		}
		if err := stand.WriteBacklog(ctx, t.DB, l, 0, l.Messages); err != nil {
			return nil, err
		}
		settings := []string{
			"LEASE=" + how.lease.String(), "DELIVERY_TIMEOUT=" + how.timeout.String(), "SHUTDOWN_TIMEOUT=" + stopGrace.String(),
		}
		inFlight, took, err := t.endInFlight(ctx, how, settings, l.Messages)
		if err != nil {
			return nil, err
		}
		if err := t.Receiver.Behave(stand.Behaviour{To: recoveryEndpoints}); err != nil {
			return nil, err
		}
		next, err := t.StartWorker(ctx, settings...)
		if err != nil {
			return nil, err
		}
		defer func() { _ = next.End() }()
		if _, err := t.Receiver.Await(next.Running); err != nil {
			return nil, err
		}
		if err := t.untilRecorded(next.Running); err != nil {
			return nil, err
		}
		found, err := t.recovered(next.Begun, inFlight)
		if err != nil {
			return nil, err
		}
		if how.loses {
			found["lease"], found["over_lease"] = how.lease.Seconds(), found["first"]-how.lease.Seconds()
		} else {
			found["stop"] = took.Seconds()
		}
		return found, errors.Join(t.checkDelivered(ctx, l), t.checkLost(ctx, how, len(inFlight)))
	}
}

// endInFlight starts a worker, ends it when its requests hang, and returns the numbers of their messages.
func (t *trial) endInFlight(ctx context.Context, how ending, settings []string, messages int) (inFlight []int, took time.Duration, err error) {
	w, err := t.StartWorker(ctx, settings...)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = w.End() }()
	if err := stand.UntilDone(w.Running, t.allHang); err != nil {
		return nil, 0, err
	}
	rows, err := t.DB.Pool.Query(ctx, t.DB.In("SELECT m.run_id FROM bench.due d JOIN bench.message m ON m.id = d.message_id WHERE d.locked_by IS NOT NULL"))
	if err != nil {
		return nil, 0, err
	}
	runs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, 0, err
	}
	begun := time.Now()
	if err := how.end(w); err != nil {
		return nil, 0, err
	}
	took = time.Since(begun)
	for _, run := range runs {
		n, err := stand.NumberOf(run, messages)
		if err != nil {
			return nil, 0, err
		}
		inFlight = append(inFlight, n)
	}
	if len(inFlight) == 0 {
		return nil, 0, errors.New("nothing was in flight when the worker ended")
	}
	return inFlight, took, t.checkLeft(ctx, how)
}

// allHang reports that every endpoint has requests, and that each message that was claimed is at the receiver.
func (t *trial) allHang(ctx context.Context) (bool, error) {
	claimed, err := stand.One[int](ctx, t.DB, "SELECT count(*) FROM bench.due WHERE locked_by IS NOT NULL")
	if err != nil {
		return false, err
	}
	p, err := t.Receiver.Progress()
	return p.Hanging >= recoveryEndpoints && p.Hanging == claimed, err
}

// checkLeft makes sure that the worker ended as intended.
func (t *trial) checkLeft(ctx context.Context, how ending) error {
	fault, err := stand.One[string](ctx, t.DB, how.left)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("after the worker's end: %s", fault)
}

// recovered returns when what was in flight came again, in seconds since the next worker's process began.
func (t *trial) recovered(begun time.Time, inFlight []int) (report.Sample, error) {
	arrived, err := t.Receiver.Arrivals()
	if err != nil {
		return nil, err
	}
	since := func(at int64) float64 { return time.Unix(0, at).Sub(begun).Seconds() }
	resumed := since(arrived[0])
	for _, at := range arrived {
		resumed = min(resumed, since(at))
	}
	first, last := since(arrived[inFlight[0]]), since(arrived[inFlight[0]])
	for _, n := range inFlight {
		first, last = min(first, since(arrived[n])), max(last, since(arrived[n]))
	}
	return report.Sample{"first": first, "last": last, "resumed": resumed, "in_flight": float64(len(inFlight))}, nil
}

// checkLost makes sure that what a killed worker had in flight is on record as lost, and nothing else is.
func (t *trial) checkLost(ctx context.Context, how ending, inFlight int) error {
	if !how.loses {
		inFlight = 0
	}
	n, err := stand.One[int](ctx, t.DB, "SELECT count(*) FROM bench.attempt WHERE class = 'lost'")
	if err == nil && n != inFlight {
		err = fmt.Errorf("%d attempts are recorded as lost; want %d", n, inFlight)
	}
	return err
}
