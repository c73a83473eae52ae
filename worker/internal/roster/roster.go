package roster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
)

// Config of a roster. All fields must be set.
type Config struct {
	Schema  string
	Name    string // of this worker; no two processes share one
	Host    string
	Version string
	Lease   time.Duration
	Report  func() Report  // what the row says about this worker
	Pool    *pgxpool.Pool  // the pool that the claims use
	Suspend func()         // the lock may be free: no request may begin. Called again and again until Resume
	Resume  func()         // the lock is held, or is not needed: claims may go on
	Died    func([]string) // workers have died a moment ago
	Logger  *slog.Logger
}

// Report is what a worker's row says about it, besides its name.
type Report struct {
	InFlight int
	NotReady string // "" when it is ready
}

// Roster is the part of one worker. Its methods are called by the one goroutine that has the session, except Dead.
type Roster struct {
	config                      Config
	settings, lock, probe, beat string
	verify, retire              string

	// The session, while there is one.
	judge  *judge    // nil: it does not have the lock
	server time.Time // when its server began

	// The state of this worker.
	session    registration // the session that has the lock, or had it last; zero: none ever had
	started    time.Time    // when the first one began, by the database's clock
	registered bool         // others may judge it: its row is there, or may be
	heldAt     time.Time    // when the lock was last known to be held: the start of the last successful query
	lostAt     time.Time    // when the session was lost; zero while there is one
	resumeAt   time.Time    // when claims may go on; zero: they do
	ahead      time.Duration
	told       bool // it was logged that there is no table

	beatAt, probeAt time.Time // when the next ones are made; probeAt zero: there is nobody to probe

	mu     sync.Mutex
	dead   []string
	deadTo time.Time
}

// New returns a roster that knows no other worker yet.
func New(c Config) *Roster {
	return &Roster{
		config: c, settings: settingsSQL, lock: sqlschema.In(lockSQL, c.Schema), probe: sqlschema.In(probeSQL, c.Schema), beat: sqlschema.In(beatSQL, c.Schema),
		verify: sqlschema.In(verifySQL, c.Schema), retire: sqlschema.In(retireSQL, c.Schema),
	}
}

const (
	beatEvery = 5 * time.Second
	// pulseEvery is how often a registered worker checks that its session still exists. A proxy may close the server's side of the
	// session without notice: the worker notices that pulseEvery + beatTimeout later, at the latest. Until
	// then the worker goes on, while others may take it for dead.
	pulseEvery = time.Second
	// absentEvery is how often a worker tries to register while there is no table, or it may not write to the table.
	absentEvery = time.Minute
	// beatTimeout bounds each statement on the session. The worker must know that it lost its session before the server does,
	// which gives up a silent client after six seconds.
	beatTimeout = 4 * time.Second
	// againEvery is how often the worker tries to open a session while its lock is free.
	againEvery = 250 * time.Millisecond
	// againLater is the same for a worker that does not need it.
	againLater = 5 * time.Second
)

// Dead returns the names of dead workers that may still have something under a lease. It may be called by any goroutine.
func (r *Roster) Dead() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().After(r.deadTo) {
		return nil
	}
	return r.dead
}

// Begin takes the lock on a new session, and registers this worker. After an error the session cannot be used.
func (r *Roster) Begin(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := atMost(ctx)
	defer cancel()
	if _, err := conn.Exec(ctx, r.settings); err != nil {
		return fmt.Errorf("set up the session of the lock: %w", err)
	}
	wasThere := false // the old session: then the lock was never free
	if r.session.pid != 0 {
		if err := conn.QueryRow(ctx, endSQL, r.session.pid, r.session.backendStart).Scan(&wasThere); err != nil {
			return fmt.Errorf("end the session that had the lock: %w", err)
		}
	}
	session := registration{name: r.config.Name}
	if err := conn.QueryRow(ctx, identitySQL).Scan(&session.pid, &session.backendStart, &r.server); err != nil {
		return fmt.Errorf("name the session of the lock: %w", err)
	}
	heldAt := r.heldAt
	r.session, r.judge = session, newJudge(time.Now())
	if r.started.IsZero() {
		r.started = session.backendStart
	}
	// The row comes first, so that whoever finds the lock taken can read which session has it.
	others, err := r.say(ctx, conn)
	if err == nil {
		_, err = conn.Exec(ctx, r.lock, r.config.Name)
	}
	if err != nil {
		r.heldAt, r.judge = heldAt, nil
		return fmt.Errorf("take the lock of this worker's name: %w", err)
	}
	now := time.Now()
	r.heldAt, r.lostAt, r.judge.since = now, time.Time{}, now
	if free := now.Sub(heldAt); !wasThere && free >= probeEvery && (others == nil && r.registered || believes(others)) {
		r.resumeAt = now.Add(noticedAfter)
		return nil
	}
	r.resumeAt = time.Time{}
	r.config.Resume()
	return nil
}

// atMost bounds a statement on the session. The end of a worker does not interrupt it: that would cost the session, and
// the row would stay.
func atMost(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
}

// Next is when Beat must be called.
func (r *Roster) Next() time.Time {
	next := r.beatAt
	if pulse := r.heldAt.Add(pulseEvery); r.registered && pulse.Before(next) {
		next = pulse
	}
	for _, at := range []time.Time{r.probeAt, r.resumeAt} {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return next
}

// Beat does what is due at the time that Next returned. After an error the session can no longer be used.
func (r *Roster) Beat(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := atMost(ctx)
	defer cancel()
	now := time.Now()
	var err error
	switch {
	case !now.Before(r.beatAt):
		_, err = r.say(ctx, conn)
	case !r.probeAt.IsZero() && !now.Before(r.probeAt):
		_, err = r.ask(ctx, conn, r.probe, r.config.Name)
	default:
		if err = conn.Ping(ctx); err == nil {
			r.heldAt = now
		}
	}
	if err == nil && !r.resumeAt.IsZero() && !time.Now().Before(r.resumeAt) {
		r.resumeAt = time.Time{}
		r.config.Resume()
	}
	return err
}

// say writes this worker's row, and probes. It returns nil when the database refuses either.
func (r *Roster) say(ctx context.Context, conn *pgx.Conn) ([]probed, error) {
	report := r.config.Report()
	var notReady *string
	if report.NotReady != "" {
		notReady = &report.NotReady
	}
	r.beatAt = time.Now().Add(beatEvery)
	r.registered = true // whatever the answer
	return r.ask(ctx, conn, r.beat, r.config.Name, r.config.Host, r.config.Version, r.session.pid, r.session.backendStart, r.started,
		r.config.Lease.Milliseconds(), report.InFlight, r.ahead.Milliseconds(), notReady)
}

// ask probes the other workers, and judges.
func (r *Roster) ask(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]probed, error) {
	asked := time.Now()
	answers, clock, err := readProbe(ctx, conn, sql, args...)
	if err != nil {
		return nil, r.failed(ctx, conn, err)
	}
	r.heldAt = asked
	r.ahead = asked.Add(time.Since(asked) / 2).Sub(clock)
	verify, watch := r.judge.probe(answers, asked)
	r.probeAt = time.Time{}
	if watch {
		r.probeAt = asked.Add(probeEvery)
	}
	died := r.verified(ctx, verify)
	r.mu.Lock()
	r.dead, r.deadTo = r.judge.dead(time.Now()), asked.Add(believedFor)
	r.mu.Unlock()
	if len(died) > 0 {
		r.config.Died(died)
	}
	return answers, nil
}

// failed judges an error of a statement on the session. The database's own answers leave the session as it is: there is no
// table, the row is locked, the server is read-only. The lock is still held.
func (r *Roster) failed(ctx context.Context, conn *pgx.Conn, err error) error {
	var refused *pgconn.PgError
	if conn.IsClosed() || !errors.As(err, &refused) {
		return fmt.Errorf("say that this worker lives: %w", err)
	}
	r.heldAt, r.probeAt = time.Now(), time.Time{}
	switch refused.Code {
	case "42P01", "3F000", "42501", "42703": // no table, no schema, no privilege, another table
		r.registered, r.beatAt = false, time.Now().Add(absentEvery)
		if !r.told {
			r.told = true
			r.config.Logger.InfoContext(ctx, "this worker cannot register: when it dies, its messages wait until their leases end", "error", err)
		}
	}
	return nil
}

// verifyTimeout bounds the query on the pool; the session is silent during that time.
const verifyTimeout = 2 * time.Second

// verified asks the pool whether it agrees on who died.
func (r *Roster) verified(ctx context.Context, suspects []*suspect) (died []string) {
	if len(suspects) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	names, pids, starts := make([]string, len(suspects)), make([]int32, len(suspects)), make([]time.Time, len(suspects))
	for i, s := range suspects {
		names[i], pids[i], starts[i] = s.name, s.pid, s.backendStart
	}
	rows, err := r.config.Pool.Query(ctx, r.verify, names, pids, starts, r.server)
	if err == nil {
		died, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		r.config.Logger.DebugContext(ctx, "workers seem to have died, but the pool cannot be asked", "workers", names, "error", err)
		return nil
	}
	for _, name := range died {
		s := r.judge.suspects[name]
		s.died = time.Now()
		r.config.Logger.WarnContext(ctx, "a worker died: what it had claimed is delivered by others", "died", name, "host", s.host)
	}
	return died
}

// Lost is called when the session ended, or could not be opened. It returns when to try again.
func (r *Roster) Lost(ctx context.Context) (again time.Duration) {
	now := time.Now()
	r.judge = nil
	r.mu.Lock()
	r.dead = nil
	r.mu.Unlock()
	if !r.registered {
		return againLater
	}
	if r.lostAt.IsZero() {
		r.lostAt = now
	}
	r.config.Suspend()
	if now.Sub(r.lostAt) < grace || !r.deregister(ctx) {
		return againEvery
	}
	r.config.Logger.WarnContext(ctx, "this worker has no session for its lock; when it dies now, its messages wait until their leases end")
	select { // until nobody takes it for dead any longer
	case <-time.After(noticedAfter):
	case <-ctx.Done():
	}
	r.registered = false
	r.config.Resume()
	return againLater
}

// deregister removes this worker's row: then nobody judges it.
func (r *Roster) deregister(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	_, err := r.config.Pool.Exec(ctx, r.retire, r.config.Name)
	return err == nil
}

// Leave is called before the session is closed while it lives. If ended, the row is removed, even by a session without the lock:
// the requests in flight of a worker that stops belong to it until their leases end. Otherwise the lock, if this session has it,
// counts as held until now.
func (r *Roster) Leave(ctx context.Context, conn *pgx.Conn, ended bool) {
	switch {
	case !r.registered:
	case ended:
		if _, err := conn.Exec(ctx, r.retire, r.config.Name); err != nil {
			r.config.Logger.DebugContext(ctx, "this worker's row could not be removed", "error", err)
		}
	case r.judge != nil: // this session has the lock
		if now := time.Now(); conn.Ping(ctx) == nil {
			r.heldAt = now
		}
	}
}
