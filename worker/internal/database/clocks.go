package database

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Clocks compares this process's clock with the database's, which decides when a message is due and when a lease ends. A
// difference delays nothing here. It makes times in logs, signatures and ids differ, and River's own timers run by this
// clock.
type Clocks struct {
	Logger *slog.Logger

	mu   sync.Mutex
	said time.Time
}

const (
	ClocksMayDiffer = time.Second
	clocksSayAgain  = time.Minute
)

// Compare is given the database's clock, and when it was asked for and answered by this process's. Only what lies outside
// of that span is a difference for sure.
func (c *Clocks) Compare(ctx context.Context, asked, database, answered time.Time) {
	ahead, behind := asked.Sub(database), database.Sub(answered)
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
