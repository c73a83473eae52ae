package outbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/nilcheck"
)

// Execer runs one statement outside any transaction: a pool.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Waker tells idle workers that something is due, so that it does not wait for their next poll. Call [Waker.Wake] after the
// commit, never in the transaction: a NOTIFY takes a lock on the whole database at commit.
//
// A wake is a hint. A lost wake costs at most a poll interval of latency, and never a message; so its errors are dropped.
type Waker struct {
	db      Execer
	channel string
	every   time.Duration

	mu      sync.Mutex
	running bool          // a notify is being sent, or its pause has not ended
	again   bool          // a wake arrived meanwhile
	closed  bool          // no further notify is begun
	idle    chan struct{} // closed when running ends
}

// wakeEvery bounds the notifies of one process to 500 a second, and is the longest time that a wake is delayed.
const wakeEvery = 2 * time.Millisecond

// wakeTimeout bounds one notify.
const wakeTimeout = 5 * time.Second

// NewWaker returns a waker for the outbox in schema (DefaultSchema when empty). db is a pool, of pgx or what [SQLDB] makes of
// a *sql.DB: never the transaction.
func NewWaker(db Execer, schema string) (*Waker, error) {
	if nilcheck.Is(db) {
		return nil, errors.New("waker: the database is nil; pass a pool, or outbox.SQLDB(db)")
	}
	if schema == "" {
		schema = DefaultSchema
	}
	if err := CheckSchema(schema); err != nil {
		return nil, err
	}
	return &Waker{db: db, channel: WakeChannel(schema), every: wakeEvery}, nil
}

// Wake sends a wake in the background and returns at once. Calls in quick succession are sent as one.
func (w *Waker) Wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if w.running {
		w.again = true
		return
	}
	w.running, w.idle = true, make(chan struct{})
	go w.send()
}

// send notifies until no wake has come since the last notify.
func (w *Waker) send() {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), wakeTimeout)
		_, _ = w.db.Exec(ctx, "SELECT pg_catalog.set_config('synchronous_commit', 'off', true), pg_catalog.pg_notify($1::pg_catalog.text, '')", w.channel)
		cancel()
		time.Sleep(w.every) // debounce: all calls meanwhile become one wake
		w.mu.Lock()
		if !w.again {
			w.running = false
			close(w.idle)
			w.mu.Unlock()
			return
		}
		w.again = false
		w.mu.Unlock()
	}
}

// Close sends what is pending and waits for it, at most until ctx ends. Later wakes do nothing.
func (w *Waker) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	running, idle := w.running, w.idle
	w.mu.Unlock()
	if !running {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
