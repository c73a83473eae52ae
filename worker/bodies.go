package worker

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// bodies bring the large bodies, which a claim leaves in their rows, when the bytes in flight leave room. So a worker's
// memory is bounded by MaxInFlight small bodies and MaxBytesInFlight of large ones, whatever waits in the outbox.
type bodies struct {
	loader *postgres.Loader
	bytes  *semaphore.Weighted
	max    int64
}

// loadTimeout bounds the wait for room and the load together: with a request after it, it must end within the lease.
const loadTimeout = LeaseMargin / 2

// loadAgain is how long a message waits that found no room.
const loadAgain = time.Second

func newBodies(loader *postgres.Loader, most int) *bodies {
	return &bodies{loader: loader, bytes: semaphore.NewWeighted(int64(most)), max: int64(most)}
}

// load completes a message whose body the claim left in its row, and returns what gives the bytes back. Its error says
// that there was no room, or no database, in time: the message has to wait.
func (b *bodies) load(ctx context.Context, m *postgres.Message) (done func(), err error) {
	if m.BodyBytes <= postgres.BodyMax {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, loadTimeout, fmt.Errorf("took longer than %v", loadTimeout))
	defer cancel()
	weight := min(int64(m.BodyBytes), b.max)
	if err := b.bytes.Acquire(ctx, weight); err != nil {
		return nil, fmt.Errorf("room for its %d bytes among those in flight: %w", m.BodyBytes, context.Cause(ctx))
	}
	if m.Body, err = b.loader.Load(ctx, m.ID); err != nil {
		b.bytes.Release(weight)
		return nil, fmt.Errorf("loading its %d bytes: %w", m.BodyBytes, err)
	}
	return func() { b.bytes.Release(weight) }, nil
}
