package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// fill makes an outbox of 200 000 messages, ten a second. The newest 50 000 are due at 100 endpoints, every tenth of them
// leased; 20 000 older ones are dead, and the others are delivered. Two thousand endpoints have a row.
func (r *rig) fill() {
	r.t.Helper()
	r.exec(`INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint, created_at)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000' || '8000' || lpad(to_hex(i), 12, '0'))::uuid,
       'run-' || i, 'succeeded', '{}', 0, 'https://e' || i % 100 || '.test/hook', 'https://e' || i % 100 || '.test', at
FROM generate_series(1, 200000) i, LATERAL (SELECT now() - (200000 - i) * interval '100 ms' AS at) x`)
	r.exec(`INSERT INTO outbox.due (message_id, endpoint, due_at, attempt, locked_by, locked_until)
SELECT id, endpoint, created_at, i % 10 % 2, CASE WHEN i % 10 = 1 THEN 'another' END, CASE WHEN i % 10 = 1 THEN now() + interval '1 h' END
FROM (SELECT id, endpoint, created_at, row_number() OVER (ORDER BY id DESC) AS i FROM outbox.message) x WHERE i <= 50000`)
	r.exec(`INSERT INTO outbox.dead (message_id, endpoint, reason, error, at)
SELECT id, endpoint, 'refused', '', created_at FROM (SELECT *, row_number() OVER (ORDER BY id) AS i FROM outbox.message) x WHERE i <= 20000`)
	r.exec(`INSERT INTO outbox.attempt (message_id, attempt, started_at, duration_ms, class, status_code, worker)
SELECT m.id, 1, m.created_at, 1, 'delivered', 200, 'one' FROM outbox.message m
WHERE NOT EXISTS (SELECT FROM outbox.due d WHERE d.message_id = m.id)`)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, rate_per_second, reason)
SELECT 'https://e' || i || '.test', i % 3, CASE i % 2 WHEN 1 THEN 10 END, '' FROM generate_series(1, 2000) i`)
}

// hotStatements run for every batch, with generic plans.
var hotStatements = map[string]string{
	"claim": claimSQL, "record": recordSQL, "record of deliveries": recordDeliveriesSQL,
	"record of deliveries beside others": recordDeliveriesBesideSQL, "record without waiting": tryRecordSQL,
	"full scan": timed(fullScanSQL), "recent scan": timed(recentScanSQL),
	"record with events": recordText(Write), "record of deliveries with events": recordDeliveriesText(Write),
	"record without waiting, with events": tryRecordText(Write),
}

// rareStatements run now and then.
func (r *rig) rareStatements() map[string]statement {
	return map[string]statement{
		"choose old delivered": {oldDeliveredSQL, []any{outbox.ID{}, 4 * time.Hour, pruneBatch}},
		"choose old dead":      {oldDeadSQL, []any{time.Time{}, outbox.ID{}, 4 * time.Hour, pruneBatch}},
		"choose old endpoints": {oldEndpointsSQL, []any{"", 10}},
		"prune":                {pruneSQL, []any{r.newest(pruneBatch), false}},
		"prune endpoints":      {pruneEndpointsSQL, []any{[]string{"https://e1.test"}}},
		"prune orphans":        {pruneOrphansSQL, []any{outbox.ID{}, 0, orphanBatch}},
		"prune dead orphans":   {pruneDeadOrphansSQL, []any{4 * time.Hour, pruneBatch}},
		"aside URLs":           {asideURLsSQL, []any{10, asideMax}},
		"load":                 {loadSQL, []any{r.newest(1)[0].String()}},
	}
}

func (r *rig) newest(n int) []outbox.ID {
	r.t.Helper()
	rows, err := r.Pool.Query(r.t.Context(), sqlschema.In(`SELECT id FROM outbox.message ORDER BY id DESC LIMIT $1`, r.Schema), n)
	if err != nil {
		r.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[outbox.ID])
	if err != nil {
		r.t.Fatal(err)
	}
	return ids
}

type statement struct {
	sql  string
	args []any
}

// TestTheStatementsScanNoTable: the hot ones with generic plans, whether the tables were analysed or not; the others with both
// generic and custom plans.
func TestTheStatementsScanNoTable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	check := func(when string) {
		t.Helper()
		for name, sql := range hotStatements {
			r.mustNotScanIndex(name+", "+when, r.genericPlan(sql, hotSettings))
		}
	}
	r.analyze()
	check("analysed when empty")
	r.due("https://a.test", 30, 0)
	r.analyze()
	check("analysed when nearly empty")
	r.exec(`DELETE FROM outbox.due; DELETE FROM outbox.message`)
	r.fill()
	check("before ANALYZE")
	r.analyze()
	check("after ANALYZE")
	for name, s := range r.rareStatements() {
		r.mustNotScan(name+", generic plan", r.genericPlan(s.sql, "SET LOCAL plan_cache_mode = force_generic_plan"))
		r.mustNotScan(name+", custom plan", r.customPlan(s))
	}
}

func (r *rig) analyze() {
	r.t.Helper()
	r.exec(`ANALYZE outbox.message; ANALYZE outbox.due; ANALYZE outbox.attempt; ANALYZE outbox.dead; ANALYZE outbox.endpoint`)
}

// mustNotScan checks that a plan reads no table from end to end.
func (r *rig) mustNotScan(what, plan string) {
	r.t.Helper()
	if plan == "" {
		r.t.Errorf("%s: EXPLAIN printed nothing, want a plan", what)
	}
	for _, table := range tables {
		if strings.Contains(plan, "Seq Scan on "+table+" ") {
			r.t.Errorf("%s: the plan scans the table %s:\n%s", what, table, plan)
		}
	}
}

// mustNotScanIndex checks that a plan reads no index from end to end: each use of an index must have an index condition.
func (r *rig) mustNotScanIndex(what, plan string) {
	r.t.Helper()
	r.mustNotScan(what, plan)
	lines := append(strings.Split(plan, "\n"), "")
	for i, line := range lines {
		for _, table := range tables {
			if strings.Contains(line, " on "+table+" ") && strings.Contains(line, " using ") && !strings.Contains(lines[i+1], "Index Cond: ") {
				r.t.Errorf("%s: the plan scans an index of %s:\n%s", what, table, plan)
			}
		}
	}
}

// customPlan returns the plan for these arguments.
func (r *rig) customPlan(s statement) string {
	r.t.Helper()
	rows, err := r.Pool.Query(r.t.Context(), "EXPLAIN "+sqlschema.In(s.sql, r.Schema), s.args...)
	if err != nil {
		r.t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// genericPlan returns the plan for any arguments, which a prepared statement may use after some runs.
func (r *rig) genericPlan(sql, settings string) string {
	r.t.Helper()
	var plan string
	err := pgx.BeginFunc(r.t.Context(), r.Pool, func(tx pgx.Tx) error {
		prepared, err := tx.Prepare(r.t.Context(), "generic", sqlschema.In(sql, r.Schema))
		if err != nil {
			return err
		}
		defer func() { _ = tx.Conn().Deallocate(r.t.Context(), "generic") }()
		if _, err := tx.Exec(r.t.Context(), settings); err != nil {
			return err
		}
		execute := "EXPLAIN EXECUTE generic"
		if n := len(prepared.ParamOIDs); n > 0 {
			execute += "(" + strings.Repeat("NULL, ", n-1) + "NULL)"
		}
		rows, err := tx.Query(r.t.Context(), execute, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		plan = strings.Join(lines, "\n")
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return plan
}
