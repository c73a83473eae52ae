package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/chance"
	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/compare"
	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// riverEngine is the same service on hook/riverstep: River carries the steps, and their queue, retries, crashes and
// acknowledgements are not the service's business any more. What is left is the work, and the service's own record.
type riverEngine struct {
	store  *store
	steps  *riverstep.Steps
	client *river.Client[pgx.Tx]
	root   string
	seed   uint64

	outboxSchema string
	failing      float64 // share of the ends that are rolled back on purpose

	// record writes down what is rolled back, which must outlive the rollback. It is a pool of its own: the settling transaction
	// holds a connection, and could deadlock if it took a second one from the same pool.
	record *pgxpool.Pool

	mu    sync.Mutex
	tries map[string]int // to end each run
}

func newRiverEngine(s *store, o options, wake func(), log *slog.Logger) (*riverEngine, error) {
	e := &riverEngine{store: s, root: o.root, seed: o.seed, outboxSchema: o.outboxSchema, failing: o.failing, tries: map[string]int{}}
	var err error
	e.steps, err = riverstep.New(s.pool, e, riverstep.Config{
		Schema: o.outboxSchema, Hook: e, CheckHeaders: s.hook.CheckHeaders, Wake: wake, Logger: log,
		BegunFirst: true,
	})
	if err != nil {
		return nil, err
	}
	// River's tables are the service's own, in its own schema: the outbox's River is the worker's.
	config := &river.Config{
		Schema: s.schema, Logger: slog.New(slog.DiscardHandler), FetchCooldown: 2 * time.Millisecond,
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2 * o.workers}},
		RescueStuckJobsAfter: 2 * time.Minute,
	}
	if err := e.steps.Register(config); err != nil {
		return nil, err
	}
	if e.client, err = river.NewClient(riverpgxv5.New(s.pool), config); err != nil {
		return nil, err
	}
	e.steps.Bind(e.client)
	return e, nil
}

func (e *riverEngine) migrate(ctx context.Context) error {
	m, err := rivermigrate.New(riverpgxv5.New(e.store.pool), &rivermigrate.Config{
		Schema: e.store.schema, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// fileRunID makes an id of a path: riverstep's ids hold no slashes.
func fileRunID(path string) string {
	sum := sha256.Sum256([]byte(path))
	return "file-" + hex.EncodeToString(sum[:16])
}

// submit makes a run of each path that is not one yet, many to a transaction, and returns how many runs there are.
func (e *riverEngine) submit(ctx context.Context, paths []string, callback string) (n int, err error) {
	const perTransaction, atOnce = 100, 4
	if err := e.migrate(ctx); err != nil {
		return 0, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for len(paths) > 0 {
		batch := paths[:min(perTransaction, len(paths))]
		paths = paths[len(batch):]
		group.Go(func() error {
			return pgx.BeginFunc(groupCtx, e.store.pool, func(tx pgx.Tx) error {
				return e.submitBatch(groupCtx, tx, batch, callback)
			})
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("submit: %w", err)
	}
	// The planner does not know of so many new rows: without statistics it takes River's statements for expensive
	// ones, and compiles each.
	analyze := strings.ReplaceAll(e.store.in(`ANALYZE demo.run, demo.river_job, outbox.riverstep_run`), "outbox.", e.outboxSchema+".")
	if _, err := e.store.pool.Exec(ctx, analyze); err != nil {
		return 0, err
	}
	err = e.store.pool.QueryRow(ctx, e.store.in(`SELECT count(*) FROM demo.run`)).Scan(&n)
	return n, err
}

func (e *riverEngine) submitBatch(ctx context.Context, tx pgx.Tx, paths []string, callback string) error {
	for _, path := range paths {
		id := fileRunID(path)
		tag, err := tx.Exec(ctx, e.store.in(`INSERT INTO demo.run (id, path, callback_url) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`), id, path, callback)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			continue
		}
		payload, err := json.Marshal(facts{Path: path})
		if err != nil {
			return err
		}
		_, err = e.steps.SubmitTx(ctx, tx, riverstep.RunSpec{
			ID: id, Input: payload, Priority: 2, Headers: map[string]string{hook.DefaultURLHeader: callback},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// RunStep does one step. What it found goes on to the next, or is the result.
func (e *riverEngine) RunStep(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
	all := steps()
	var f facts
	if err := json.Unmarshal(s.Payload, &f); err != nil || int(s.Number) >= len(all) {
		return riverstep.Verdict{}, riverstep.Permanent(fmt.Errorf("step %d: %v", s.Number, err))
	}
	end := all[s.Number].do(newInput(e.root, f.Path), &f)
	switch {
	case end == nil:
		payload, err := json.Marshal(f)
		return riverstep.Continue(payload), err
	case end.status == outbox.Succeeded:
		return riverstep.Succeed(end.result), nil
	case end.status == outbox.Cancelled:
		return riverstep.Cancel(end.reason), nil
	}
	return riverstep.Fail(end.reason), nil
}

// OnTermination adds the service's own record of each end to the transaction that settles it, and a mark by which the
// demo distinguishes this try from others. Some tries are rolled back on purpose, after everything was written.
func (e *riverEngine) OnTermination(ctx context.Context, tx outbox.Tx, o outbox.RunOutcome) error {
	attempt := rand.Text()
	o.Headers = maps.Clone(o.Headers)
	o.Headers[compare.AttemptHeader] = attempt
	fails := chance.Hits(e.seed, e.failing, "end", o.RunID, e.try(o.RunID))
	if fails {
		_, err := e.record.Exec(ctx, e.store.in(`INSERT INTO demo.rolled_back (attempt, run_id) VALUES ($1, $2)`), attempt, o.RunID)
		if err != nil {
			return err
		}
	}
	var result any
	if o.Status == outbox.Succeeded {
		result = o.Result
	}
	tag, err := tx.Exec(ctx, e.store.in(`UPDATE demo.run SET status = $2, result = $3, error = nullif($4, ''), attempt = $5, ended_at = $6
WHERE id = $1 AND status IS NULL`), o.RunID, o.Status, result, o.Error, attempt, time.Now())
	if err == nil {
		err = onlyOne(tag)
	}
	if err == nil {
		err = e.store.hook.OnTermination(ctx, tx, o)
	}
	if err == nil && fails {
		err = errOnPurpose
	}
	return err
}

func (e *riverEngine) try(runID string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tries[runID]++
	return e.tries[runID]
}

// run returns when every run has ended.
func (e *riverEngine) run(ctx context.Context) error {
	const lookEvery, stopMax = 100 * time.Millisecond, 10 * time.Second
	config := e.store.pool.Config()
	config.MaxConns, config.MinConns = 2, 0
	var err error
	if e.record, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	defer e.record.Close()
	if err := e.client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopMax)
		defer cancel()
		_ = e.client.StopAndCancel(ctx) // what it tears down is taken up again
	}()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		var left bool
		err := e.store.pool.QueryRow(ctx, e.store.in(`SELECT EXISTS (SELECT FROM demo.run WHERE status IS NULL)`)).Scan(&left)
		if err == nil && !left {
			return nil
		}
		select { // while the database is away, try again
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
