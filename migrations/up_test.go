package migrations_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestUpCreatesEverything(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	up(t, db)
	have := catalogue(t, db.Pool, db.Schema)
	for _, want := range []string{
		"class r message", "class r due", "class r attempt", "class r dead", "class r endpoint",
		"class v status", "class v overview", "class v due_count", "class v dead_count", "class r sample", "class v dead_message", "class v endpoint_status",
		"class v lane_count", "class v tenant_status",
		"class r river_job", "class r river_leader", "class r river_queue", "class r goose_db_version",
	} {
		if !slices.Contains(have, want) {
			t.Errorf("%s is missing, want it created", want)
		}
	}
	must(t, migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
}

func TestASecondUpDoesNothing(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	var log bytes.Buffer
	config := migrations.Config{Schema: db.Schema, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	must(t, migrations.Up(t.Context(), db.Pool, config))
	if !strings.Contains(log.String(), "line=outbox") || !strings.Contains(log.String(), "line=river") {
		t.Errorf("the log of the first run is %s, want both lines of migrations", log.String())
	}
	before := catalogue(t, db.Pool, db.Schema)
	log.Reset()
	must(t, migrations.Up(t.Context(), db.Pool, config))
	if log.Len() > 0 {
		t.Errorf("the log of the second run is %s, want nothing", log.String())
	}
	mustBeSame(t, before, catalogue(t, db.Pool, db.Schema))
}

func TestUpKeepsExistingRows(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	execute(t, db.Pool, "INSERT INTO "+db.Schema+".endpoint (endpoint, reason) VALUES ('https://a', 'x')")
	up(t, db)
	if n := one[int](t, db.Pool, "SELECT count(*) FROM "+db.Schema+".endpoint"); n != 1 {
		t.Errorf("%d rows are left, want 1", n)
	}
}

func TestUpFromManyPoolsAtOnceMakesOneSchema(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 8} {
		db, alone := testdb.NewEmpty(t), testdb.New(t)
		var group errgroup.Group
		for range n {
			pool := db.NewPool(t, func(c *pgxpool.Config) { c.MaxConns = 2 })
			group.Go(func() error { return migrations.Up(t.Context(), pool, migrations.Config{Schema: db.Schema}) })
		}
		must(t, group.Wait())
		sameBut(t, db, alone)
	}
}

func TestUpFromManyProcessesAtOnceMakesOneSchema(t *testing.T) {
	t.Parallel()
	db, alone := testdb.NewEmpty(t), testdb.New(t)
	var group errgroup.Group
	for range 3 {
		group.Go(db.Command("migrate up").Run)
	}
	must(t, group.Wait())
	sameBut(t, db, alone)
}

func TestManyUpsOnOneSmallPoolDoNotDeadlock(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	pool := db.NewPool(t, func(c *pgxpool.Config) { c.MaxConns = 2 })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for range 8 {
		group.Go(func() error { return migrations.Up(ctx, pool, migrations.Config{Schema: db.Schema}) })
	}
	must(t, group.Wait())
}

// TestUpNeedsFewPrivileges: a role that owns the schema migrates it without CREATE on the database. A role that may only read
// can find out that the schema is up to date.
func TestUpNeedsFewPrivileges(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	owner, reader := db.Schema+"_owner", db.Schema+"_reader"
	for _, role := range []string{owner, reader} {
		execute(t, db.Pool, "CREATE ROLE "+role)
	}
	t.Cleanup(func() {
		_, err := db.Pool.Exec(context.Background(), "DROP OWNED BY "+owner+", "+reader+" CASCADE; DROP ROLE "+owner+", "+reader)
		if err != nil {
			t.Error(err)
		}
	})
	as := func(role string) error {
		pool := db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["role"] = role })
		return migrations.Up(t.Context(), pool, migrations.Config{Schema: db.Schema})
	}
	if err := as(owner); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("without a schema, Up returns %v, want permission denied", err)
	}
	execute(t, db.Pool, "CREATE SCHEMA "+db.Schema+" AUTHORIZATION "+owner)
	must(t, as(owner))
	execute(t, db.Pool, "GRANT USAGE ON SCHEMA "+db.Schema+" TO "+reader+"; GRANT SELECT ON ALL TABLES IN SCHEMA "+db.Schema+" TO "+reader)
	must(t, as(reader))
	must(t, as(owner))
	must(t, migrations.Check(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}))
}

func TestUpAndDownAtOnceLeaveAWholeSchemaOrNone(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	var group errgroup.Group
	config := migrations.Config{Schema: db.Schema}
	for i := range 6 {
		group.Go(func() error {
			if i%2 == 0 {
				return migrations.Down(t.Context(), db.Pool, config)
			}
			return migrations.Up(t.Context(), db.Pool, config)
		})
	}
	must(t, group.Wait())
	if err := migrations.Check(t.Context(), db.Pool, config); err != nil && !errors.Is(err, migrations.ErrNotMigrated) {
		t.Errorf("Check returns %v, want none, or ErrNotMigrated", err)
	}
	if left := catalogue(t, db.Pool, db.Schema); len(left) > 0 {
		must(t, migrations.Check(t.Context(), db.Pool, config))
	}
}

func TestUpWithAPoolOfOneConnectionReturnsAnError(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	pool := db.NewPool(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	config := migrations.Config{Schema: db.Schema}
	for name, err := range map[string]error{
		"Up":      migrations.Up(t.Context(), pool, config),
		"UpRiver": migrations.UpRiver(t.Context(), pool, config),
		"Down":    migrations.Down(t.Context(), pool, config),
	} {
		if err == nil || !strings.Contains(err.Error(), "2 are needed") {
			t.Errorf("%s returns %v, want that 2 connections are needed", name, err)
		}
	}
}

func TestAWaitingUpEndsWithItsContextAndWritesNothing(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	tx, err := db.Pool.Begin(t.Context())
	must(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(hashtextextended('epilogue migrate ' || $1, 0))", db.Schema)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = migrations.Up(ctx, db.Pool, migrations.Config{Schema: db.Schema})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Up returns %v, want DeadlineExceeded", err)
	}
	if left := catalogue(t, db.Pool, db.Schema); len(left) > 0 {
		t.Errorf("Up wrote %v, want nothing", left)
	}
}

func TestInvalidSchemaNamesAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	for _, name := range []string{"user", "select", "table", "between"} { // Postgres reserves these in different ways
		config := migrations.Config{Schema: name}
		for what, err := range map[string]error{
			"Up": migrations.Up(t.Context(), db.Pool, config), "Down": migrations.Down(t.Context(), db.Pool, config),
		} {
			if err == nil || !strings.Contains(err.Error(), "reserved word") || !strings.Contains(err.Error(), name) {
				t.Errorf("%s of %q returns %v, want an error about this name", what, name, err)
			}
		}
	}
	invalid := []string{"public", "pg_catalog", "pg_x", "information_schema", "Outbox", "a-b", "a.b", "1a", `a"b`, "a b", "ä",
		"a\n", strings.Repeat("a", 47)}
	for _, name := range invalid {
		config := migrations.Config{Schema: name}
		_, statusErr := migrations.Status(t.Context(), db.Pool, config)
		for what, err := range map[string]error{
			"Up": migrations.Up(t.Context(), db.Pool, config), "UpRiver": migrations.UpRiver(t.Context(), db.Pool, config),
			"Down": migrations.Down(t.Context(), db.Pool, config), "Check": migrations.Check(t.Context(), db.Pool, config),
			"Status": statusErr,
		} {
			if !errors.Is(err, outbox.ErrInvalidSchema) {
				t.Errorf("%s of %q returns %v, want an error about this name", what, name, err)
			}
		}
	}
	created := one[int](t, db.Pool, `SELECT count(*) FROM pg_namespace WHERE nspname = ANY ($1)`,
		append(invalid[4:], "user", "select", "table", "between", "pg_x"))
	if created > 0 {
		t.Errorf("%d schemas were created, want none", created)
	}
}

// sameBut compares two schemas, except for their names.
func sameBut(t *testing.T, a, b *testdb.DB) {
	t.Helper()
	neutral := func(db *testdb.DB) []string {
		list := catalogue(t, db.Pool, db.Schema)
		for i := range list {
			list[i] = strings.ReplaceAll(list[i], db.Schema, "SCHEMA")
		}
		slices.Sort(list)
		return list
	}
	mustBeSame(t, neutral(a), neutral(b))
}
