package hook_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

// stubborn writers end every run they take, whatever happens to their connections: this is the caller's third duty. When
// they do not know whether a commit succeeded, they read the step again. This read waits until the old transaction ends.
type stubborn struct {
	*service
	next    atomic.Int64 // the last run that somebody took
	ended   atomic.Int64 // runs that a writer saw acknowledged
	lost    atomic.Int64 // transactions that failed before their commit
	unknown atomic.Int64 // commits without an answer
	proved  atomic.Int64 // commits without an answer that turned out to have succeeded

	before func(ctx context.Context, n int64) // called before the run of that number; nil for none
}

// run lets writers end runs until the given number is taken or stop is closed, and returns when all writers have ended.
func (s *stubborn) run(ctx context.Context, writers int, runs int64, stop <-chan struct{}) {
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for n := s.next.Add(1); n <= runs; n = s.next.Add(1) {
				if s.before != nil {
					s.before(ctx, n)
				}
				s.end(ctx, fmt.Sprint("run ", n))
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	group.Wait()
}

func (s *stubborn) end(ctx context.Context, runID string) {
	unknown := false
	for ctx.Err() == nil {
		acknowledgedBefore, err := s.try(ctx, runID, &unknown)
		if err == nil {
			if acknowledgedBefore {
				s.proved.Add(1)
			}
			s.ended.Add(1)
			return
		}
		<-time.After(5 * time.Millisecond) // the server may be away
	}
}

// try reports whether the step was acknowledged already. Only a commit without an answer can have done that.
func (s *stubborn) try(ctx context.Context, runID string, unknown *bool) (acknowledgedBefore bool, err error) {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		s.lost.Add(1)
		return false, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	tag, err := tx.Exec(ctx, s.in(acknowledge), runID)
	if err == nil && tag.RowsAffected() == 0 && *unknown {
		return true, nil
	}
	if err == nil && tag.RowsAffected() == 0 {
		return false, fmt.Errorf("%s was acknowledged by somebody else", runID)
	}
	if err == nil {
		err = s.hook.OnTermination(ctx, tx, testdb.Outcome(runID, receiver))
	}
	if err != nil {
		s.lost.Add(1)
		return false, err
	}
	if err = tx.Commit(ctx); err != nil {
		s.unknown.Add(1)
		*unknown = true
	}
	return false, err
}

func (s *stubborn) String() string {
	return fmt.Sprintf("%d runs ended; %d transactions failed before their commit, %d during it, of which %d were committed",
		s.ended.Load(), s.lost.Load(), s.unknown.Load(), s.proved.Load())
}

func newStubborn(t *testing.T, pool *pgxpool.Pool, schema string) *stubborn {
	t.Helper()
	s, err := newService(pool, schema)
	must(t, err)
	t.Cleanup(func() { must(t, s.sql.Close()) })
	return &stubborn{service: s}
}

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestAfterACommitWithoutAnAnswerNothingIsLostOrDoubled(t *testing.T) {
	t.Parallel()
	const writers, runs = 6, 1000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)

	t.Run("the server ends the connection", func(t *testing.T) {
		db := testdb.New(t)
		createService(t, db, runs)
		name := db.Name + " writers"
		pool := db.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = name })
		s := newStubborn(t, pool, db.Schema)
		done, ended := make(chan struct{}), make(chan struct{})
		var killed atomic.Int64
		go func() {
			defer close(ended)
			terminateAtRandom(t, db, name, rand.New(rand.NewPCG(seed, 1)), &killed, done)
		}()
		s.before = func(ctx context.Context, n int64) { // otherwise fast writers end all runs before the first backend is terminated
			for killed.Load() < n/100 && ctx.Err() == nil {
				<-time.After(time.Millisecond) // the other goroutine waits for nothing of ours
			}
		}
		s.run(patience(t), writers, runs, nil)
		close(done)
		<-ended
		t.Logf("%d backends terminated: %v", killed.Load(), s)
		mustHaveEnded(t, db, s, runs)
	})
	t.Run("the network loses the answer", func(t *testing.T) {
		db := testdb.New(t)
		createService(t, db, runs)
		random := &lockedRand{random: rand.New(rand.NewPCG(seed, 2))}
		pool := db.NewPool(t, func(c *pgxpool.Config) {
			dial := c.ConnConfig.DialFunc
			c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				return &deafConn{Conn: conn, random: random}, err
			}
		})
		s := newStubborn(t, pool, db.Schema)
		s.run(patience(t), writers, runs, nil)
		t.Log(s)
		mustHaveEnded(t, db, s, runs)
		if s.unknown.Load() == 0 || s.proved.Load() == 0 {
			t.Error("no commit lost its answer, or none of those that did was committed; want some of each")
		}
	})
}

func mustHaveEnded(t *testing.T, db *testdb.DB, s *stubborn, runs int) {
	t.Helper()
	found := mustBeAtomic(t, db)
	if found.Acknowledged != runs || s.ended.Load() != int64(runs) {
		t.Errorf("%d steps are acknowledged, and the writers saw %d of them; want %d", found.Acknowledged, s.ended.Load(), runs)
	}
	if s.lost.Load()+s.unknown.Load() == 0 {
		t.Error("no transaction failed, so this test proves nothing")
	}
}

// terminateAtRandom ends backends with this application name, one after the other, until done is closed. It counts them in killed.
func terminateAtRandom(t *testing.T, db *testdb.DB, name string, random *rand.Rand, killed *atomic.Int64, done <-chan struct{}) {
	const one = `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM (
SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY pid OFFSET $2 LIMIT 1) a`
	for {
		var n int
		if err := db.Pool.QueryRow(t.Context(), one, name, random.IntN(6)).Scan(&n); err != nil {
			t.Errorf("terminating a backend: %v", err)
			return
		}
		killed.Add(int64(n))
		select {
		case <-done:
			return
		case <-time.After(time.Duration(random.Int64N(int64(6 * time.Millisecond)))): // the moment that the seed chose
		}
	}
}

// deafConn sometimes closes right after a write: the server gets what was sent, and its answer is lost.
type deafConn struct {
	net.Conn
	random *lockedRand
}

func (c *deafConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil && c.random.intN(40) == 0 {
		err = c.Close()
	}
	return n, err
}

// lockedRand is a random source that several connections share.
type lockedRand struct {
	mu     sync.Mutex
	random *rand.Rand
}

func (r *lockedRand) intN(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.IntN(n)
}

func TestACrashedServerHasTheStepAndItsMessageOrNeither(t *testing.T) {
	t.Parallel()
	const writers, crashes = 6, 4
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	server := testdb.OwnServer(t)
	db := testdb.NewAt(t, server.URL())
	createService(t, db, 100_000)
	s := newStubborn(t, db.NewPool(t, nil), db.Schema)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { defer close(stopped); s.run(patience(t), writers, 100_000, stop) }()
	for range crashes {
		<-time.After(time.Duration(100+random.IntN(300)) * time.Millisecond) // the moment that the seed chose
		must(t, server.Crash())
		must(t, server.Restart(t.Context()))
		db.Pool.Reset()
		mustBeAtomic(t, db)
	}
	close(stop)
	<-stopped
	t.Logf("%d crashes: %v", crashes, s)
	mustHaveEnded(t, db, s, int(s.ended.Load()))
}
