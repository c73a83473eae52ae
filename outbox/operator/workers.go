package operator

import (
	"context"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/internal/sqltime"
)

// WorkerStatus is one row of outbox.worker: what a worker last wrote about itself. The row of a killed worker stays for an
// hour; a worker that stops removes its own. A worker behind a pooler in transaction mode has none.
type WorkerStatus struct {
	Name         string    `json:"name"` // as in locked_by
	Host         string    `json:"host"`
	Version      string    `json:"version"`
	Started      time.Time `json:"started"`
	Seen         time.Time `json:"seen"`
	InFlight     int       `json:"in_flight"`
	ClockAheadMS int64     `json:"clock_ahead_ms"` // how far its clock is ahead of the database's
	NotReady     *string   `json:"not_ready"`      // what keeps it from delivering
}

// WorkerSeenMax is the greatest age of the row of a living worker, which writes it every five seconds.
const WorkerSeenMax = 15 * time.Second

// Lives reports whether the worker was seen a moment ago, by the database's clock.
func (w WorkerStatus) Lives(now time.Time) bool { return now.Sub(w.Seen) <= WorkerSeenMax }

// Workers lists the workers, the one seen last first. Tables older than version 5 have none.
func (s *Store) Workers(ctx context.Context) ([]WorkerStatus, error) {
	list, err := collect[WorkerStatus](ctx, s, "workers",
		`SELECT name, host, version, `+sqltime.Bounded("started")+`, `+sqltime.Bounded("seen")+`, in_flight, clock_ahead_ms, not_ready
FROM outbox.worker ORDER BY seen DESC, name`)
	if sqlstate.Of(err) == "42P01" { // no such table
		return nil, nil
	}
	return list, err
}
