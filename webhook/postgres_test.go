package webhook_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

func open(t *testing.T, db *testdb.DB, driver string) *sql.DB {
	t.Helper()
	conn, err := sql.Open(driver, db.URL)
	must(t, err)
	conn.SetMaxOpenConns(testdb.PoolMax)
	t.Cleanup(func() { must(t, conn.Close()) })
	return conn
}

// newPostgres creates the table as a receiver does.
func newPostgres(t *testing.T, db *testdb.DB, driver string, lease time.Duration) *webhook.PostgresStore {
	t.Helper()
	conn := open(t, db, driver)
	s, err := webhook.NewPostgresStore(conn, webhook.PostgresConfig{Table: db.Schema + ".order", Lease: lease})
	must(t, err) // the table is named "order" to show that SQL keywords work
	_, err = conn.ExecContext(t.Context(), "CREATE SCHEMA IF NOT EXISTS "+db.Schema)
	must(t, err)
	for range 2 {
		_, err = conn.ExecContext(t.Context(), s.TableSQL())
		must(t, err)
	}
	return s
}

func TestTheDocumentedTableIsTheOneThatIsMade(t *testing.T) {
	t.Parallel()
	s, err := webhook.NewPostgresStore(new(sql.DB), webhook.PostgresConfig{})
	must(t, err)
	for _, want := range []string{`EXISTS "webhook_delivery" (`, `EXISTS "webhook_delivery_received_at" ON "webhook_delivery" (`} {
		if !strings.Contains(s.TableSQL(), want) {
			t.Errorf("TableSQL is %s, want %s in it", s.TableSQL(), want)
		}
	}
	if strings.Contains(s.OnceSQL(), "$table") || !strings.Contains(s.OnceSQL(), `INTO "webhook_delivery"`) {
		t.Errorf("OnceSQL is %s, want the table's name in it", s.OnceSQL())
	}
}

func TestTwoProcessesShareATable(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	a, b := newPostgres(t, db, "pgx", 0), newPostgres(t, db, "postgres", 0)
	c := claim(t, a, "id", webhook.First)
	claim(t, b, "id", webhook.InProgress)
	must(t, a.Finish(t.Context(), c, true))
	claim(t, b, "id", webhook.Duplicate)
}

func TestOfManyClaimsAtOnceOneIsTheFirst(t *testing.T) {
	t.Parallel()
	s := newPostgres(t, testdb.NewEmpty(t), "pgx", 0)
	for round := range 20 {
		var group sync.WaitGroup
		states := make(chan webhook.State, 8)
		for range 8 {
			group.Go(func() {
				c, err := s.Claim(t.Context(), fmt.Sprint(round))
				if err != nil {
					t.Error(err)
				}
				states <- c.State
			})
		}
		group.Wait()
		close(states)
		count := map[webhook.State]int{}
		for state := range states {
			count[state]++
		}
		if count[webhook.First] != 1 || count[webhook.InProgress] != 7 {
			t.Fatalf("the states of eight claims are %v, want one first and 7 in progress", count)
		}
	}
}

// The work and the record are in one transaction: the work is done once, however many copies run at once and however they end.
func TestWorkInTheSameTransactionIsDoneOnce(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	s := newPostgres(t, db, "pgx", 0)
	conn := open(t, db, "pgx")
	execute(t, conn, "CREATE TABLE %s.work (id text)", db.Schema)
	work := func(id string, commit bool) error {
		tx, err := conn.BeginTx(t.Context(), nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		first, err := s.Once(t.Context(), tx, id)
		if err != nil || !first {
			return err
		}
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO "+db.Schema+".work VALUES ($1)", id); err != nil {
			return err
		}
		if !commit {
			return nil
		}
		return tx.Commit()
	}
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			if err := work(fmt.Sprint(i%4), i%3 != 0); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for id, want := range map[string]int{"0": 1, "1": 1, "2": 1, "3": 1} {
		if got := count(t, conn, "SELECT count(*) FROM %s.work WHERE id = '%s'", db.Schema, id); got != want {
			t.Errorf("the work of %s was done %d times, want %d", id, got, want)
		}
		claim(t, s, id, webhook.Duplicate)
	}
}

// A handler that committed its work and then failed must not do it again.
func TestAMessageIsProcessedOnceItsHandlerHasCommitted(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	s := newPostgres(t, db, "postgres", 0)
	conn := open(t, db, "postgres")
	rig := newRig(t, func(_ http.ResponseWriter, r *http.Request) {
		d, _ := webhook.FromContext(r.Context())
		tx, err := conn.BeginTx(r.Context(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		first, err := s.Once(r.Context(), tx, d.ID)
		if err := errors.Join(err, tx.Commit()); !first || err != nil {
			t.Errorf("Once returns %v, %v; want true", first, err)
		}
		panic("after the commit")
	}, func(c *webhook.HandlerConfig) { c.Store = s })
	rig.want(t, "id", 0)
	rig.want(t, "id", 204)
}

func TestAClaimWaitsForATransactionThatRecords(t *testing.T) {
	t.Parallel()
	for _, commit := range []bool{true, false} {
		db := testdb.NewEmpty(t)
		s := newPostgres(t, db, "pgx", 50*time.Millisecond)
		tx, err := open(t, db, "pgx").BeginTx(t.Context(), nil)
		must(t, err)
		first, err := s.Once(t.Context(), tx, "id")
		if err != nil || !first {
			t.Fatal(first, err)
		}
		impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if c, err := s.Claim(impatient, "id"); err == nil {
			t.Errorf("Claim returns %+v before the transaction ended, want that it waits", c)
		}
		if !commit {
			must(t, tx.Rollback())
			takeOver(t, s, "id") // the claim that gave up may have succeeded at that moment; then its lease has to end first
			continue
		}
		must(t, tx.Commit())
		claim(t, s, "id", webhook.Duplicate)
	}
}

func TestPruneDeletesOldRecordsAndNoClaims(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	s := newPostgres(t, db, "pgx", 0)
	conn := open(t, db, "pgx")
	for i := range 7 {
		process(t, s, fmt.Sprint("old", i))
	}
	claim(t, s, "abandoned", webhook.First)
	execute(t, conn, `UPDATE %s."order" SET claimed_until = now() - interval '1 day' WHERE webhook_id = 'abandoned'`, db.Schema)
	claim(t, s, "held", webhook.First)
	execute(t, conn, `UPDATE %s."order" SET received_at = now() - interval '8 days'`, db.Schema)
	process(t, s, "new")
	for _, want := range []int{5, 3, 0} {
		if n, err := s.Prune(t.Context(), 7*24*time.Hour, 5); err != nil || n != want {
			t.Errorf("pruned %d, %v; want %d", n, err, want)
		}
	}
	claim(t, s, "new", webhook.Duplicate)
	claim(t, s, "held", webhook.InProgress)
	if n := count(t, conn, `SELECT count(*) FROM %s."order"`, db.Schema); n != 2 {
		t.Errorf("%d rows are left, want 2", n)
	}
}

func TestPruneWaitsForNoTransactionOfAHandler(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	s := newPostgres(t, db, "pgx", 0)
	conn := open(t, db, "pgx")
	process(t, s, "locked")
	process(t, s, "free")
	execute(t, conn, `UPDATE %s."order" SET received_at = now() - interval '8 days'`, db.Schema)
	tx, err := conn.BeginTx(t.Context(), nil)
	must(t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(t.Context(), fmt.Sprintf(`SELECT FROM %s."order" WHERE webhook_id = 'locked' FOR UPDATE`, db.Schema))
	must(t, err)
	patient, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if n, err := s.Prune(patient, 7*24*time.Hour, 5); err != nil || n != 1 {
		t.Errorf("pruned %d, %v; want 1, the row that is not locked", n, err)
	}
}

func TestAMissingTableIsAnError(t *testing.T) {
	t.Parallel()
	conn := open(t, testdb.NewEmpty(t), "pgx")
	s, err := webhook.NewPostgresStore(conn, webhook.PostgresConfig{Table: "nowhere_at_all"})
	must(t, err)
	if _, err := s.Claim(t.Context(), "id"); err == nil || !strings.Contains(err.Error(), "nowhere_at_all") {
		t.Errorf("Claim returns %v, want an error that names the table", err)
	}
	if _, err := s.Prune(t.Context(), time.Hour, 1); err == nil {
		t.Error("Prune returns no error, want one: there is no table")
	}
}

func TestEveryFaultOfAPostgresStoresConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"a b", `a"b`, "A", "1a", "a.b.c", ".a", "a.", strings.Repeat("a", 41), "a;drop"} {
		_, err := webhook.NewPostgresStore(nil, webhook.PostgresConfig{Table: table, Lease: -1})
		for _, want := range []string{"db is nil", "Table is", "Lease is -1ns"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: the error is %v, want %q in it", table, err, want)
			}
		}
	}
}

func execute(t *testing.T, conn *sql.DB, format string, args ...any) {
	t.Helper()
	_, err := conn.ExecContext(t.Context(), fmt.Sprintf(format, args...))
	must(t, err)
}

func count(t *testing.T, conn *sql.DB, format string, args ...any) (n int) {
	t.Helper()
	must(t, conn.QueryRowContext(t.Context(), fmt.Sprintf(format, args...)).Scan(&n))
	return n
}
