package migrations_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
)

// upTo migrates the outbox's tables, without River's, to a version.
func upTo(t *testing.T, db *testdb.DB, version int64) {
	t.Helper()
	conn := stdlib.OpenDBFromPool(db.Pool)
	defer func() { must(t, conn.Close()) }()
	execute(t, db.Pool, "CREATE SCHEMA "+db.Schema)
	provider, err := goose.NewProvider(goose.DialectPostgres, conn, migrations.FS(db.Schema),
		goose.WithTableName(db.Schema+".goose_db_version"), goose.WithDisableGlobalRegistry(true))
	must(t, err)
	_, err = provider.UpTo(t.Context(), version)
	must(t, err)
}

// One such row stopped all deliveries. The migration replaces each value by a valid one that means the same, as far as there
// is one, and logs how many there were.
func TestRowsOutOfBoundsAreRepairedAndCounted(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	upTo(t, db, 2)
	for i, rate := range []string{"1e-13", "'NaN'", "'Infinity'", "5"} {
		must(t, insert(t, db, "endpoint", columns{"endpoint": fmt.Sprintf("'https://rate%d'", i), "rate_per_second": rate}))
	}
	for i, at := range badTimes {
		must(t, insert(t, db, "dead", columns{"at": at}))
		must(t, insert(t, db, "endpoint", columns{
			"endpoint": fmt.Sprintf("'https://time%d'", i), "open_until": at, "granted_at": at, "since": at,
		}))
	}
	must(t, insert(t, db, "endpoint", columns{
		"endpoint": "'https://counts'", "max_in_flight": "2147483647", "failures": "2147483647", "openings": "2147483647",
		"granted_at": "now() + interval '1 day'",
	}))

	var log bytes.Buffer
	must(t, migrations.Up(t.Context(), db.Pool, migrations.Config{Schema: db.Schema, Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	for _, want := range []string{
		"(at) of 7 rows", "open_until of 7 rows", "since of 7 rows", "granted_at of 8 rows", "rate_per_second of 3 rows",
		"max_in_flight of 1 rows", "failures or openings of 1 rows", "level=WARN",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not contain %q:\n%s", want, log.String())
		}
	}
	rates := one[string](t, db.Pool, "SELECT string_agg(rate_per_second::text, ' ' ORDER BY endpoint) FROM "+db.Schema+".endpoint WHERE endpoint ~ 'rate'")
	if rates != "0.001 1000000 1000000 5" {
		t.Errorf("the rates are %s, want them within the bounds", rates)
	}
	for _, sql := range []string{
		"SELECT count(*) FROM %s.endpoint WHERE granted_at > now() OR max_in_flight > 10000 OR failures > 1000000 OR openings > 1000000",
		"SELECT count(*) FROM %s.dead WHERE at NOT BETWEEN '1970-01-01 00:00:00+00' AND '9999-01-01 00:00:00+00'",
		// 00006 added message_tenant after its column, when no row had a value; dead_reason of 00008 allows more than the one
		// before, which was validated
		"SELECT count(*) FROM pg_constraint WHERE connamespace = '%s'::regnamespace AND NOT convalidated AND conname NOT IN ('message_tenant', 'dead_reason')",
	} {
		if n := one[int](t, db.Pool, fmt.Sprintf(sql, db.Schema)); n > 0 {
			t.Errorf("%d rows, want none, of %s", n, sql)
		}
	}
}

func TestAMigrationThatRepairsNothingLogsNoWarning(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	upTo(t, db, 2)
	var log bytes.Buffer
	must(t, migrations.Up(t.Context(), db.Pool, migrations.Config{Schema: db.Schema, Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("the log is %s, want no warning", log.String())
	}
}

// Older files did not set their search_path. Then Postgres preferred a pg_column_size(jsonb) in public to its own function, and
// the constraint called it with the writer's rights. The migration makes such a constraint again, and warns.
func TestAConstraintThatCallsAPlantedFunctionIsMadeAgain(t *testing.T) {
	t.Parallel()
	db, evil := testdb.NewEmpty(t), testdb.NewEmpty(t)
	execute(t, db.Pool, "CREATE SCHEMA "+evil.Schema)
	execute(t, db.Pool, "CREATE TABLE "+evil.Schema+".called (what text)")
	for _, f := range []string{"pg_column_size(jsonb) RETURNS integer", "unnest(text[]) RETURNS SETOF text"} {
		execute(t, db.Pool, fmt.Sprintf(`CREATE FUNCTION %[1]s.%[2]s LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO %[1]s.called VALUES ('%[2]s'); RETURN %[3]s; END $$`, evil.Schema, f, map[bool]string{true: "", false: "1"}[strings.Contains(f, "SETOF")]))
	}
	old := plain(t, migrations.Plan{Schema: db.Schema, Line: migrations.LineOutbox, To: 2})
	old = strings.ReplaceAll(old, "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);", "")
	send(t, db, "SET search_path = "+evil.Schema+", pg_catalog; "+old)
	send(t, db, plain(t, migrations.Plan{Schema: db.Schema, Line: migrations.LineRiver}))
	calls := func() int {
		must(t, insert(t, db, "message", columns{"options": "'{}'"}))
		execute(t, db.Pool, "SELECT * FROM "+db.Schema+".overview")
		return one[int](t, db.Pool, "SELECT count(*) FROM "+evil.Schema+".called")
	}
	before := calls()
	if before == 0 {
		t.Fatal("the planted functions are not called before the migration, so the test proves nothing")
	}
	var notices []string
	conn := db.NewPool(t, func(c *pgxpool.Config) {
		c.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	})
	execute(t, conn, plain(t, migrations.Plan{Schema: db.Schema, Line: migrations.LineOutbox, From: 2}))
	if after := calls(); after != before {
		t.Errorf("the planted functions were called %d more times, want never", after-before)
	}
	for _, rule := range []string{"message_headers", "message_options"} {
		if !slices.ContainsFunc(notices, func(n string) bool { return strings.Contains(n, rule) && strings.Contains(n, evil.Schema) }) {
			t.Errorf("the warnings do not name %s: %q", rule, notices)
		}
		var pgErr *pgconn.PgError
		err := insert(t, db, "message", columns{strings.TrimPrefix(rule, "message_"): "jsonb_build_object('k', repeat('x', 262144))"})
		if !errors.As(err, &pgErr) || pgErr.ConstraintName != rule {
			t.Errorf("the insert of a value that is too large for %s returns %v, want its violation", rule, err)
		}
	}
}

// A forgotten transaction holds a lock on endpoint. The migration waits for it in short tries, because all later statements
// have to wait behind it. It is done soon after the transaction has ended.
func TestAMigrationWaitsForALockInShortTries(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	upTo(t, db, 2)
	must(t, insert(t, db, "endpoint", columns{"endpoint": "'https://a'"}))
	tx, err := db.Pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "SELECT FROM "+db.Schema+".endpoint FOR UPDATE")
	must(t, err)

	var log bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- migrations.Up(t.Context(), db.Pool, migrations.Config{Schema: db.Schema, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	}()
	// A later statement waits for the migration's lock_timeout at most, and a little.
	for range 3 {
		began := time.Now()
		execute(t, db.Pool, "UPDATE "+db.Schema+".endpoint SET reason = 'x' WHERE endpoint = 'https://b'")
		if took := time.Since(began); took > 20*time.Second { // without a lock_timeout it would wait as long as the transaction
			t.Errorf("a statement waited %v behind the migration, want 20 s at most", took)
		}
		time.Sleep(time.Second)
	}
	must(t, tx.Rollback(t.Context()))
	must(t, <-done)
	if !strings.Contains(log.String(), "locked by another transaction") {
		t.Errorf("the log is %s, want that another transaction has a lock", log.String())
	}
}

// Down changes the reason poison into one that version 2 has.
func TestDownReplacesReasonsThatTheOlderVersionDoesNotHave(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	must(t, insert(t, db, "dead", columns{"reason": "'poison'"}))
	must(t, insert(t, db, "dead", columns{"reason": "'expired'"}))
	conn := stdlib.OpenDBFromPool(db.Pool)
	defer func() { must(t, conn.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, conn, migrations.FS(db.Schema),
		goose.WithTableName(db.Schema+".goose_db_version"), goose.WithDisableGlobalRegistry(true))
	must(t, err)
	_, err = provider.DownTo(t.Context(), 2)
	must(t, err)
	if reason := one[string](t, db.Pool, "SELECT string_agg(reason, ' ' ORDER BY reason DESC) FROM "+db.Schema+".dead"); reason != "refused exhausted" {
		t.Errorf("the reasons are %s, want refused exhausted", reason)
	}
	var pgErr *pgconn.PgError
	if err := insert(t, db, "dead", columns{"reason": "'poison'"}); !errors.As(err, &pgErr) || pgErr.ConstraintName != "dead_reason" {
		t.Errorf("the insert of poison returns %v, want a violation of dead_reason", err)
	}
	old := testdb.NewEmpty(t)
	upTo(t, old, 2)
	must(t, migrations.UpRiver(t.Context(), old.Pool, migrations.Config{Schema: old.Schema}))
	viewsAside := func(list []string, schema string) (rest []string) { // the view overview has the same meaning in another form
		for _, line := range list {
			if !strings.HasPrefix(line, "view overview") {
				line = strings.TrimSuffix(line, " NOT VALID") // message_result_or_error is not validated: rows that violate it may have been written meanwhile
				rest = append(rest, strings.ReplaceAll(line, schema, "SCHEMA"))
			}
		}
		return rest
	}
	mustBeSame(t, viewsAside(catalogue(t, old.Pool, old.Schema), old.Schema), viewsAside(catalogue(t, db.Pool, db.Schema), db.Schema))
}
