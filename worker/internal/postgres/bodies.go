package postgres

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// Bodies load the large bodies, which a claim leaves in their rows, when the bytes in flight leave room. So a worker's
// memory is bounded by the small bodies of its slots and by a fixed number of bytes of large ones, whatever waits in the outbox.
type Bodies struct {
	loader *Loader
	bytes  *semaphore.Weighted
	max    int64
	within time.Duration
	held   atomic.Int64 // bytes that were acquired and not released
}

// NewBodies returns bodies with room for most bytes. The wait for room and the load together take at most within.
func NewBodies(loader *Loader, most int, within time.Duration) *Bodies {
	return &Bodies{loader: loader, bytes: semaphore.NewWeighted(int64(most)), max: int64(most), within: within}
}

// Load completes a message whose body the claim left in its row. It returns a function that gives the bytes back. Its error says
// that there was no room, or no database, in time: the message has to wait.
func (b *Bodies) Load(ctx context.Context, m *Message) (done func(), err error) {
	if m.BodyBytes <= BodyMax {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.within, fmt.Errorf("took longer than %v", b.within))
	defer cancel()
	weight := min(int64(m.BodyBytes), b.max)
	if err := b.bytes.Acquire(ctx, weight); err != nil {
		return nil, fmt.Errorf("room for its %d bytes among those in flight: %w", m.BodyBytes, context.Cause(ctx))
	}
	b.held.Add(weight)
	release := func() { b.held.Add(-weight); b.bytes.Release(weight) }
	if m.Body, err = b.loader.Load(ctx, m.ID); err != nil {
		release()
		return nil, fmt.Errorf("loading its %d bytes: %w", m.BodyBytes, err)
	}
	return release, nil
}

// Held is how many bytes of large bodies are held now.
func (b *Bodies) Held() int64 { return b.held.Load() }
