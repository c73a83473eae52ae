package outbox_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

func newWaker(t *testing.T, db *testdb.DB) *outbox.Waker {
	t.Helper()
	w, err := outbox.NewWaker(db.Pool, db.Schema)
	must(t, err)
	t.Cleanup(func() { must(t, w.Close(context.Background())) })
	return w
}

// listen returns a connection that hears the schema's wakes.
func listen(t *testing.T, db *testdb.DB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close(context.Background())) })
	_, err = conn.Exec(t.Context(), "LISTEN "+outbox.WakeChannel(db.Schema))
	must(t, err)
	return conn
}

// wakes counts what conn heard until now: up to a notification of our own, for they arrive in order.
func wakes(t *testing.T, db *testdb.DB, conn *pgx.Conn) (n int) {
	t.Helper()
	const mark = "the end"
	_, err := db.Pool.Exec(t.Context(), "SELECT pg_notify($1, $2)", outbox.WakeChannel(db.Schema), mark)
	must(t, err)
	for {
		heard, err := conn.WaitForNotification(t.Context())
		must(t, err)
		if heard.Payload == mark {
			return n
		}
		n++
	}
}

func TestAWakeReachesWhoListens(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	conn := listen(t, db)
	newWaker(t, db).Wake()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	heard, err := conn.WaitForNotification(ctx)
	must(t, err)
	if heard.Channel != outbox.WakeChannel(db.Schema) {
		t.Errorf("heard %q", heard.Channel)
	}
}

func TestABurstOfWakesIsSentAsFew(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	conn := listen(t, db)
	w := newWaker(t, db)
	begun := time.Now()
	for range 1000 {
		w.Wake()
	}
	must(t, w.Close(t.Context()))
	most := 2 + int(time.Since(begun)/(10*time.Millisecond)) // the first, one for the rest, and what a slow machine adds
	if n := wakes(t, db, conn); n < 1 || n > most {
		t.Errorf("1000 calls sent %d wakes, want 1 to %d", n, most)
	}
}

// TestAWakerNotifiesAtMost500TimesASecond, however often it is called.
func TestAWakerNotifiesAtMost500TimesASecond(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	conn, w := listen(t, db), newWaker(t, db)
	began := time.Now()
	for time.Since(began) < 100*time.Millisecond {
		w.Wake()
		<-time.After(50 * time.Microsecond) // the wakes must go on for longer than the pause between two notifies
	}
	n := wakes(t, db, conn)
	if most := int(time.Since(began)/(2*time.Millisecond)) + 2; n > most {
		t.Errorf("heard %d notifies in %v, want %d at most", n, time.Since(began), most)
	}
}

func TestAWakeDuringAnotherIsNotLost(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	conn := listen(t, db)
	w := newWaker(t, db)
	w.Wake()
	_, err := conn.WaitForNotification(t.Context())
	must(t, err)
	w.Wake() // most likely in the pause after the first
	must(t, w.Close(t.Context()))
	if n := wakes(t, db, conn); n != 1 {
		t.Errorf("the second call sent %d wakes", n)
	}
}

func TestAClosedWakerSendsNothing(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	conn := listen(t, db)
	w := newWaker(t, db)
	must(t, w.Close(t.Context()))
	w.Wake()
	must(t, w.Close(t.Context()))
	if n := wakes(t, db, conn); n != 0 {
		t.Errorf("it sent %d wakes", n)
	}
}

func TestWritingSendsNoWake(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	conn := listen(t, db)
	fixture.Write(t, db, fixture.Message("run"))
	if n := wakes(t, db, conn); n != 0 {
		t.Errorf("the transaction sent %d wakes", n)
	}
}

func TestAWakeIsOutsideTheCallersTransaction(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	conn := listen(t, db)
	tx := fixture.Begin(t, db.Pool)
	_, err := fixture.Writer(t, db).Insert(t.Context(), tx, fixture.Message("run"))
	must(t, err)
	w := newWaker(t, db)
	w.Wake()
	must(t, w.Close(t.Context()))
	must(t, tx.Rollback(t.Context())) // takes no wake with it
	if n := wakes(t, db, conn); n != 1 {
		t.Errorf("%d wakes were heard, want 1", n)
	}
}

func TestALostDatabaseDoesNotKeepAWakerFromClosing(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	url := "postgres://x@" + listener.Addr().String() + "/x?sslmode=disable"
	must(t, listener.Close()) // nobody answers there now
	pool, err := pgxpool.New(t.Context(), url)
	must(t, err)
	defer pool.Close()
	w, err := outbox.NewWaker(pool, "")
	must(t, err)
	w.Wake()
	must(t, w.Close(t.Context()))
}

// hanging is a database that does not answer until it is let go.
type hanging struct{ letGo chan struct{} }

func (h hanging) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	<-h.letGo
	return pgconn.CommandTag{}, nil
}

func TestCloseWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	db := hanging{make(chan struct{})}
	w, err := outbox.NewWaker(db, "")
	must(t, err)
	w.Wake()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close returns %v", err)
	}
	close(db.letGo)
	must(t, w.Close(t.Context()))
}

func TestAWakersSchemaIsChecked(t *testing.T) {
	t.Parallel()
	if _, err := outbox.NewWaker(hanging{}, "No"); !errors.Is(err, outbox.ErrInvalidSchema) {
		t.Errorf("NewWaker returns %v", err)
	}
}
