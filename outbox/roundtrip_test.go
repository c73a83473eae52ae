package outbox_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

// countingConn counts round trips: answers that begin after something was sent.
type countingConn struct {
	net.Conn
	asked atomic.Bool
	trips *atomic.Int32
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.asked.Store(true)
	return c.Conn.Write(b)
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.asked.CompareAndSwap(true, false) {
		c.trips.Add(1)
	}
	return n, err
}

func TestAMessageInABatchCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	fixture.Execute(t, db, "CREATE TABLE %s.step (run_id text PRIMARY KEY, acknowledged boolean NOT NULL)", db.Schema)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
		var trips atomic.Int32
		pool := db.NewPool(t, func(c *pgxpool.Config) {
			c.MaxConns = 1
			c.ConnConfig.DefaultQueryExecMode = mode
			dial := c.ConnConfig.DialFunc
			c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				return &countingConn{Conn: conn, trips: &trips}, err
			}
		})
		w := fixture.Writer(t, db)
		acknowledge := func(withMessage bool) int32 {
			tx := fixture.Begin(t, pool)
			before := trips.Load()
			var batch pgx.Batch
			batch.Queue("INSERT INTO "+db.Schema+".step VALUES (gen_random_uuid()::text, $1)", true)
			if withMessage {
				_, err := w.Queue(&batch, fixture.Message("run"))
				must(t, err)
			}
			must(t, tx.SendBatch(t.Context(), &batch).Close())
			after := trips.Load()
			must(t, tx.Commit(t.Context()))
			return after - before
		}
		acknowledge(true) // the first time statements are prepared, in a round trip of their own
		if bare, both := acknowledge(false), acknowledge(true); bare != 1 || both != 1 {
			t.Errorf("%v: the acknowledgement takes %d round trips, with the message %d", mode, bare, both)
		}
	}
	if steps, messages := fixture.Count(t, db, "step"), fixture.Count(t, db, "message"); steps != 6 || messages != 4 {
		t.Errorf("%d steps, %d messages", steps, messages)
	}
}
