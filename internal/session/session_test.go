package session_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/session"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hostile are settings that a database may have for new sessions.
var hostile = map[string]string{
	"search_path": "public", "client_encoding": "LATIN1", "bytea_output": "escape", "DateStyle": "German, DMY",
	"IntervalStyle": "sql_standard", "TimeZone": "Asia/Kathmandu", "extra_float_digits": "-15", "standard_conforming_strings": "off",
	"array_nulls": "off", "transform_null_equals": "on", "default_transaction_isolation": "serializable",
	"default_transaction_deferrable": "on", "plan_cache_mode": "force_custom_plan", "client_min_messages": "error",
	"statement_timeout": "12345", "lock_timeout": "12345", "idle_in_transaction_session_timeout": "12345", "idle_session_timeout": "12345",
}

// database returns a database with such settings, on a server that only this test uses.
func database(t *testing.T) *testdb.DB {
	t.Helper()
	db := testdb.NewEmptyAt(t, testdb.OwnServer(t).URL())
	for name, value := range hostile {
		_, err := db.Pool.Exec(t.Context(), fmt.Sprintf("ALTER DATABASE %s SET %s = %s", db.Pool.Config().ConnConfig.Database, name, value))
		if strings.ContainsAny(value, " ,/-") {
			_, err = db.Pool.Exec(t.Context(), fmt.Sprintf("ALTER DATABASE %s SET %s = '%s'", db.Pool.Config().ConnConfig.Database, name, value))
		}
		must(t, err)
	}
	db.Pool.Reset()
	return db
}

func modes() []pgx.QueryExecMode {
	return []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
		pgx.QueryExecModeSimpleProtocol,
	}
}

type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func current(t *testing.T, db queryer, name string) (value string) {
	t.Helper()
	must(t, db.QueryRow(t.Context(), "SELECT pg_catalog.current_setting('"+name+"')").Scan(&value))
	return value
}

func TestAPinnedSessionHasOurSettingsDespiteTheDatabaseAndTheURL(t *testing.T) {
	t.Parallel()
	db := database(t)
	bounds := session.Timeouts(time.Minute, 2*time.Second, 3*time.Second)
	for _, mode := range modes() {
		for _, pooler := range []session.Pooler{session.Auto, session.None, session.Session, ""} {
			pool := db.NewPool(t, func(c *pgxpool.Config) {
				c.ConnConfig.DefaultQueryExecMode = mode
				c.ConnConfig.RuntimeParams["search_path"] = "public" // as ?search_path=public in the URL
				c.ConnConfig.RuntimeParams["datestyle"] = "SQL"
				c.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) { // as a service of many tenants does
					_, err := conn.Exec(ctx, "SET search_path = public")
					return true, err
				}
				session.Pin(c, pooler, bounds...)
			})
			for _, s := range session.Settings() {
				if got := current(t, pool, s.Name); got != s.Value {
					t.Errorf("%v, pooler %q: the setting %s is %s, want %s", mode, pooler, s.Name, got, s.Value)
				}
			}
			for name, want := range map[string]string{
				"statement_timeout": "1min", "lock_timeout": "2s", "idle_in_transaction_session_timeout": "3s", "transaction_isolation": "read committed",
			} {
				if got := current(t, pool, name); got != want {
					t.Errorf("%v, pooler %q: the setting %s is %s, want %s", mode, pooler, name, got, want)
				}
			}
			readsBack(t, pool)
		}
	}
}

// readsBack writes and reads values whose text depends on the settings.
func readsBack(t *testing.T, db queryer) {
	t.Helper()
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)
	var gotTime time.Time
	var gotBytes []byte
	var gotText string
	var gotSpan time.Duration
	var gotFloat float64
	var gotList []*string
	err := db.QueryRow(t.Context(), `SELECT $1::timestamptz, $2::bytea, $3::text, $4::interval, $5::float8, $6::text[]`,
		at, []byte("\x00\\ü"), `é → 🎉 \ '`, 90*time.Minute, 0.1, []*string{nil}).Scan(&gotTime, &gotBytes, &gotText, &gotSpan, &gotFloat, &gotList)
	must(t, err)
	if !gotTime.Equal(at) || string(gotBytes) != "\x00\\ü" || gotText != `é → 🎉 \ '` || gotSpan != 90*time.Minute || gotFloat != 0.1 || gotList[0] != nil {
		t.Errorf("read %v %q %q %v %v %v, want the values that were written", gotTime, gotBytes, gotText, gotSpan, gotFloat, gotList)
	}
}

func TestLocalSettingsHoldForOneTransaction(t *testing.T) {
	t.Parallel()
	db := database(t)
	for _, mode := range modes() {
		pool := db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode; c.MaxConns = 1 })
		tx, err := session.Begin(t.Context(), pool, session.Timeouts(time.Minute, 0, 0)...)
		must(t, err)
		for _, s := range session.Settings() {
			if got := current(t, tx, s.Name); got != s.Value && !strings.HasPrefix(s.Name, "default_transaction_") {
				t.Errorf("%v: the setting %s is %s, want %s", mode, s.Name, got, s.Value)
			}
		}
		if got := current(t, tx, "transaction_isolation"); got != "read committed" {
			t.Errorf("%v: the isolation is %s, want read committed", mode, got)
		}
		readsBack(t, tx)
		must(t, tx.Commit(t.Context()))
		for name, want := range map[string]string{"search_path": "public", "bytea_output": "escape", "client_encoding": "LATIN1"} {
			must(t, pool.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error { // directly, because pgx may refuse a query under these settings
				results, err := conn.Conn().PgConn().Exec(t.Context(), "SHOW "+name).ReadAll()
				if err == nil && string(results[0].Rows[0][0]) != want {
					t.Errorf("%v: the setting %s is %s after the transaction, want %s", mode, name, results[0].Rows[0][0], want)
				}
				return err
			}))
		}
	}
}

func TestAPoolersClientsDoNotGetOurSettings(t *testing.T) {
	t.Parallel()
	db := database(t)
	through := &testdb.DB{Name: db.Name, Schema: db.Schema, URL: testdb.PgBouncer(t, db)}
	application := through.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec })
	before := map[string]string{}
	for _, s := range session.Settings() {
		before[s.Name] = current(t, application, s.Name)
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		for _, pooler := range []session.Pooler{session.Auto, session.Transaction} {
			pool := through.NewPool(t, func(c *pgxpool.Config) {
				c.ConnConfig.DefaultQueryExecMode = mode
				session.Pin(c, pooler)
			})
			pooled, err := session.Pooled(t.Context(), pool, pooler)
			must(t, err)
			if !pooled {
				t.Errorf("with the option %q, the pooler is not found", pooler)
			}
			ours := session.Transactions(pool, session.Timeouts(time.Minute, 0, 0)...)
			for range 4 { // more than the pooler's two sessions
				for _, s := range session.Settings() {
					if got := current(t, ours, s.Name); got != s.Value && !strings.HasPrefix(s.Name, "default_transaction_") {
						t.Errorf("%v, pooler %q: the setting %s is %s, want %s", mode, pooler, s.Name, got, s.Value)
					}
					if got := current(t, application, s.Name); got != before[s.Name] {
						t.Errorf("%v, pooler %q: the application's setting %s is %s, want %s as before", mode, pooler, s.Name, got, before[s.Name])
					}
				}
			}
			readsBack(t, ours)
		}
	}
}

func TestADirectConnectionIsNotTakenForOneOfAPooler(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	for pooler, want := range map[session.Pooler]bool{session.Auto: false, "": false, session.None: false, session.Session: false, session.Transaction: true} {
		if got, err := session.Pooled(t.Context(), db.Pool, pooler); err != nil || got != want {
			t.Errorf("with the option %q, is there a pooler? got %v, %v, want %v", pooler, got, err, want)
		}
	}
}

// TestATransactionAlwaysReturnsItsConnection, whether its rows were read to the end, not read, or failed.
func TestATransactionAlwaysReturnsItsConnection(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	pool := db.NewPool(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	ours := session.Transactions(pool)
	_, err := ours.Exec(t.Context(), "CREATE TEMPORARY TABLE t (n int)")
	must(t, err)
	for range 2 {
		rows, err := ours.Query(t.Context(), "SELECT n FROM generate_series(1, 3) n")
		must(t, err)
		list, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil || len(list) != 3 {
			t.Errorf("got the rows %v, %v, want 3", list, err)
		}
		rows, err = ours.Query(t.Context(), "SELECT 1/n FROM generate_series(0, 3) n")
		if err == nil {
			_, err = pgx.CollectRows(rows, pgx.RowTo[int])
		}
		if err == nil {
			t.Error("a division by zero returns no error, want one")
		}
		rows, err = ours.Query(t.Context(), "SELECT n FROM generate_series(1, 3) n")
		must(t, err)
		rows.Next()
		rows.Close()
		must(t, rows.Err())
		var n int
		must(t, ours.QueryRow(t.Context(), "SELECT 1").Scan(&n))
		if err := ours.QueryRow(t.Context(), "SELECT 1 WHERE false").Scan(&n); err != pgx.ErrNoRows {
			t.Errorf("a query without a row returns %v, want %v", err, pgx.ErrNoRows)
		}
		if _, err := ours.Exec(t.Context(), "SELEC"); err == nil {
			t.Error("a syntax error returns no error, want one")
		}
	}
	if n := pool.Stat().AcquiredConns(); n > 0 {
		t.Errorf("%d connections were not returned, want none", n)
	}
}
