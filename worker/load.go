package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/semaphore"
)

// claimedBytesMax is the largest body that a claim brings along. A larger one is loaded by itself, when the bytes in
// flight leave room: so a worker's memory is bounded by MaxInFlight small bodies and MaxBytesInFlight of large ones,
// whatever waits in the outbox.
const claimedBytesMax = 64 << 10

// loader brings large bodies.
type loader struct {
	pool  *pgxpool.Pool
	sql   string
	bytes *semaphore.Weighted
	max   int64
}

const loadSQL = `SELECT coalesce(result, convert_to(error, 'UTF8'), ''::bytea) FROM outbox.message WHERE id = $1::text::uuid`

// loadTimeout bounds the wait for room and the load together: with a request after it, it must end within the lease.
const loadTimeout = LeaseMargin / 2

func newLoader(pool *pgxpool.Pool, schema string, max int64) *loader {
	return &loader{pool: pool, sql: inSchema(loadSQL, schema), bytes: semaphore.NewWeighted(max), max: max}
}

// load completes a message whose body the claim left in its row, and returns what gives the bytes back. Its error says
// that there was no room, or no database, in time: the message has to wait.
func (l *loader) load(ctx context.Context, m *message) (done func(), err error) {
	if m.bodyBytes <= claimedBytesMax {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, loadTimeout, fmt.Errorf("took longer than %v", loadTimeout))
	defer cancel()
	weight := min(int64(m.bodyBytes), l.max)
	if err := l.bytes.Acquire(ctx, weight); err != nil {
		return nil, fmt.Errorf("room for its %d bytes among those in flight: %w", m.bodyBytes, context.Cause(ctx))
	}
	err = l.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		if err := c.QueryRow(ctx, l.sql, m.id.String()).Scan(&m.body); err != nil {
			return err
		}
		// A connection keeps the buffer of the last thing it read, twice as large as a body, until it reads again.
		return c.Ping(ctx)
	})
	if err != nil {
		l.bytes.Release(weight)
		return nil, fmt.Errorf("loading its %d bytes: %w", m.bodyBytes, err)
	}
	return func() { l.bytes.Release(weight) }, nil
}

// loadAgain is how long a message waits that found no room.
const loadAgain = time.Second
