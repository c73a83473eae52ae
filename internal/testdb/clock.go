package testdb

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// ServerWithClock returns a server that only this test uses. Its clock is ahead of this machine's by offset, in whole seconds;
// offset may be negative. libfaketime (a Debian package) changes the clock of the server process; it cannot change that of a Go
// program, which does not use libc for the time. The test is skipped, with the reason, where the library is not installed or
// has no effect.
func ServerWithClock(t testing.TB, offset time.Duration) *throwaway.Server {
	t.Helper()
	env, found := throwaway.ClockEnv(offset)
	if !found {
		t.Skip("testdb: libfaketime is not installed (Debian: apt-get install libfaketime)")
	}
	server := ownServer(t, throwaway.Options{Env: env})
	mustDiffer(t, server.URL(), offset)
	return server
}

// mustDiffer skips the test when the server's clock is this machine's: in a container the library is not there.
func mustDiffer(t testing.TB, url string, offset time.Duration) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var now time.Time
	if err := conn.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&now); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	if off := time.Until(now) - offset; off.Abs() > offset.Abs()/2 {
		t.Skipf("testdb: libfaketime has no effect on this server: its clock is ahead by %v, not by %v", time.Until(now), offset)
	}
}
