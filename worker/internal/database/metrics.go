package database

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
)

// Cause is what a connection is used for, as a label of metrics.
type Cause string

// The causes. Other is for uses without a cause: River's statements.
const (
	CauseClaim  Cause = "claim"
	CauseScan   Cause = "scan"
	CauseRecord Cause = "record"
	CauseLoad   Cause = "load" // of large bodies
	CauseSample Cause = "sample"
	CauseMove   Cause = "move"   // of messages into the lane of a URL that is set aside
	CauseListen Cause = "listen" // leaves the pool, and is in use as long as the worker works
	CauseOther  Cause = "other"
)

var causes = []Cause{CauseClaim, CauseScan, CauseRecord, CauseLoad, CauseSample, CauseMove, CauseListen, CauseOther}

type causeKey struct{}

// For returns a context that says what the connections taken with it are used for.
func For(ctx context.Context, cause Cause) context.Context {
	return context.WithValue(ctx, causeKey{}, cause)
}

func causeOf(ctx context.Context) Cause {
	if cause, ok := ctx.Value(causeKey{}).(Cause); ok {
		return cause
	}
	return CauseOther
}

// poolUse measures what connections are used for, and how long callers wait for them. It is a tracer of the pool.
type poolUse struct {
	wait map[string]instruments.Histogram

	mu    sync.Mutex
	inUse map[*pgx.Conn]Cause
}

// measure sets up the measurement of a pool that will be opened with this configuration. It keeps a tracer of the caller's.
func (p *Pool) measure(config *pgxpool.Config, m *instruments.Maker) {
	if m == nil {
		return
	}
	names := make([]string, len(causes))
	for i, cause := range causes {
		names[i] = string(cause)
	}
	use := &poolUse{
		wait: m.Histogram("outbox.pool.wait", "s", "How long a caller waits for a connection of the pool, by what it is used for.", instruments.Statements).
			By("cause", names...),
		inUse: map[*pgx.Conn]Cause{},
	}
	if theirs := config.ConnConfig.Tracer; theirs != nil {
		config.ConnConfig.Tracer = multitracer.New(use, theirs)
	} else {
		config.ConnConfig.Tracer = use
	}
	inUse := m.Gauge("outbox.pool.in_use", "{connection}", "Connections of the pool in use, by what they are used for.").By("cause", names...)
	open := m.Gauge("outbox.pool.open", "{connection}", "Connections of the pool that are open, those in use included.").With()
	limit := m.Gauge("outbox.pool.limit", "{connection}", "Connections that the pool may have.").With()
	watched := []instruments.Gauge{open, limit}
	for _, g := range inUse {
		watched = append(watched, g)
	}
	m.Watch(func(seen instruments.Seen) {
		for name, n := range use.now() {
			seen(inUse[string(name)], float64(n))
		}
		if stat := p.Stat(); stat != nil {
			seen(open, float64(stat.TotalConns()))
			seen(limit, float64(stat.MaxConns()))
		}
	}, watched...)
}

func (u *poolUse) now() map[Cause]int {
	counts := map[Cause]int{}
	for _, cause := range causes {
		counts[cause] = 0
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, cause := range u.inUse {
		counts[cause]++
	}
	return counts
}

type acquireKey struct{}

// TraceAcquireStart is called by the pool.
func (u *poolUse) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return context.WithValue(ctx, acquireKey{}, time.Now())
}

// TraceAcquireEnd is called by the pool.
func (u *poolUse) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	cause := causeOf(ctx)
	if began, ok := ctx.Value(acquireKey{}).(time.Time); ok {
		u.wait[string(cause)].Since(began)
	}
	if data.Err == nil && cause != CauseListen {
		u.mu.Lock()
		u.inUse[data.Conn] = cause
		u.mu.Unlock()
	}
}

// TraceRelease is called by the pool.
func (u *poolUse) TraceRelease(_ *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	u.mu.Lock()
	delete(u.inUse, data.Conn)
	u.mu.Unlock()
}

// TraceQueryStart is needed for the interface of a tracer.
func (u *poolUse) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd is needed for the interface of a tracer.
func (u *poolUse) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
