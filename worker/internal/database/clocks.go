package database

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
)

// Clocks compares this process's clock with the database's, which decides when a message is due and when a lease ends. A
// difference delays nothing here. It makes times in logs, signatures and ids differ, and River's own timers run by this
// clock.
type Clocks struct {
	Logger *slog.Logger

	mu    sync.Mutex
	said  time.Time
	known bool
	ahead time.Duration // of the database's, as the last comparison found; the middle of the possible range
}

const (
	ClocksMayDiffer = time.Second
	clocksSayAgain  = time.Minute
)

// Compare takes the database's clock, and the times of this process's clock before the query and after its answer. Only what
// lies outside of that span is certainly a difference.
func (c *Clocks) Compare(ctx context.Context, asked, database, answered time.Time) {
	ahead, behind := asked.Sub(database), database.Sub(answered)
	c.keep((ahead - behind) / 2)
	if max(ahead, behind) <= ClocksMayDiffer {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.said.IsZero() && answered.Sub(c.said) < clocksSayAgain {
		return
	}
	c.said = answered
	which, by := "ahead of", ahead
	if behind > ahead {
		which, by = "behind", behind
	}
	c.Logger.WarnContext(ctx, "this host's clock is "+which+" the database's", "by_at_least", by.Round(time.Millisecond))
}

func (c *Clocks) keep(ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead, c.known = ahead, true
}

// Measure exports the difference of the clocks.
func (c *Clocks) Measure(m *instruments.Maker) {
	gauge := m.Gauge("outbox.clock.ahead", "s", "How far this process's clock is ahead of the database's; negative when it is behind.")
	m.Watch(func(seen instruments.Seen) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.known {
			seen(gauge, c.ahead.Seconds())
		}
	}, gauge)
}
