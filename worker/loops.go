package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/worker/internal/database"
	"github.com/seed-abbacb8b/epilogue/worker/internal/outage"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// loops carry out what the scheduler decides. The scan loop runs as long as the worker. The claim loop runs in a River
// job, one at a time. The requests that it started belong to the process and may outlive the job, so one that hangs never delays
// the next claim.
type loops struct {
	scheduler *schedule.Scheduler
	claimer   *postgres.Claimer
	scanner   *postgres.Scanner
	senders   *senders
	client    *river.Client[pgx.Tx]
	stopping  context.Context // its end: no new claims

	clocks *database.Clocks
	pool   *database.Pool

	claims, scans, inserts *outage.Part
	aside                  asideLog
	teller                 *teller
}

// drain claims until nothing was due for a while, its turn is over, or the worker stops.
func (l *loops) drain(ctx context.Context) {
	l.scheduler.DrainBegan(time.Now())
	defer l.scheduler.DrainEnded()
	for ctx.Err() == nil && l.stopping.Err() == nil {
		l.senders.release(rowsOf(l.scheduler.Overdue(time.Now())))
		switch step := l.scheduler.NextClaim(time.Now()); step.Do {
		case schedule.Claim:
			l.claim(ctx, step.Order)
		case schedule.EndDrain:
			return
		default:
			l.wait(ctx, step.Until, l.scheduler.ClaimLoop)
		}
	}
}

// claim takes messages and starts their delivery.
func (l *loops) claim(ctx context.Context, order schedule.Order) {
	began := time.Now()
	claimed, err := l.claimer.Claim(database.For(ctx, database.CauseClaim), claimOrder(order))
	now := time.Now()
	l.aside.log(ctx, claimed.Aside, now)
	l.teller.aside(claimed.Aside)
	if err != nil {
		l.scheduler.ClaimFailed(now, l.claims.Failed(ctx, err))
		return
	}
	l.claims.Worked()
	start, back := l.scheduler.Claimed(now, claimedMessages(claimed.Messages, began), candidates(claimed.Left))
	for _, m := range start {
		l.senders.start(rowOf(m))
	}
	l.senders.release(rowsOf(back))
}

// scan scans for candidates, and inserts a drain when some are found and none runs, until ctx ends.
func (l *loops) scan(ctx context.Context) {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	for ctx.Err() == nil {
		switch step := l.scheduler.NextScan(time.Now()); step.Do {
		case schedule.Scan: // in the background: a slow full scan does not hold up a recent one
			underWay.Go(func() { l.scanOnce(ctx, step.Scan) })
		case schedule.InsertDrain:
			l.insertDrain(ctx)
		default:
			l.wait(ctx, step.Until, l.scheduler.ScanLoop)
		}
	}
}

func (l *loops) scanOnce(ctx context.Context, order schedule.ScanOrder) {
	var scan postgres.Scan
	var err error
	asked := time.Now()
	ctx = database.For(ctx, database.CauseScan)
	if order.Kind == schedule.Full {
		scan, err = l.scanner.Full(ctx, order.After)
	} else {
		scan, err = l.scanner.Recent(ctx, asked.Sub(order.Since))
	}
	if err != nil {
		l.scheduler.ScanFailed(order, time.Now(), l.scans.Failed(ctx, err))
		return
	}
	l.scans.Worked()
	answered := time.Now()
	l.pool.EndLost(ctx)
	l.clocks.Compare(ctx, asked, scan.Clock, answered)
	l.scheduler.Scanned(order, candidates(scan.Candidates), scan.Took, answered)
}

// insertDrain inserts a drain, unless one is already waiting: while no client works drains, as with a paused queue, each
// process adds at most one.
func (l *loops) insertDrain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	waiting, err := l.client.JobList(ctx, waitingDrains())
	if err == nil && len(waiting.Jobs) == 0 {
		_, err = l.client.Insert(ctx, drainArgs{}, drainOptions())
	}
	if err != nil {
		l.scheduler.InsertFailed(time.Now(), l.inserts.Failed(ctx, fmt.Errorf("insert a drain job: %w", err)))
		return
	}
	l.inserts.Worked()
}

// wait returns at a time, on a token, or when the worker stops.
func (l *loops) wait(ctx context.Context, until time.Time, token <-chan struct{}) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-token:
	case <-timer.C:
	case <-l.stopping.Done():
	case <-ctx.Done():
	}
}
