package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// rig is an outbox of a test's own, with a writer and an operator's store.
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

// exec runs a statement; outbox. stands for the schema.
func (r *rig) exec(sql string, args ...any) {
	r.t.Helper()
	if _, err := r.Pool.Exec(r.t.Context(), sqlschema.In(sql, r.Schema), args...); err != nil {
		r.t.Fatal(err)
	}
}

// count runs a query for one number; outbox. stands for the schema.
func (r *rig) count(sql string, args ...any) int {
	r.t.Helper()
	return one[int](r, sql, args...)
}

// one runs a query for one value; outbox. stands for the schema.
func one[T any](r *rig, sql string, args ...any) (value T) {
	r.t.Helper()
	if err := r.Pool.QueryRow(r.t.Context(), sqlschema.In(sql, r.Schema), args...).Scan(&value); err != nil {
		r.t.Fatal(err)
	}
	return value
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

// endpoint reads the row of an endpoint; it is zero when there is none.
func (r *rig) endpoint(endpoint string) operator.EndpointStatus {
	r.t.Helper()
	list, err := r.store.Endpoints(r.t.Context(), 0)
	if err != nil {
		r.t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(e operator.EndpointStatus) bool { return e.Endpoint == endpoint })
	if at < 0 {
		return operator.EndpointStatus{}
	}
	return list[at]
}

// After openAfter failures in a row, the tests' workers open a circuit breaker. openFor and openForMax are longer than any test.
const (
	openAfter  = 10
	openFor    = time.Hour
	openForMax = 3 * time.Hour
	lease      = time.Minute
)

// claimer claims for a worker that exists only by its name.
func (r *rig) claimer(worker string) *Claimer { return r.claimerOn(r.Pool, worker) }

func (r *rig) claimerOn(pool *pgxpool.Pool, worker string) *Claimer {
	return NewClaimer(Direct(pool), ClaimerConfig{Schema: r.Schema, Worker: worker, Lease: lease, OpenAfter: openAfter})
}

// recorder records for a worker that exists only by its name.
func (r *rig) recorder(worker string) *Recorder { return r.recorderOn(r.Pool, worker) }

func (r *rig) recorderOn(pool *pgxpool.Pool, worker string) *Recorder {
	return NewRecorder(Direct(pool), RecorderConfig{
		Schema: r.Schema, Worker: worker, OpenAfter: openAfter, OpenFor: openFor, OpenForMax: openForMax,
	})
}

// turns has a turn for each candidate, of most messages each.
func (r *rig) turns(most int) (turns []Turn) {
	r.t.Helper()
	scan, err := NewScanner(Direct(r.Pool), r.Schema, nil).Full(r.t.Context(), "")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, c := range scan.Candidates {
		turns = append(turns, Turn{Endpoint: c.Endpoint, From: c.Since, Most: most})
	}
	return turns
}

// claimOrder makes one claim.
func (r *rig) claimOrder(worker string, o Order) []Message {
	r.t.Helper()
	claimed, err := r.claimer(worker).Claim(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return claimed.Messages
}

// claim takes all that is due.
func (r *rig) claim(worker string) []Message {
	r.t.Helper()
	return r.claimOrder(worker, Order{Most: 1000, Turns: r.turns(1000)})
}

// claimOne takes the only message that is due.
func (r *rig) claimOne(worker string) Message {
	r.t.Helper()
	messages := r.claim(worker)
	if len(messages) != 1 {
		r.t.Fatalf("%d messages claimed, want 1", len(messages))
	}
	return messages[0]
}

// record writes results as one batch of one worker.
func (r *rig) record(worker string, batch ...Result) []EndpointChange {
	r.t.Helper()
	changes, err := r.recorder(worker).Record(r.t.Context(), batch)
	if err != nil {
		r.t.Fatal(err)
	}
	return changes
}

func (r *rig) expireLeases() {
	r.t.Helper()
	r.exec(`UPDATE outbox.due SET locked_until = now() - interval '1 s' WHERE locked_by IS NOT NULL`)
}

var tables = []string{"message", "due", "attempt", "dead", "endpoint"}

// rows returns every row of every table, with the transaction that wrote it last. Two results are equal if nothing was written
// in between.
func (r *rig) rows() string {
	r.t.Helper()
	var all strings.Builder
	for _, table := range tables {
		all.WriteString(table + ":\n" + one[string](r,
			`SELECT coalesce(string_agg(x, E'\n' ORDER BY x), '') FROM (SELECT t.xmin::text || ' ' || t::text AS x FROM outbox.`+table+` t) y`) + "\n")
	}
	return all.String()
}

// results returns every result that a request for a message can have, by name.
func results(m Message) map[string]Result {
	all := map[string]Result{
		"delivered": {Action: ActionDelivered, Class: "delivered", StatusCode: 200, Says: []Saying{{}}},
		"retried":   {Action: ActionRetry, Class: "status", StatusCode: 429, Delay: time.Hour, Says: []Saying{{Hold: time.Hour}}},
		"failed":    {Action: ActionRetry, Class: "status", StatusCode: 500, Delay: time.Hour, Says: []Saying{{Failures: 1}}},
		"reset":     {Action: ActionRetry, Class: "reset", Err: "connection reset", Delay: time.Hour, Says: []Saying{{Failures: 1}}},
		"refused":   {Action: ActionDead, Class: "status", StatusCode: 404, Err: "answered 404", Reason: "refused", Says: []Saying{{}}},
		"blocked":   {Action: ActionDead, Class: "blocked", Err: "not a public address", Reason: "refused"},
		"gone":      {Action: ActionDead, Class: "status", StatusCode: 410, Reason: "gone", Says: []Saying{{Failures: openAfter, HalfOpen: true}}},
		"released":  {Action: ActionRelease},
		"waiting":   {Action: ActionWait, Delay: time.Hour, WaitsFor: `the signing key "tenant-a"`},
	}
	for name, x := range all {
		x.ID, x.Endpoint, x.Attempt, x.StartedAt = m.ID, m.Endpoint, m.Attempt, time.Now()
		for i := range x.Says {
			x.Says[i].Lane = m.Endpoint
		}
		all[name] = x
	}
	return all
}

// perEndpoint counts messages by their endpoints, as text.
func perEndpoint(messages []Message) string {
	n := map[string]int{}
	for _, m := range messages {
		n[m.Endpoint]++
	}
	return fmt.Sprint(n)
}

// endpoints returns the names of candidates in alphabetical order.
func endpoints(candidates []Candidate) string {
	var names []string
	for _, c := range candidates {
		names = append(names, c.Endpoint)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
