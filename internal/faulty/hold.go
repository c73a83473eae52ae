package faulty

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const holdMax = 10 * time.Second // to get the locks, and to give them back

// Hold runs a statement that takes locks, such as SELECT … FOR UPDATE or LOCK TABLE, in a transaction of its own, and leaves the
// transaction open. It returns when the locks are held. The connection has the pool's configuration, but is not one of the
// pool. The locks are held until release is called, or until the test ends.
func Hold(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) (release func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), holdMax)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	if err != nil {
		t.Fatalf("faulty: holding locks: %v", err)
	}
	release = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), holdMax)
		defer cancel()
		_, _ = conn.Exec(ctx, "ROLLBACK") // the locks must be free on return; the test may have ended the session
		_ = conn.Close(ctx)
	})
	t.Cleanup(release)
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		t.Fatalf("faulty: holding locks: %v", err)
	}
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		t.Fatalf("faulty: holding locks: %v", err)
	}
	return release
}
