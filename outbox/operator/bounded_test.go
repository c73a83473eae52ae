package operator_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// backlog makes 150 000 messages due: 1 000 and 1 001 at two endpoints, one at a third, and the others at a fourth, half of
// those of the tenant big.
func backlog(t *testing.T) *testdb.DB {
	t.Helper()
	db := testdb.New(t)
	fixture.Execute(t, db, `INSERT INTO %s.due (message_id, endpoint, attempt)
SELECT gen_random_uuid(), CASE WHEN mod(i, 150) = 0 THEN 'https://thousand.example' WHEN mod(i, 150) = 1 THEN 'https://more.example'
    WHEN mod(i, 2) = 0 THEN 'https://big.example' ELSE 'https://big.example big' END, mod(i / 2, 2) FROM generate_series(1, 150001) i`, db.Schema)
	rare := fixture.Message("rare")
	rare.URL, rare.Tenant = "https://rare.example/hook", "rare"
	id := fixture.Write(t, db, rare)
	fixture.Execute(t, db, `UPDATE %s.due SET due_at = now() - interval '3 h' WHERE message_id = '%s'`, db.Schema, id)
	return db
}

// about leaves a sample of 500 pages so much room that it is never missed by chance: nine times its standard deviation.
func about(n, want int64) bool { return n > want*6/10 && n < want*14/10 }

// One backlog for all three: it takes a while to write.
func TestBeyondAHundredThousand(t *testing.T) {
	t.Parallel()
	db := backlog(t)
	t.Run("endpoints are estimated, and the rare ones counted", func(t *testing.T) { endpointsAreEstimated(t, db) })
	t.Run("tenants are estimated", func(t *testing.T) { tenantsAreEstimated(t, db) })
	t.Run("no view reads a table from end to end", func(t *testing.T) { noViewReadsAll(t, db) })
}

func endpointsAreEstimated(t *testing.T, db *testdb.DB) {
	page, err := fixture.Store(t, db).EndpointPage(t.Context(), 0)
	must(t, err)
	got := map[string]operator.EndpointStatus{}
	for _, e := range page.Endpoints {
		got[e.Lane] = e
	}
	for _, lane := range []string{"https://big.example", "https://big.example big"} {
		if e := got[lane]; !e.Estimated || !about(e.Waiting, 75_000) || !about(e.Retrying, 37_500) || e.OldestDue == nil {
			t.Errorf("%s: %+v", lane, e)
		}
	}
	rare := got["https://rare.example rare"]
	if rare.Estimated || rare.Waiting != 1 || rare.Retrying != 0 || rare.OldestDue == nil || time.Since(*rare.OldestDue) < time.Hour {
		t.Errorf("the rare one: %+v", rare)
	}
	if e := got["https://thousand.example"]; e.Estimated || e.Waiting != 1000 || e.Retrying != 500 {
		t.Errorf("the one with a thousand: %+v", e)
	}
	if e := got["https://more.example"]; !e.Estimated || !about(e.Waiting, 1000) {
		t.Errorf("the one with more than a thousand: %+v", e)
	}
}

func tenantsAreEstimated(t *testing.T, db *testdb.DB) {
	list, _, err := fixture.Store(t, db).Tenants(t.Context(), 0)
	must(t, err)
	if len(list) != 3 || list[0].Tenant != "rare" {
		t.Fatalf("the one that waits for longest is first: %+v", list)
	}
	for _, x := range list[1:] {
		if !x.Estimated || x.DeadEstimated || !about(x.Waiting, 75_000) || !about(x.Retrying, 37_500) {
			t.Errorf("%+v", x)
		}
	}
	states, err := ofTenant(t, db, "big").Overview(t.Context())
	must(t, err)
	for _, s := range states[:3] {
		if want := map[outbox.State]int64{outbox.StatePending: 37_500, outbox.StateRetrying: 37_500}[s.State]; !s.Estimated || want > 0 && !about(s.Messages, want) {
			t.Errorf("%+v", s)
		}
	}
}

// What an operator looks at first must not take longer the more there is.
func noViewReadsAll(t *testing.T, db *testdb.DB) {
	fixture.Execute(t, db, `WITH m AS (INSERT INTO %[1]s.message (id, run_id, status, final_step, url, endpoint)
    SELECT gen_random_uuid(), 'run', 'succeeded', 0, 'https://big.example', 'https://big.example' FROM generate_series(1, 30000) RETURNING id)
INSERT INTO %[1]s.dead (message_id, endpoint, reason, error, at) SELECT id, 'https://big.example', 'gone', '', now() - random() * interval '30 days' FROM m`, db.Schema)
	fixture.Execute(t, db, `ANALYZE %[1]s.due, %[1]s.dead, %[1]s.message`, db.Schema)
	tx := fixture.Begin(t, db.Pool)
	_, err := tx.Exec(t.Context(), `SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_hashjoin = off`) // as on large tables
	must(t, err)
	for _, view := range []string{"overview", "endpoint_status", "tenant_status", "due_count", "dead_count", "lane_count"} {
		var text []byte
		must(t, tx.QueryRow(t.Context(), fmt.Sprintf(`EXPLAIN (FORMAT JSON) SELECT * FROM %s.%s`, db.Schema, view)).Scan(&text))
		var plans []struct{ Plan plan }
		must(t, json.Unmarshal(text, &plans))
		if unbounded := plans[0].Plan.unbounded(false); len(unbounded) > 0 {
			t.Errorf("%s reads without a bound: %v\n%s", view, unbounded, text)
		}
	}
}

// plan is a node of EXPLAIN's.
type plan struct {
	Node     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Index    string `json:"Index Cond"`
	Bitmap   string `json:"Recheck Cond"`
	Plans    []plan
}

// unbounded are the tables that are read whole: by no condition on an index, by no sample, and under no LIMIT.
func (p plan) unbounded(limited bool) (tables []string) {
	large := slices.Contains([]string{"message", "due", "dead", "attempt"}, p.Relation)
	if large && !limited && p.Node != "Sample Scan" && p.Index == "" && p.Bitmap == "" {
		tables = append(tables, p.Node+" of "+p.Relation)
	}
	switch p.Node {
	case "Limit":
		limited = true
	case "Sort", "Aggregate", "Hash": // these read all that is below before the first row
		limited = false
	}
	for _, below := range p.Plans {
		tables = append(tables, below.unbounded(limited)...)
	}
	return tables
}
