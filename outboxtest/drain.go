package outboxtest

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/worker"
)

// Serve returns the URL of a server on this machine that answers with the handler, until the test ends.
func Serve(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// drainMax bounds one drain: a worker's start, the deliveries, its stop.
const drainMax = 30 * time.Second

// Drain delivers every due message with a real worker, and returns when none is due: each has arrived, is dead, or waits for
// its next attempt. It calls only this machine, see [Serve]; a message to another host ends the test before anything is sent.
//
// Schema, AllowHTTP, AllowedCIDRs and Logger of the configuration are set here; all other fields are the caller's, such as the
// signing keys and the retry schedule.
func (b *Box) Drain(pool *pgxpool.Pool, config worker.Config) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), drainMax)
	defer cancel()
	b.requireOurs(ctx, pool)

	config.Schema, config.AllowHTTP = b.schema, true
	config.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	config.Logger = slog.New(slog.DiscardHandler)
	if config.PollInterval == 0 {
		config.PollInterval = 20 * time.Millisecond
	}
	own := pool.Config() // the worker needs connections of its own, and more than a test may have
	own.MaxConns, own.MinConns = worker.ConnsMin+2, 0
	ownPool, err := pgxpool.NewWithConfig(ctx, own)
	if err != nil {
		b.t.Fatalf("outboxtest: %v", err)
	}
	defer ownPool.Close()
	w, err := worker.New(ownPool, config)
	if err != nil {
		b.t.Fatalf("outboxtest: %v", err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	left, err := b.untilNothingIsDue(ctx, pool, ended)
	stop()
	if err == nil {
		err = <-ended
	}
	if err != nil {
		b.t.Fatalf("outboxtest: %d messages are still due: %v", left, err)
	}
}

// DrainURL is [Box.Drain] for a service that has no pool of pgx: the database is named by its URL.
func (b *Box) DrainURL(databaseURL string, config worker.Config) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), drainMax)
	defer cancel()
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		b.t.Fatalf("outboxtest: %v", err)
	}
	defer pool.Close()
	b.Drain(pool, config)
}

// untilNothingIsDue polls, because the worker does not say when it has nothing to do.
func (b *Box) untilNothingIsDue(ctx context.Context, pool *pgxpool.Pool, ended <-chan error) (left int, err error) {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		err = pool.QueryRow(ctx, b.in(`SELECT count(*) FROM outbox.due
WHERE due_at <= statement_timestamp() OR locked_until > statement_timestamp()`)).Scan(&left)
		if err != nil || left == 0 {
			return left, err
		}
		select {
		case err = <-ended:
			return left, err
		case <-ctx.Done():
			return left, ctx.Err()
		case <-look.C:
		}
	}
}

// requireOurs ends the test when a message is due to another machine.
func (b *Box) requireOurs(ctx context.Context, pool *pgxpool.Pool) {
	b.t.Helper()
	found, err := pool.Query(ctx, b.in(`SELECT DISTINCT endpoint FROM outbox.due ORDER BY endpoint`))
	if err != nil {
		b.t.Fatalf("outboxtest: %v", err)
	}
	endpoints, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		b.t.Fatalf("outboxtest: %v", err)
	}
	for _, endpoint := range endpoints {
		at, err := url.Parse(endpoint)
		if err != nil {
			b.t.Fatalf("outboxtest: endpoint %q: %v", endpoint, err)
		}
		if addr, err := netip.ParseAddr(at.Hostname()); err != nil || !addr.IsLoopback() {
			b.t.Fatalf("outboxtest: a message is due to %s, which is not this machine; give the run a URL from Serve", endpoint)
		}
	}
}
