package riverstep

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// queryer is a pool or a transaction.
type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// databaseClock asks the database for its time.
func databaseClock(ctx context.Context, db queryer) (time.Time, error) {
	var now int64
	err := db.QueryRow(ctx, `SELECT `+micros("pg_catalog.clock_timestamp()")).Scan(&now)
	return time.UnixMicro(now), err
}

// When a difference of the clocks is reported.
const (
	clocksMayDiffer = time.Second
	clocksSayAgain  = time.Minute
)

// clocks compares the clock of this process with that of the database, and logs a difference from time to time.
type clocks struct {
	mu   sync.Mutex
	said time.Time // when the last line was written
}

// compare takes the time of the database, and the times of this process when it asked and got the answer. The difference is
// known only to within half of the round trip, which is subtracted from it.
func (c *clocks) compare(ctx context.Context, log *slog.Logger, asked, database, answered time.Time) {
	half := answered.Sub(asked) / 2
	ahead := asked.Add(half).Sub(database)
	if ahead.Abs() <= clocksMayDiffer+half {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.said.IsZero() && time.Since(c.said) < clocksSayAgain {
		return
	}
	c.said = time.Now()
	log.WarnContext(ctx, "this process's clock differs from the database's: steps that are tried again begin early or late by as much",
		"ahead", ahead.Round(time.Millisecond), "uncertain", half.Round(time.Millisecond))
}
