package outbox_test

import (
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

func keyed(runID, key string) outbox.Message {
	m := fixture.Message(runID)
	m.DedupeKey = key
	return m
}

func TestASecondMessageOfAKeyWritesNothing(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	first := fixture.Write(t, db, keyed("first", "key"))
	before := fixture.Rows(t, db)
	if id := fixture.Write(t, db, keyed("second", "key")); id != (outbox.ID{}) {
		t.Errorf("the second insert returns %s, want the zero id", id)
	}
	invalid := keyed("third", "key")
	invalid.URL = "relative"
	if id := fixture.Write(t, db, invalid); id != (outbox.ID{}) {
		t.Errorf("the third insert returns %s, want the zero id", id)
	}
	fixture.SameRows(t, before, fixture.Rows(t, db))
	if d := fixture.Show(t, db, first); d.RunID != "first" || d.DedupeKey == nil || *d.DedupeKey != "key" {
		t.Errorf("it is %+v", d)
	}
}

func TestASecondMessageOfAKeyIsSeenThroughDatabaseSQLToo(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for name, conn := range map[string]*sql.DB{"pgx": stdlib.OpenDBFromPool(db.Pool), "lib/pq": openPQ(t, db)} {
		t.Cleanup(func() { must(t, conn.Close()) })
		for i := range 2 {
			tx, err := conn.BeginTx(t.Context(), nil)
			must(t, err)
			id, err := fixture.Writer(t, db).Insert(t.Context(), outbox.SQLTx(tx), keyed("run", name))
			must(t, err)
			must(t, tx.Commit())
			if wrote := id != (outbox.ID{}); wrote != (i == 0) {
				t.Errorf("%s: insert %d returns %s", name, i+1, id)
			}
		}
	}
}

func TestARolledBackKeyIsFreeAgain(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	tx := fixture.Begin(t, db.Pool)
	_, err := fixture.Writer(t, db).Insert(t.Context(), tx, keyed("first", "key"))
	must(t, err)
	must(t, tx.Rollback(t.Context()))
	if id := fixture.Write(t, db, keyed("second", "key")); id == (outbox.ID{}) {
		t.Error("the key of a message that never was is taken")
	}
}

func TestConcurrentMessagesOfAKeyBecomeOne(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	w := fixture.Writer(t, db)
	var group errgroup.Group
	var written atomic.Int32
	for i := range 8 {
		group.Go(func() error {
			return pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error {
				id, err := w.Insert(t.Context(), tx, keyed(fmt.Sprint("run ", i), "key"))
				if id != (outbox.ID{}) {
					written.Add(1)
				}
				return err
			})
		})
	}
	must(t, group.Wait())
	if n := fixture.Count(t, db, "message"); n != 1 || written.Load() != 1 || fixture.Count(t, db, "due") != 1 {
		t.Errorf("%d messages, %d due, %d writers say they wrote it", n, fixture.Count(t, db, "due"), written.Load())
	}
}

func TestKeysThatTheColumnCannotHoldStayApart(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	long := strings.Repeat("k", outbox.DedupeKeyBytesMax)
	for _, key := range []string{"", "", long, long + "1", long + "2", "\xff", "\xfe", "\x00", "\uFFFD"} {
		if id := fixture.Write(t, db, keyed("run", key)); id == (outbox.ID{}) {
			t.Errorf("the key %.20q was taken for another", key)
		}
	}
	hashed := fixture.One[int](t, db.Pool, "SELECT count(*) FROM "+db.Schema+".message WHERE dedupe_key ~ '^sha256:[0-9a-f]{64}$'")
	if hashed != 5 {
		t.Errorf("%d keys are hashed, want 5", hashed)
	}
	if id := fixture.Write(t, db, keyed("run", long+"1")); id != (outbox.ID{}) {
		t.Error("a long key is forgotten")
	}
}
