package postgres

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

const (
	deadRows   = 1_000_000
	crowdedURL = "https://e.test"
)

// overDeadRows is an outbox that has delivered a million messages while another session pinned the MVCC horizon: no vacuum can
// remove their dead rows from the table due. A thousand more messages are due now.
func overDeadRows(t *testing.T) *rig {
	t.Helper()
	server := testdb.OwnServer(t)
	r := newRigOn(t, testdb.NewAt(t, server.URL()))
	r.exec(`INSERT INTO outbox.due (message_id, endpoint, due_at)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid, $1, at
FROM generate_series(1, $2::integer) i, LATERAL (SELECT now() - interval '1 h' + i * interval '1 ms' AS at) x`, crowdedURL, deadRows)
	pin, err := r.Pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pin.Rollback(t.Context()) })
	if _, err := pin.Exec(t.Context(), sqlschema.In(`SELECT FROM outbox.due LIMIT 1`, r.Schema)); err != nil {
		t.Fatal(err)
	}
	r.exec(`DELETE FROM outbox.due`)
	r.due(crowdedURL, 1000, 0)
	r.exec(`UPDATE outbox.due SET due_at = now() - interval '1 s'`)
	r.exec(`VACUUM (ANALYZE) outbox.due`)
	return r
}

// pages returns how many pages of tables and indexes a statement reads, as EXPLAIN ANALYZE counts them.
func (r *rig) pages(sql string, args ...any) int {
	r.t.Helper()
	text := one[[]byte](r, "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "+sql, args...)
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil || len(plans) != 1 {
		r.t.Fatalf("the plan cannot be read: %v in %s", err, text)
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read
}

func (r *rig) claimFrom(from time.Time) []any {
	return r.claimer("w").args(Order{Most: 100, Turns: []Turn{{crowdedURL, from, 100}}}, 0)
}

// TestAMillionDeadRowsCostAClaimNothing: it reads as many pages as its messages need, by indexes. The same claim without the due
// time that a scan found reads the dead rows as well, which shows that they are there.
func TestAMillionDeadRowsCostAClaimNothing(t *testing.T) {
	t.Parallel()
	r := overDeadRows(t)
	all, err := NewScanner(Direct(r.Pool), r.Schema, nil).Full(t.Context(), "")
	if err != nil || len(all.Candidates) != 1 || time.Since(all.Candidates[0].Since) > 10*time.Minute { // the dead rows were due an hour ago
		t.Fatalf("a full scan finds %v, %v; want one endpoint, due for less than ten minutes", all, err)
	}
	const most = 100 * 16 // for each of a hundred messages: pages of indexes, of its rows, and of its attempt
	if n := r.pages(claimSQL, r.claimFrom(all.Candidates[0].Since)...); n > most {
		t.Errorf("a claim of 100 messages reads %d pages, want at most %d", n, most)
	}
	if n := r.pages(claimSQL, r.claimFrom(longAgo)...); n < 10*most {
		t.Errorf("a claim from the beginning reads %d pages, want far more: are there dead rows?", n)
	}
	if n := r.pages(timed(recentScanSQL), Direct(r.Pool).recentArgs(2*time.Second)...); n > 3*1000 {
		t.Errorf("a recent scan reads %d pages for a thousand due messages, want 3000 at most", n)
	}
	recorder := r.recorder("w")
	if n := r.pages(recordSQL, recorder.args(inLockOrder(r.delivered(100)))...); n > most {
		t.Errorf("a record of 100 messages reads %d pages, want at most %d", n, most)
	}
	if n := r.pages(recordDeliveriesSQL, recorder.deliveryArgs(inLockOrder(r.delivered(100)))...); n > most {
		t.Errorf("a record of 100 deliveries reads %d pages, want at most %d", n, most)
	}
	for name, wants := range map[string][]string{
		"claim":                {"due_endpoint_due_at", " = t_1.endpoint) AND (due_at >= t_1.due_from) AND (due_at <= now()))", "message_pkey"},
		"record":               {"Index Scan using due_pkey"},
		"record of deliveries": {"Index Scan using due_pkey"},
		"recent scan":          {"Index Scan Backward using due_pkey"},
	} {
		plan := r.genericPlan(hotStatements[name], hotSettings)
		r.mustNotScanIndex(name, plan)
		for _, want := range wants {
			if !strings.Contains(plan, want) {
				t.Errorf("the plan of the %s does not contain %s:\n%s", name, want, plan)
			}
		}
	}
}

// delivered returns results that record n leased messages as delivered.
func (r *rig) delivered(n int) []Result {
	r.t.Helper()
	rows, err := r.Pool.Query(r.t.Context(), sqlschema.In(`SELECT message_id FROM outbox.due WHERE locked_by = 'w' LIMIT $1`, r.Schema), n)
	if err != nil {
		r.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[outbox.ID])
	if err != nil || len(ids) != n {
		r.t.Fatalf("%d messages are leased, want %d: %v", len(ids), n, err)
	}
	var batch []Result
	for _, id := range ids {
		batch = append(batch, results(Message{ID: id, Endpoint: crowdedURL, Attempt: 1})["delivered"])
	}
	return batch
}
