package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// writeScenario: what an outcome costs the transaction that acknowledges a step.
func writeScenario() scenario {
	return scenario{
		name:  "write",
		about: "transactions that acknowledge a step, by 1 writer and by 16; alone, and with a way to report the outcome",
		contenders: []contender{
			{name: "bare", about: "begin, update of the step, commit: one pipeline", run: writersOf(ackBare)},
			{name: "hook", about: "the same and the webhook hook, in the same pipeline", run: writersOf(ackHook)},
			{name: "hook-tx", about: "the same one call at a time, as River's insert has to be", run: writersOf(ackHookTx)},
			{name: "river", about: "begin, update, River's InsertTx, commit, one call at a time", run: writersOf(ackRiver)},
			{name: "notify", about: "bare, and a NOTIFY in the same pipeline", run: writersOf(ackNotify)},
		},
		metrics: []report.Metric{
			{Name: "rate_16", Title: "tx/s, 16 writers"},
			{Name: "rate_1", Title: "tx/s, 1 writer"},
			{Name: "wal", Title: "WAL bytes/tx, 16 writers"},
			{Name: report.OthersMetric, Title: "others %", Digits: 1, Detail: true},
		},
		budgets: []report.Budget{
			{Metric: "rate_16", Of: "hook", Against: "bare", AtLeast: 0.75},
			{Metric: "rate_16", Of: "hook", Against: "river", AtLeast: 1.5},
			{Metric: "rate_16", Of: "hook-tx", Against: "river"},
			{Metric: "rate_16", Of: "notify", Against: "bare"},
			{Metric: "rate_1", Of: "hook", Against: "bare"},
			{Metric: "rate_1", Of: "hook", Against: "river"},
		},
	}
}

// acknowledger commits one transaction that acknowledges the n-th step. It is the last step of its run, whose outcome is the n-th
// message of the load.
type acknowledger func(ctx context.Context, c *pgxpool.Conn, n int) error

// The step is a row as in examples/demo: ready until it is acknowledged, once, with its output.
const (
	stepTable = `CREATE TABLE bench.step (
    run_id          text   NOT NULL,
    number          bigint NOT NULL,
    name            text   NOT NULL,
    state           text   NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'done', 'failed', 'cancelled')),
    output          jsonb,
    acknowledged_at timestamptz,
    PRIMARY KEY (run_id, number)
)`
	stepRows = `INSERT INTO bench.step (run_id, number, name)
SELECT 'run-' || n, 3, 'verdict' FROM generate_series(0, $1::bigint - 1) AS n`
	stepAck = `UPDATE bench.step SET state = 'done', output = $2, acknowledged_at = now()
WHERE run_id = $1 AND number = 3 AND state = 'ready'`
	stepOutput = `{"lines": 412, "functions": 17, "verdict": "parses"}`
)

// level is a number of writers, and how many steps they acknowledge together.
type level struct {
	writers, steps int
	rate           string // metric
}

func writeLevels(s size) []level {
	return []level{
		{writers: 16, steps: pick(s, 500, 3_000, 40_000), rate: "rate_16"},
		{writers: 1, steps: pick(s, 100, 400, 5_000), rate: "rate_1"},
	}
}

// writersOf measures an acknowledger, one level after the other.
func writersOf(newAck func(context.Context, *trial) (acknowledger, error)) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) { return measureWriters(ctx, t, newAck) }
}

func measureWriters(
	ctx context.Context, t *trial, newAck func(context.Context, *trial) (acknowledger, error),
) (report.Sample, error) {
	levels := writeLevels(t.size)
	steps := 0
	for _, level := range levels {
		steps += level.steps + level.writers
	}
	if err := t.DB.Exec(ctx, stepTable); err != nil {
		return nil, err
	}
	if err := t.DB.Exec(ctx, stepRows, steps); err != nil {
		return nil, err
	}
	ack, err := newAck(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := t.DB.Settle(ctx); err != nil {
		return nil, err
	}
	found := report.Sample{}
	from := 0
	for _, level := range levels {
		if err := t.measureLevel(ctx, level, from, ack, found); err != nil {
			return nil, err
		}
		from += level.steps + level.writers
	}
	return found, t.checkAcknowledged(ctx, steps)
}

func (t *trial) measureLevel(ctx context.Context, l level, from int, ack acknowledger, found report.Sample) error {
	pool, err := t.DB.NewPool(ctx, l.writers)
	if err != nil {
		return err
	}
	conns := make([]*pgxpool.Conn, l.writers)
	for i := range conns {
		if conns[i], err = pool.Acquire(ctx); err != nil {
			return err
		}
		defer conns[i].Release()
		if err := ack(ctx, conns[i], from+i); err != nil { // prepares the connection's statements
			return err
		}
	}
	before, err := t.DB.WALPosition(ctx)
	if err != nil {
		return err
	}
	var took time.Duration
	used, err := t.Timed(func() error {
		begun := time.Now()
		err := acknowledgeAll(ctx, conns, from+l.writers, l.steps, ack)
		took = time.Since(begun)
		return err
	})
	if err != nil {
		return err
	}
	after, err := t.DB.WALPosition(ctx)
	found[l.rate] = float64(l.steps) / took.Seconds()
	if l.writers > 1 {
		found["wal"] = float64(after-before) / float64(l.steps)
		noteOthers(found, used)
	}
	return err
}

func acknowledgeAll(ctx context.Context, conns []*pgxpool.Conn, from, steps int, ack acknowledger) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range conns {
		group.Go(func() error {
			for n := int(next.Add(1)) - 1; n < steps; n = int(next.Add(1)) - 1 {
				if err := ack(ctx, c, from+n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// checkAcknowledged makes sure that a rate counts transactions that did their work.
func (t *trial) checkAcknowledged(ctx context.Context, steps int) error {
	n, err := stand.One[int](ctx, t.DB, "SELECT count(*) FROM bench.step WHERE state = 'done'")
	if err == nil && n != steps {
		err = fmt.Errorf("%d steps are acknowledged; want %d", n, steps)
	}
	return err
}
