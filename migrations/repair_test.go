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

// upTo migrates the outbox's tables, not River's, to a version.
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

// One such row stopped all deliveries. The migration sets it to what it meant, as far as that can be told, and says how
// many there were.
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
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
	rates := one[string](t, db.Pool, "SELECT string_agg(rate_per_second::text, ' ' ORDER BY endpoint) FROM "+db.Schema+".endpoint WHERE endpoint ~ 'rate'")
	if rates != "0.001 1000000 1000000 5" {
		t.Errorf("the rates are %s", rates)
	}
	for _, sql := range []string{
		"SELECT count(*) FROM %s.endpoint WHERE granted_at > now() OR max_in_flight > 10000 OR failures > 1000000 OR openings > 1000000",
		"SELECT count(*) FROM %s.dead WHERE at NOT BETWEEN '1970-01-01 00:00:00+00' AND '9999-01-01 00:00:00+00'",
		// message_tenant came after its column, for which no row had a value yet (00006); dead_reason allows more than the one
		// that was validated before it (00008)
		"SELECT count(*) FROM pg_constraint WHERE connamespace = '%s'::regnamespace AND NOT convalidated AND conname NOT IN ('message_tenant', 'dead_reason')",
	} {
		if n := one[int](t, db.Pool, fmt.Sprintf(sql, db.Schema)); n > 0 {
			t.Errorf("%d rows of %s", n, sql)
		}
	}
}

func TestAMigrationThatRepairsNothingSaysNothing(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	upTo(t, db, 2)
	var log bytes.Buffer
	must(t, migrations.Up(t.Context(), db.Pool, migrations.Config{Schema: db.Schema, Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("the log says %s", log.String())
	}
}

// Before they pinned their search_path, the files bound what they found: a pg_column_size(jsonb) in public is preferred to
// Postgres's own, and ran inside the rule with the writer's rights. The migration makes the rule anew, and says so.
func TestARuleThatCallsAPlantedFunctionIsMadeAnew(t *testing.T) {
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
		t.Fatal("the planted functions are not called before the migration either")
	}
	var notices []string
	conn := db.NewPool(t, func(c *pgxpool.Config) {
		c.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	})
	execute(t, conn, plain(t, migrations.Plan{Schema: db.Schema, Line: migrations.LineOutbox, From: 2}))
	if after := calls(); after != before {
		t.Errorf("%d more calls", after-before)
	}
	for _, rule := range []string{"message_headers", "message_options"} {
		if !slices.ContainsFunc(notices, func(n string) bool { return strings.Contains(n, rule) && strings.Contains(n, evil.Schema) }) {
			t.Errorf("no warning names %s: %q", rule, notices)
		}
		var pgErr *pgconn.PgError
		err := insert(t, db, "message", columns{strings.TrimPrefix(rule, "message_"): "jsonb_build_object('k', repeat('x', 262144))"})
		if !errors.As(err, &pgErr) || pgErr.ConstraintName != rule {
			t.Errorf("a value that is too large for %s is answered with %v", rule, err)
		}
	}
}

// A forgotten transaction holds a lock on endpoint: the migration does not queue for it for long, because all that comes
// later would queue behind it. It tries again, and is done soon after the transaction has ended.
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
	// What comes behind it gets through within the migration's lock_timeout and a little.
	for range 3 {
		began := time.Now()
		execute(t, db.Pool, "UPDATE "+db.Schema+".endpoint SET reason = 'x' WHERE endpoint = 'https://b'")
		if took := time.Since(began); took > 20*time.Second { // without a lock_timeout it would never get through
			t.Errorf("a statement waited %v behind the migration", took)
		}
		time.Sleep(time.Second)
	}
	must(t, tx.Rollback(t.Context()))
	must(t, <-done)
	if !strings.Contains(log.String(), "locked by another transaction") {
		t.Errorf("the log says %s", log.String())
	}
}

// Down gives back what version 2 can hold.
func TestDownTurnsPoisonIntoWhatTheOlderVersionKnows(t *testing.T) {
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
		t.Errorf("the reason is %s", reason)
	}
	var pgErr *pgconn.PgError
	if err := insert(t, db, "dead", columns{"reason": "'poison'"}); !errors.As(err, &pgErr) || pgErr.ConstraintName != "dead_reason" {
		t.Errorf("poison is answered with %v", err)
	}
	old := testdb.NewEmpty(t)
	upTo(t, old, 2)
	must(t, migrations.UpRiver(t.Context(), old.Pool, migrations.Config{Schema: old.Schema}))
	viewsAside := func(list []string, schema string) (rest []string) { // overview says the same in other words
		for _, line := range list {
			if !strings.HasPrefix(line, "view overview") {
				line = strings.TrimSuffix(line, " NOT VALID") // message_result_or_error: rows may have been written meanwhile that break it
				rest = append(rest, strings.ReplaceAll(line, schema, "SCHEMA"))
			}
		}
		return rest
	}
	mustBeSame(t, viewsAside(catalogue(t, old.Pool, old.Schema), old.Schema), viewsAside(catalogue(t, db.Pool, db.Schema), db.Schema))
}
