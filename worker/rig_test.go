package worker

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "6") // these tests mostly wait; the flag -parallel overrides this
	testdb.Main(m, testdb.Child{Name: "worker", Run: childWorker}, testdb.Child{Name: "holder", Run: childHolder},
		testdb.Child{Name: "leaser", Run: childLeaser})
}

// testPatience is how long something that must happen may take before a test fails. No test asserts that anything is fast.
const testPatience = time.Minute

// request is what a receiver got.
type request struct {
	id, runID, status, body string
	method, host, path      string
	header                  http.Header
}

// receiver is a real HTTP server that keeps the requests it got. answer writes its answer; nil: 200.
type receiver struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r request)

	mu  sync.Mutex
	got []request
}

func newReceiver(t testing.TB, answer func(http.ResponseWriter, request)) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	got := request{
		id: req.Header.Get("webhook-id"), runID: req.Header.Get("Workflow-Run-Id"),
		status: req.Header.Get("Workflow-Run-Status"), body: string(body),
		method: req.Method, host: req.Host, path: req.URL.Path, header: req.Header,
	}
	r.mu.Lock()
	r.got = append(r.got, got)
	r.mu.Unlock()
	if r.answer != nil {
		r.answer(w, got)
	}
}

func (r *receiver) requests() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]request(nil), r.got...)
}

// rig is an outbox of a test's own, with a writer.
type rig struct {
	*testdb.DB
	t      testing.TB
	writer *outbox.Writer
	store  *operator.Store
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigOn(t, testdb.New(t))
}

func newRigOn(t testing.TB, db *testdb.DB) *rig {
	t.Helper()
	writer, err := outbox.NewWriter(outbox.Config{Schema: db.Schema})
	if err != nil {
		t.Fatal(err)
	}
	store, err := operator.NewStore(db.Pool, db.Schema)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{DB: db, t: t, writer: writer, store: store}
}

// write commits one message and returns its id.
func (r *rig) write(m outbox.Message) outbox.ID {
	r.t.Helper()
	var id outbox.ID
	err := pgx.BeginFunc(r.t.Context(), r.Pool, func(tx pgx.Tx) (err error) {
		id, err = r.writer.Insert(r.t.Context(), tx, m)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// writeTo commits a succeeded run's message to a URL.
func (r *rig) writeTo(url, runID string) outbox.ID {
	r.t.Helper()
	return r.write(outbox.Message{Outcome: testdb.Outcome(runID, url), URL: url})
}

// config is a worker's configuration for tests. It allows loopback and retries soon. Its timeout is long enough for a loaded
// machine, and a lease that a worker leaves behind ends within testPatience.
func (r *rig) config() Config {
	return Config{
		Schema: r.Schema, Name: "test", PollInterval: 20 * time.Millisecond, DeliveryTimeout: 10 * time.Second,
		Lease: 10*time.Second + LeaseMargin, AllowHTTP: true, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		RetrySchedule: []time.Duration{20 * time.Millisecond, 20 * time.Millisecond}, ShutdownTimeout: 5 * time.Second,
		Logger: slog.New(slog.NewTextHandler(logWriter{r.t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
}

// run starts a worker, and stops it when the test ends or stop is called.
func (r *rig) run(c Config) (w *Worker, stop func()) {
	r.t.Helper()
	return r.runOn(r.NewPool(r.t, nil), c)
}

// runOn does the same with a pool of the caller's.
func (r *rig) runOn(pool *pgxpool.Pool, c Config) (w *Worker, stop func()) {
	r.t.Helper()
	w, err := New(pool, c)
	if err != nil {
		r.t.Fatal(err)
	}
	return w, r.begin(w)
}

// begin runs a worker until stop is called or the test ends.
func (r *rig) begin(w *Worker) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				r.t.Errorf("Run returns %v, want nil", err)
			}
		case <-time.After(testPatience):
			r.t.Error("Run does not return")
		}
	})
	r.t.Cleanup(stop)
	return stop
}

// state reads a message and its state.
func (r *rig) state(id outbox.ID) operator.MessageDetail {
	r.t.Helper()
	d, err := r.store.Show(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// awaitState waits until a message has this state.
func (r *rig) awaitState(id outbox.ID, want outbox.State) operator.MessageDetail {
	r.t.Helper()
	var d operator.MessageDetail
	r.await(fmt.Sprintf("message %s is %s", id, want), func() bool {
		d = r.state(id)
		return d.State == want
	})
	return d
}

// await polls until a condition holds, which must happen. No event tells the test when it does.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(testPatience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited %v, and this did not happen: %s", testPatience, what)
		}
	}
}

// count runs a query for one number; outbox. stands for the schema.
func (r *rig) count(sql string, args ...any) (n int) {
	r.t.Helper()
	if err := r.Pool.QueryRow(r.t.Context(), inSchema(sql, r.Schema), args...).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// exec runs a statement; outbox. stands for the schema.
func (r *rig) exec(sql string, args ...any) {
	r.t.Helper()
	if _, err := r.Pool.Exec(r.t.Context(), inSchema(sql, r.Schema), args...); err != nil {
		r.t.Fatal(err)
	}
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p[:len(p)-1])
	return len(p), nil
}

// inSchema writes the test's schema into SQL that names the default one.
func inSchema(sql, schema string) string { return strings.ReplaceAll(sql, "outbox.", schema+".") }

// due makes n messages of an endpoint due, by SQL. The i-th of them has been due for ago + n - i seconds.
func (r *rig) due(endpoint string, n, ago int) {
	r.t.Helper()
	r.exec(`WITH m AS (
    INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint)
    SELECT gen_random_uuid(), $1 || '#' || i, 'succeeded', '{}', 0, $1, $1 FROM generate_series(1, $2::integer) i
    RETURNING id, endpoint, split_part(run_id, '#', 2)::integer AS i
)
INSERT INTO outbox.due (message_id, endpoint, due_at) SELECT id, endpoint, now() - ($3 + $2 - i) * interval '1 s' FROM m`,
		endpoint, n, ago)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// end records an outcome through a webhook hook that forwards every header, and returns the message.
func (r *rig) end(o outbox.RunOutcome) outbox.ID {
	r.t.Helper()
	h, err := hook.NewWebhook(hook.WebhookConfig{Schema: r.Schema, ForwardHeaders: []string{"*"}})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := pgx.BeginFunc(r.t.Context(), r.Pool, func(tx pgx.Tx) error {
		return h.OnTermination(r.t.Context(), tx, o)
	}); err != nil {
		r.t.Fatal(err)
	}
	list, err := r.store.List(r.t.Context(), operator.Filter{RunID: o.RunID})
	if err != nil || len(list) != 1 {
		r.t.Fatalf("%d messages of run %q, %v; want 1", len(list), o.RunID, err)
	}
	return list[0].ID
}

// patient is a configuration for tests that count attempts: its timeout is so long that no healthy receiver is too slow,
// however loaded the machine is.
func (r *rig) patient() Config {
	c := r.config()
	c.DeliveryTimeout, c.Lease = testPatience, testPatience+LeaseMargin
	return c
}

// patientOnce is patient, with a retry after an hour: a test sees the state after the first attempt.
func (r *rig) patientOnce() Config {
	c := r.patient()
	c.RetrySchedule = []time.Duration{time.Hour}
	return c
}
