package roster

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// rig is a worker, in an outbox of the test's own, whose sessions the test opens and closes.
type rig struct {
	*testdb.DB
	*Roster
	t                  testing.TB
	suspended, resumed int
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{DB: testdb.New(t), t: t}
	r.Roster = r.worker("one")
	r.config.Suspend, r.config.Resume = func() { r.suspended++ }, func() { r.resumed++ }
	return r
}

// worker is one that has no session yet.
func (r *rig) worker(name string) *Roster {
	return New(Config{
		Schema: r.Schema, Name: name, Lease: time.Minute, Report: func() (report Report) { return report }, Pool: r.Pool,
		Suspend: func() {}, Resume: func() {}, Died: func([]string) {}, Logger: slog.New(slog.DiscardHandler),
	})
}

func (r *rig) connect() *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.URL)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close(r.t.Context()) })
	return conn
}

// begin starts a session that gets the lock.
func (r *rig) begin(roster *Roster) *pgx.Conn {
	r.t.Helper()
	conn := r.connect()
	if err := roster.Begin(r.t.Context(), conn); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// beginInVain starts a session that writes the row, but finds the lock taken until the test frees it.
func (r *rig) beginInVain() (conn *pgx.Conn, free func()) {
	r.t.Helper()
	other := r.connect()
	if _, err := other.Exec(r.t.Context(), sqlschema.In(lockSQL, r.Schema), r.config.Name); err != nil {
		r.t.Fatal(err)
	}
	conn = r.connect()
	if err := r.Begin(r.t.Context(), conn); err == nil {
		r.t.Fatal("it got a lock that was taken")
	}
	if r.rows() != 1 {
		r.t.Fatal("it has written no row")
	}
	return conn, func() { r.end(other) }
}

// end closes a session, and waits until the server knows of it.
func (r *rig) end(conn *pgx.Conn) {
	r.t.Helper()
	pid := conn.PgConn().PID()
	_ = conn.Close(r.t.Context())
	for deadline := time.Now().Add(time.Minute); r.count(`SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("the session does not end")
		}
	}
}

func (r *rig) rows() int {
	r.t.Helper()
	return r.count(sqlschema.In(`SELECT count(*) FROM outbox.worker WHERE name = $1`, r.Schema), r.config.Name)
}

func (r *rig) count(sql string, args ...any) (n int) {
	r.t.Helper()
	if err := r.Pool.QueryRow(r.t.Context(), sql, args...).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// believer is another worker that has had its lock for long enough to take this one for dead.
func (r *rig) believer() {
	r.t.Helper()
	two := r.worker("two")
	r.begin(two)
	if _, err := r.Pool.Exec(r.t.Context(), sqlschema.In(`UPDATE outbox.worker SET backend_start = now() - interval '1 min' WHERE name = 'two'`, r.Schema)); err != nil {
		r.t.Fatal(err)
	}
}

// TestAWorkerWhoseFirstSessionFailedWaitsUntilOthersHaveSeenIt: its row named a session without the lock, so it was dead for
// others, while its claims go by the pool.
func TestAWorkerWhoseFirstSessionFailedWaitsUntilOthersHaveSeenIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.believer()
	failed, free := r.beginInVain()
	r.end(failed)
	free()
	if r.Lost(t.Context()); r.suspended != 1 {
		t.Fatal("it goes on without a lock")
	}
	began := time.Now()
	conn := r.begin(r.Roster)
	if r.resumed > 0 {
		t.Error("it claims again while others may take it for dead")
	}
	if next := r.Next(); next.Before(began) || next.After(time.Now().Add(noticedAfter)) {
		t.Errorf("its next beat is in %v", time.Until(next))
	}
	for _, c := range []struct {
		at      time.Time
		resumed int
	}{{time.Now().Add(time.Hour), 0}, {time.Now(), 1}, {time.Time{}, 1}} {
		r.resumeAt = c.at
		if err := r.Beat(t.Context(), conn); err != nil || r.resumed != c.resumed {
			t.Errorf("it resumed %d times, want %d: %v", r.resumed, c.resumed, err)
		}
	}
	if !r.resumeAt.IsZero() {
		t.Error("it is to resume once more")
	}
}

// TestASessionIsAskedForOthersNoEarlierThanTheNextProbe: in between, it is asked whether it is there, which costs the server less.
func TestASessionIsAskedForOthersNoEarlierThanTheNextProbe(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.believer()
	conn := r.begin(r.Roster)
	hour := time.Now().Add(time.Hour)
	for _, c := range []struct {
		at    time.Time
		probe bool
	}{{hour, false}, {time.Time{}, false}, {time.Now(), true}} {
		r.beatAt, r.probeAt, r.heldAt = hour, c.at, time.Time{}
		if err := r.Beat(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		if probed := !r.probeAt.Equal(c.at); probed != c.probe || r.heldAt.IsZero() {
			t.Errorf("with the next probe at %v it asked for others: %v; the lock was last held at %v", c.at, probed, r.heldAt)
		}
	}
}

// TestAWorkerThatNobodyTakesForDeadGoesOnAtOnce: the first one to come starts without a wait.
func TestAWorkerThatNobodyTakesForDeadGoesOnAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if r.begin(r.Roster); r.resumed != 1 {
		t.Error("alone, it waits")
	}
}

// TestAWaitEndsWithItsSession: the next session decides anew whether there is one.
func TestAWaitEndsWithItsSession(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.end(r.begin(r.Roster))
	r.Lost(t.Context())
	r.believer()
	r.heldAt = time.Now().Add(-time.Minute)
	if r.begin(r.Roster); r.resumed != 1 {
		t.Fatal("it does not wait")
	}
	r.Lost(t.Context())
	r.heldAt = time.Now().Add(-time.Minute)
	r.settings = `SELECT`                  // no lock_timeout: a session that is ended may take a while on a busy machine
	if r.begin(r.Roster); r.resumed != 2 { // the server did not know of it: the lock was never free
		t.Fatal("it waits again")
	}
	if !r.resumeAt.IsZero() {
		t.Error("it is to resume once more")
	}
}

// TestASessionWithoutTheLockDoesNotSayThatItWasHeld: others may have taken the worker for dead since it was.
func TestASessionWithoutTheLockDoesNotSayThatItWasHeld(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*rig){
		"it found the lock taken":      func(r *rig) { conn, _ := r.beginInVain(); r.Leave(r.t.Context(), conn, false) },
		"it failed before it was used": func(r *rig) { r.Leave(r.t.Context(), r.connect(), false) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.end(r.begin(r.Roster))
			r.Lost(t.Context())
			held := r.heldAt
			if leave(r); !r.heldAt.Equal(held) {
				t.Errorf("the lock counts as held for %v longer", r.heldAt.Sub(held))
			}
		})
	}
}

// TestAStopLeavesNoRowWhetherTheSessionHadTheLockOrNot: others would take the worker for dead, and send what it is sending.
func TestAStopLeavesNoRowWhetherTheSessionHadTheLockOrNot(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]func(*rig) *pgx.Conn{
		"it had it":                    func(r *rig) *pgx.Conn { return r.begin(r.Roster) },
		"it found the lock taken":      func(r *rig) *pgx.Conn { conn, _ := r.beginInVain(); return conn },
		"it failed before it was used": func(r *rig) *pgx.Conn { return r.connect() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.end(r.begin(r.Roster))
			r.Lost(t.Context())
			r.Leave(t.Context(), last(r), true)
			if n := r.rows(); n > 0 {
				t.Errorf("%d rows are left", n)
			}
		})
	}
}
