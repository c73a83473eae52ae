package migrations_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/internal/sqltime"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// columns are SQL expressions by column.
type columns map[string]string

// goodRows are rows that the tables accept.
var goodRows = map[string]columns{
	"message": {
		"id": "gen_random_uuid()", "run_id": "'run'", "status": "'succeeded'", "final_step": "0",
		"url": "'https://a/b'", "endpoint": "'https://a'",
	},
	"due":      {"message_id": "gen_random_uuid()", "endpoint": "'https://a'"},
	"attempt":  {"message_id": "gen_random_uuid()", "attempt": "1", "started_at": "now()", "class": "'delivered'", "worker": "'w'"},
	"dead":     {"message_id": "gen_random_uuid()", "endpoint": "''", "reason": "'invalid'", "error": "'e'"},
	"endpoint": {"endpoint": "'https://' || gen_random_uuid()", "reason": "'r'"},
}

// badRow is a good row with some columns changed, and the constraint that refuses it.
type badRow struct {
	constraint, table string
	change            columns
}

func longer(max int) string { return fmt.Sprintf("repeat('x', %d)", max+1) }

func badRows() []badRow {
	rows := []badRow{
		{"message_run_id", "message", columns{"run_id": "''"}},
		{"message_run_id", "message", columns{"run_id": longer(outbox.RunIDBytesMax)}},
		{"message_status", "message", columns{"status": "'running'", "error": "''"}},
		{"message_status", "message", columns{"status": "''", "error": "''"}},
		{"message_result", "message", columns{"result": longer(outbox.ResultBytesKept) + "::bytea"}},
		{"message_error", "message", columns{"status": "'failed'", "error": longer(outbox.ErrorBytesMax)}},
		{"message_headers", "message", columns{"headers": "'[]'"}},
		{"message_headers", "message", columns{"headers": "'null'"}},
		{"message_headers", "message", columns{"headers": "jsonb_build_object('k', repeat('x', 262144))"}},
		{"message_final_step", "message", columns{"final_step": "-1"}},
		{"message_final_step", "message", columns{"final_step": "4294967296"}},
		{"message_url", "message", columns{"url": longer(outbox.URLBytesMax)}},
		{"message_options", "message", columns{"options": "'[]'"}},
		{"message_options", "message", columns{"options": "jsonb_build_object('k', repeat('x', 262144))"}},
		{"message_dedupe_key", "message", columns{"dedupe_key": "''"}},
		{"message_tenant", "message", columns{"tenant": "''"}},
		{"message_tenant", "message", columns{"tenant": "'a b'"}},
		{"message_tenant", "message", columns{"tenant": "U&'\\00e9'"}},
		{"message_tenant", "message", columns{"tenant": longer(lane.TenantBytesMax)}},
		{"message_dedupe_key", "message", columns{"dedupe_key": longer(outbox.DedupeKeyBytesMax)}},
		{"due_endpoint", "due", columns{"endpoint": "''"}},
		{"due_attempts", "due", columns{"attempt": "-1"}},
		{"due_attempts", "due", columns{"attempts_before": "-1"}},
		{"attempt_attempt", "attempt", columns{"attempt": "0"}},
		{"attempt_duration_ms", "attempt", columns{"duration_ms": "-1"}},
		{"attempt_class", "attempt", columns{"class": "'lucky'"}},
		{"attempt_status_code", "attempt", columns{"status_code": "99"}},
		{"attempt_status_code", "attempt", columns{"status_code": "1000"}},
		{"dead_reason", "dead", columns{"reason": "'bored'"}},
		{"endpoint_endpoint", "endpoint", columns{"endpoint": "''"}},
		{"endpoint_failures", "endpoint", columns{"failures": "-1"}},
		{"endpoint_failures", "endpoint", columns{"failures": "2147483647"}},
		{"endpoint_openings", "endpoint", columns{"openings": "-1"}},
		{"endpoint_openings", "endpoint", columns{"openings": "2147483647"}},
		{"endpoint_max_in_flight", "endpoint", columns{"max_in_flight": "0"}},
		{"endpoint_max_in_flight", "endpoint", columns{"max_in_flight": fmt.Sprint(operator.LimitInFlightMax + 1)}},
		{"endpoint_rate_per_second", "endpoint", columns{"rate_per_second": "0"}},
		{"endpoint_rate_per_second", "endpoint", columns{"rate_per_second": "1e-13"}},
		{"endpoint_rate_per_second", "endpoint", columns{"rate_per_second": "'NaN'"}},
		{"endpoint_rate_per_second", "endpoint", columns{"rate_per_second": "'Infinity'"}},
		{"endpoint_rate_per_second", "endpoint", columns{"rate_per_second": fmt.Sprint(operator.LimitRateMax + 0.1)}},
	}
	for _, at := range badTimes {
		rows = append(rows,
			badRow{"dead_at_range", "dead", columns{"at": at}},
			badRow{"endpoint_open_until_range", "endpoint", columns{"open_until": at}},
			badRow{"endpoint_granted_at_range", "endpoint", columns{"granted_at": at}},
			badRow{"endpoint_since_range", "endpoint", columns{"since": at}})
	}
	return rows
}

// badTimes are times that a timestamptz accepts and a program does not: infinite, with years of five digits, or before 1970.
var badTimes = []string{
	"'infinity'", "'-infinity'", "'294276-12-31 23:59:59+00'", "'10000-01-01 00:00:00+00'", "'4713-01-01 00:00:00+00 BC'",
	"timestamptz '1970-01-01 00:00:00+00' - interval '1 us'", "timestamptz '9999-01-01 00:00:00+00' + interval '1 us'",
}

func TestTheConstraintsRefuseValuesOutOfBounds(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	tested := map[string]bool{}
	for _, bad := range badRows() {
		tested[bad.constraint] = true
		err := insert(t, db, bad.table, bad.change)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "23514" || pgErr.ConstraintName != bad.constraint {
			t.Errorf("the insert into %s of %v returns %v, want a violation of %s", bad.table, bad.change, err, bad.constraint)
		}
	}
	for _, name := range checkConstraints(t, db) {
		if !tested[name] {
			t.Errorf("no bad row tests the constraint %s, want one for each", name)
		}
	}
}

func TestTheConstraintsAcceptValuesAtTheBounds(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	exactly := func(n int) string { return longer(n - 1) }
	rows := []badRow{ // these rows are good
		{"", "message", columns{
			"run_id": exactly(outbox.RunIDBytesMax), "url": exactly(outbox.URLBytesMax), "final_step": "4294967295",
			"result": exactly(outbox.ResultBytesKept) + "::bytea", "dedupe_key": exactly(outbox.DedupeKeyBytesMax),
		}},
		{"", "message", columns{"status": "'failed'", "error": exactly(outbox.ErrorBytesMax)}},
		{"", "message", columns{"status": "'cancelled'", "error": "''"}},
		{"", "message", columns{"url": "''", "endpoint": "''"}},
		{"", "due", columns{"attempt": "3", "attempts_before": "3", "locked_by": "'w'", "locked_until": "now()"}},
		{"", "attempt", columns{"status_code": "100", "duration_ms": "0"}},
		{"", "attempt", columns{"status_code": "999"}},
		{"", "dead", nil},
		{"", "endpoint", nil},
		{"", "endpoint", columns{"rate_per_second": fmt.Sprint(operator.LimitRateMin), "max_in_flight": "1", "failures": "1000000000"}},
		{"", "endpoint", columns{"rate_per_second": fmt.Sprint(operator.LimitRateMax), "max_in_flight": fmt.Sprint(operator.LimitInFlightMax)}},
	}
	for _, bound := range []time.Time{sqltime.Min, sqltime.Max} {
		text := "'" + bound.Format(time.RFC3339Nano) + "'"
		rows = append(rows, badRow{"", "dead", columns{"at": text}},
			badRow{"", "endpoint", columns{"open_until": text, "granted_at": text, "since": text}})
	}
	for _, status := range []outbox.TerminalStatus{outbox.Succeeded, outbox.Failed, outbox.Cancelled} {
		text := "NULL"
		if status != outbox.Succeeded {
			text = "''"
		}
		rows = append(rows, badRow{"", "message", columns{"status": "'" + status.String() + "'", "error": text}})
	}
	for _, reason := range []string{"invalid", "refused", "exhausted", "gone", "cancelled", "poison"} {
		rows = append(rows, badRow{"", "dead", columns{"reason": "'" + reason + "'"}})
	}
	for _, row := range rows {
		if err := insert(t, db, row.table, row.change); err != nil {
			t.Errorf("the insert into %s of %v returns %v, want no error", row.table, row.change, err)
		}
	}
}

func TestADedupeKeyCanBeUsedOnce(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	must(t, insert(t, db, "message", columns{"dedupe_key": "'k'"}))
	err := insert(t, db, "message", columns{"dedupe_key": "'k'"})
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "23505" || pgErr.ConstraintName != "message_dedupe_key_once" {
		t.Errorf("the second insert returns %v, want a violation of message_dedupe_key_once", err)
	}
	must(t, insert(t, db, "message", nil))
	must(t, insert(t, db, "message", nil)) // several messages may have no key
}

func insert(t *testing.T, db *testdb.DB, table string, change columns) error {
	t.Helper()
	row := maps.Clone(goodRows[table])
	maps.Copy(row, change)
	names := slices.Sorted(maps.Keys(row))
	var values []string
	for _, name := range names {
		values = append(values, row[name])
	}
	_, err := db.Pool.Exec(t.Context(), fmt.Sprintf("INSERT INTO %s.%s (%s) VALUES (%s)",
		db.Schema, table, strings.Join(names, ", "), strings.Join(values, ", ")))
	return err
}

// checkConstraints lists the CHECK constraints of the outbox's tables and domains, without River's.
func checkConstraints(t *testing.T, db *testdb.DB) []string {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), `SELECT conname FROM pg_constraint c LEFT JOIN pg_class r ON r.oid = c.conrelid
WHERE c.contype = 'c' AND c.connamespace = $1::regnamespace AND (r.relname = ANY ($2) OR c.contypid <> 0)`,
		db.Schema, slices.Collect(maps.Keys(goodRows)))
	must(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return list
}
