package riverstep_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestMain(m *testing.M) { testdb.Main(m, testdb.Child{Name: "worker", Run: runKilledWorker}) }

// patience is how long a test waits for something that must happen before it fails. No test checks that something is fast.
const patience = time.Minute

const receiver = "https://receiver.example/hook"

// rig is a service: a runtime, its River client and its outbox, in a schema of their own.
type rig struct {
	t      *testing.T
	db     *testdb.DB
	steps  *riverstep.Steps
	client *river.Client[pgx.Tx]
	calls  *calls
}

// soon is a retry policy that retries after some milliseconds.
type soon struct{}

func (soon) NextRetry(*rivertype.JobRow) time.Time { return time.Now().Add(5 * time.Millisecond) }

// riverConfig is a service's River configuration, with short intervals and no log.
func riverConfig(schema string) *river.Config {
	return &river.Config{
		Schema: schema, Logger: slog.New(slog.DiscardHandler), Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 8}},
		FetchCooldown: time.Millisecond, FetchPollInterval: 20 * time.Millisecond, RetryPolicy: soon{}, TestOnly: true,
		JobTimeout: patience,
	}
}

func newHook(schema string) (*hook.WebhookTerminalHook, error) {
	return hook.NewWebhook(hook.WebhookConfig{Schema: schema, DefaultURL: receiver, DedupeKey: riverstep.DedupeKey})
}

// newRig makes a service; start starts it.
func newRig(t *testing.T, runner riverstep.Runner, change func(*riverstep.Config, *river.Config)) *rig {
	t.Helper()
	return newRigOn(t, testdb.New(t), runner, change)
}

func newRigOn(t *testing.T, db *testdb.DB, runner riverstep.Runner, change func(*riverstep.Config, *river.Config)) *rig {
	t.Helper()
	r := &rig{t: t, db: db, calls: &calls{}}
	webhook, err := newHook(db.Schema)
	must(t, err)
	c := riverstep.Config{Schema: db.Schema, Hook: webhook, CheckHeaders: webhook.CheckHeaders, Logger: slog.New(slog.DiscardHandler)}
	rc := riverConfig(db.Schema)
	if change != nil {
		change(&c, rc)
	}
	r.steps, err = riverstep.New(db.Pool, r.calls.count(runner), c)
	must(t, err)
	must(t, r.steps.Register(rc))
	r.client, err = river.NewClient(riverpgxv5.New(db.Pool), rc)
	must(t, err)
	r.steps.Bind(r.client)
	return r
}

// start runs the client until the test ends.
func (r *rig) start() {
	r.t.Helper()
	must(r.t, r.client.Start(context.Background()))
	r.t.Cleanup(func() { r.stop() })
}

func (r *rig) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(r.t, r.client.StopAndCancel(ctx))
}

func (r *rig) submit(spec riverstep.RunSpec) riverstep.Submitted {
	r.t.Helper()
	submitted, err := r.steps.Submit(r.t.Context(), spec)
	must(r.t, err)
	return submitted
}

func (r *rig) wait(runID string) riverstep.RunStatus {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	status, err := r.steps.Wait(ctx, runID)
	must(r.t, err)
	return status
}

// job returns the last job of a run, once it has ended.
func (r *rig) job(runID string) *rivertype.JobRow {
	r.t.Helper()
	id := one[int64](r.t, r.db.Pool, "SELECT job_id FROM "+r.db.Schema+".riverstep_run WHERE run_id = $1 ORDER BY submitted_at DESC LIMIT 1", runID)
	for deadline := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) { // no event tells when River has written the end
		row, err := r.client.JobGet(r.t.Context(), id)
		must(r.t, err)
		if row.FinalizedAt != nil || time.Now().After(deadline) {
			return row
		}
	}
}

// until polls until the condition holds. No event tells the test when.
func (r *rig) until(holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Errorf("waited %v, and the condition in this line does not hold", patience)
			return
		}
	}
}

// stepState is the state of the only step's job.
func (r *rig) stepState() string {
	r.t.Helper()
	return one[string](r.t, r.db.Pool, r.in("SELECT state FROM outbox.river_job WHERE kind = 'workflow_step'"))
}

func (r *rig) messages(runID string) []operator.MessageDetail {
	r.t.Helper()
	s, err := operator.NewStore(r.db.Pool, r.db.Schema)
	must(r.t, err)
	list, err := s.List(r.t.Context(), operator.Filter{RunID: runID})
	must(r.t, err)
	var all []operator.MessageDetail
	for _, m := range list {
		d, err := s.Show(r.t.Context(), m.ID)
		must(r.t, err)
		all = append(all, d)
	}
	return all
}

// in writes the schema into SQL that names the default one.
func (r *rig) in(sql string) string { return strings.ReplaceAll(sql, "outbox.", r.db.Schema+".") }

func (r *rig) execute(sql string, args ...any) {
	r.t.Helper()
	_, err := r.db.Pool.Exec(r.t.Context(), sql, args...)
	must(r.t, err)
}

// calls counts the calls of a runner.
type calls struct {
	mu    sync.Mutex
	steps []riverstep.Step
}

func (c *calls) count(runner riverstep.Runner) riverstep.Runner {
	return riverstep.RunnerFunc(func(ctx context.Context, step riverstep.Step) (riverstep.Verdict, error) {
		c.mu.Lock()
		c.steps = append(c.steps, step)
		c.mu.Unlock()
		return runner.RunStep(ctx, step)
	})
}

func (c *calls) all() []riverstep.Step {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]riverstep.Step(nil), c.steps...)
}

// callsOf counts the calls for one run.
func (r *rig) callsOf(runID string) (n int) {
	for _, s := range r.calls.all() {
		if s.RunID == runID {
			n++
		}
	}
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func one[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (value T) {
	t.Helper()
	must(t, pool.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

func always(v riverstep.Verdict, err error) riverstep.Runner {
	return riverstep.RunnerFunc(func(context.Context, riverstep.Step) (riverstep.Verdict, error) { return v, err })
}
