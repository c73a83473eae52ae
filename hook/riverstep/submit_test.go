package riverstep_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestASubmissionIsIdempotentWhileItsRunIsActive(t *testing.T) {
	t.Parallel()
	r := newRig(t, always(riverstep.Succeed(nil), nil), nil)
	first := r.submit(riverstep.RunSpec{ID: runID, Input: []byte("a")})
	again := r.submit(riverstep.RunSpec{ID: runID, Input: []byte("a"), Headers: map[string]string{"other": "header"}})
	if !first.New || again.New || first.Instance != again.Instance || first.RunID != runID {
		t.Errorf("the first submission is %+v, and the second %+v; want one run", first, again)
	}
	if n := one[int](t, r.db.Pool, "SELECT count(*) FROM "+r.db.Schema+".river_job"); n != 1 {
		t.Errorf("%d jobs, want 1", n)
	}
	_, err := r.steps.Submit(t.Context(), riverstep.RunSpec{ID: runID, Input: []byte("b")})
	if !errors.Is(err, riverstep.ErrConflict) || !strings.Contains(err.Error(), runID) {
		t.Errorf("with another input, Submit returns %v, want ErrConflict that names the run", err)
	}
}

func TestConcurrentSubmissionsMakeOneRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, always(riverstep.Succeed(nil), nil), nil)
	var group errgroup.Group
	var made atomic.Int32
	for range 8 {
		group.Go(func() error {
			submitted, err := r.steps.Submit(t.Context(), riverstep.RunSpec{ID: runID})
			if submitted.New {
				made.Add(1)
			}
			return err
		})
	}
	must(t, group.Wait())
	if n := one[int](t, r.db.Pool, "SELECT count(*) FROM "+r.db.Schema+".river_job"); n != 1 || made.Load() != 1 {
		t.Errorf("%d jobs, and %d submissions say that theirs is new; want 1 of both", n, made.Load())
	}
}

func TestAnIDCanBeUsedAgainAndBothOutcomesAreDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo(), nil)
	r.start()
	var instances []string
	for _, input := range []string{"first", "second"} {
		submitted := r.submit(riverstep.RunSpec{ID: runID, Input: []byte(input)})
		instances = append(instances, submitted.Instance)
		if got := r.wait(runID); string(got.Result) != input || got.Instance != submitted.Instance {
			t.Errorf("%s: the run is %+v, want this input as its result, and its own instance", input, got)
		}
	}
	messages := r.messages(runID)
	if len(messages) != 2 || instances[0] == instances[1] {
		t.Fatalf("%d messages of the instances %v, want 2 of two", len(messages), instances)
	}
	if due := one[int](t, r.db.Pool, "SELECT count(*) FROM "+r.db.Schema+".due"); due != 2 {
		t.Errorf("%d messages are due, want 2", due)
	}
}

func TestASubmissionBelongsToItsTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo(), nil)
	r.start()
	tx, err := r.db.Pool.Begin(t.Context())
	must(t, err)
	_, err = r.steps.SubmitTx(t.Context(), tx, riverstep.RunSpec{ID: "rolled-back"})
	must(t, err)
	must(t, tx.Rollback(t.Context()))
	if _, err := r.steps.Status(t.Context(), "rolled-back"); !errors.Is(err, riverstep.ErrNotFound) {
		t.Errorf("after the rollback, Status returns %v, want ErrNotFound", err)
	}
	must(t, pgx.BeginFunc(t.Context(), r.db.Pool, func(tx pgx.Tx) error {
		_, err := r.steps.SubmitTx(t.Context(), tx, riverstep.RunSpec{ID: "committed"})
		return err
	}))
	if got := r.wait("committed"); got.State != riverstep.Succeeded {
		t.Errorf("after the commit the run is %+v, want succeeded", got)
	}
}

func TestSubmitRefusesAnInvalidRunAndSaysWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) { c.InputBytesMax = 10 })
	for name, c := range map[string]struct {
		spec riverstep.RunSpec
		want string
	}{
		"a long id":         {riverstep.RunSpec{ID: strings.Repeat("x", 129)}, "ID is"},
		"an odd id":         {riverstep.RunSpec{ID: "a b"}, "want 1 to 128"},
		"a line's end":      {riverstep.RunSpec{ID: "a\n"}, "want 1 to 128"},
		"a large input":     {riverstep.RunSpec{Input: make([]byte, 11)}, "Input has 11 bytes, the limit is 10"},
		"a priority":        {riverstep.RunSpec{Priority: 5}, "Priority is 5"},
		"too many attempts": {riverstep.RunSpec{Attempts: 1001}, "Attempts is 1001"},
		"a reserved header": {riverstep.RunSpec{Headers: map[string]string{"workflow.x": ""}}, `keys beginning with "workflow." are reserved`},
		"another case":      {riverstep.RunSpec{Headers: map[string]string{"Workflow.X": ""}}, "are reserved"},
		"NUL in a header":   {riverstep.RunSpec{Headers: map[string]string{"x": "\x00"}}, "NUL"},
		"large headers":     {riverstep.RunSpec{Headers: map[string]string{"x": strings.Repeat("x", 64<<10)}}, "the limit is 65536"},
		"the hook's check":  {riverstep.RunSpec{Headers: map[string]string{"callback_url": "relative"}}, `header "callback_url"`},
	} {
		_, err := r.steps.Submit(t.Context(), c.spec)
		if !errors.Is(err, riverstep.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Submit returns %v, want ErrInvalid that says %q", name, err, c.want)
		}
	}
	if n := one[int](t, r.db.Pool, "SELECT count(*) FROM "+r.db.Schema+".riverstep_run"); n != 0 {
		t.Errorf("%d runs were made, want none", n)
	}
}

func TestARunWithoutAnIDGetsOneAndTheJobHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo(), nil)
	submitted := r.submit(riverstep.RunSpec{
		Input: []byte("secret"), Headers: map[string]string{"token": "secret"}, Priority: 2, RunAt: time.Now().Add(time.Hour),
	})
	if submitted.RunID == "" || !submitted.New {
		t.Errorf("the submission is %+v, want a new run with an id", submitted)
	}
	text := one[string](t, r.db.Pool, "SELECT j::text FROM "+r.db.Schema+".river_job j")
	if strings.Contains(text, "secret") || !strings.Contains(text, submitted.RunID) {
		t.Errorf("the job is %s, want the run's id and no secrets", text)
	}
	if state := one[string](t, r.db.Pool, "SELECT state || ' ' || priority FROM "+r.db.Schema+".river_job"); state != "scheduled 2" {
		t.Errorf("the job is %s, want scheduled 2", state)
	}
}

func TestCancelSaysWhenThereIsNothingToCancel(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo(), nil)
	if err := r.steps.Cancel(t.Context(), runID); !errors.Is(err, riverstep.ErrNotFound) {
		t.Errorf("for an unknown run, Cancel returns %v, want ErrNotFound", err)
	}
	r.submit(riverstep.RunSpec{ID: runID})
	tx, err := r.db.Pool.Begin(t.Context())
	must(t, err)
	must(t, r.steps.CancelTx(t.Context(), tx, runID))
	must(t, tx.Rollback(t.Context()))
	if got, err := r.steps.Status(t.Context(), runID); err != nil || got.State != riverstep.Active || len(r.messages(runID)) != 0 {
		t.Errorf("after a cancel that was rolled back the run is %+v, %v; want active, without a message", got, err)
	}
	must(t, r.steps.Cancel(t.Context(), runID))
	if err := r.steps.Cancel(t.Context(), runID); !errors.Is(err, riverstep.ErrEnded) {
		t.Errorf("for an ended run, Cancel returns %v, want ErrEnded", err)
	}
	unbound, err := riverstep.New(r.db.Pool, nil, riverstep.Config{Schema: r.db.Schema})
	must(t, err)
	if err := unbound.Cancel(t.Context(), runID); err == nil || !strings.Contains(err.Error(), "Bind") {
		t.Errorf("without a client, Cancel returns %v, want an error that names Bind", err)
	}
}

func TestAllFaultsOfAConfigurationAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := riverstep.New(new(pgxpool.Pool), nil, riverstep.Config{
		Schema: "No", Attempts: -1, Timeout: -1, SettleTimeout: -1, InputBytesMax: -1, HeadersBytesMax: 1 << 20, SweepInterval: 1, Retention: 1,
	})
	for _, field := range []string{"No", "Attempts", "Timeout", "SettleTimeout", "InputBytesMax", "HeadersBytesMax", "SweepInterval", "Retention"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("the error does not name %s: %v", field, err)
		}
	}
	steps, err := riverstep.New(new(pgxpool.Pool), nil, riverstep.Config{Schema: outbox.DefaultSchema})
	must(t, err)
	if err := steps.Register(&river.Config{}); err == nil || !strings.Contains(err.Error(), "Runner") {
		t.Errorf("without a runner, Register returns %v, want an error that names Runner", err)
	}
}

func TestTheErrorOfANilArgumentSaysSo(t *testing.T) {
	t.Parallel()
	for _, db := range []outbox.DB{nil, (*pgxpool.Pool)(nil)} {
		if _, err := riverstep.New(db, nil, riverstep.Config{}); err == nil || !strings.Contains(err.Error(), "did pgxpool.New fail?") {
			t.Errorf("for a nil %T, New returns %v, want an error that asks whether pgxpool.New failed", db, err)
		}
	}
	steps, err := riverstep.New(new(pgxpool.Pool), always(riverstep.Succeed(nil), nil), riverstep.Config{})
	must(t, err)
	if err := steps.Register(nil); err == nil || !strings.Contains(err.Error(), "configuration is nil") {
		t.Errorf("for a nil configuration, Register returns %v, want an error that says so", err)
	}
}

func TestTheErrorOfAMissingTableSaysWhatToMigrate(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for want, c := range map[string]struct{ outbox, river string }{
		"run 'outbox-worker migrate up'": {db.Schema + "_not", db.Schema},
		"(package rivermigrate)":         {db.Schema, db.Schema + "_not"},
	} {
		steps, err := riverstep.New(db.Pool, always(riverstep.Succeed(nil), nil), riverstep.Config{Schema: c.outbox, Logger: slog.New(slog.DiscardHandler)})
		must(t, err)
		client, err := river.NewClient(riverpgxv5.New(db.Pool), &river.Config{Schema: c.river, Logger: slog.New(slog.DiscardHandler)})
		must(t, err)
		steps.Bind(client)
		if _, err := steps.Submit(t.Context(), riverstep.RunSpec{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Submit returns %v, want %s in it", err, want)
		}
	}
}

func TestRegisterWarnsOfAClientWithoutTheQueueOfSteps(t *testing.T) {
	t.Parallel()
	for queue, warned := range map[string]bool{river.QueueDefault: false, "other": true, "": false} {
		var log bytes.Buffer
		steps, err := riverstep.New(new(pgxpool.Pool), always(riverstep.Succeed(nil), nil), riverstep.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		must(t, err)
		config := &river.Config{}
		if queue != "" {
			config.Queues = map[string]river.QueueConfig{queue: {MaxWorkers: 1}}
		}
		must(t, steps.Register(config))
		if strings.Contains(log.String(), "no step will run on this client") != warned {
			t.Errorf("with the queue %q the log is %s, want a warning only for another queue", queue, &log)
		}
	}
}
