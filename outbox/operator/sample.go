package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/internal/sqltime"
)

// Sample is what a worker last measured of the outbox: one row of outbox.sample. A figure that could not be measured is nil,
// and its group is in Missing.
type Sample struct {
	At         time.Time `json:"at"`
	Worker     string    `json:"worker"`
	IntervalMS int64     `json:"interval_ms"` // until the next sample
	TookMS     int64     `json:"took_ms"`
	Missing    []string  `json:"missing"`   // groups: due, dead, oldest_due, lanes, horizon, retention, workers
	Estimated  []string  `json:"estimated"` // due and dead: counts beyond 100 000; horizon: a lower bound, for a role that may not see all sessions

	Pending       *int64           `json:"pending"`
	Delivering    *int64           `json:"delivering"`
	Retrying      *int64           `json:"retrying"`
	Waits         map[string]int64 `json:"waits"`      // messages that wait for something that the worker lacks, by what: signing_key, proxy, database, other
	Dead          map[string]int64 `json:"dead"`       // by reason
	OldestDue     *time.Time       `json:"oldest_due"` // due time of the oldest message that is not in flight and not held back; nil also when there is none
	BreakersOpen  *int64           `json:"breakers_open"`
	Paused        *int64           `json:"paused"`
	DueDeadRows   *int64           `json:"due_dead_rows"`   // row versions of due that vacuum has not removed
	HorizonSince  *time.Time       `json:"horizon_since"`   // since when a transaction keeps vacuum from removing rows; nil also when none does
	HorizonXIDs   *int64           `json:"horizon_xids"`    // the same in transactions, replication slots included
	RetentionFrom *time.Time       `json:"retention_since"` // since when retention should have removed the oldest row that is still there; nil also when there is none
	Workers       *int64           `json:"workers"`
}

// Stale reports whether the sample is older than three intervals by the clock of the database, and so says nothing about the present.
func (s Sample) Stale(now time.Time) bool {
	return now.Sub(s.At) > sampleStaleAfter*time.Duration(s.IntervalMS)*time.Millisecond
}

// sampleStaleAfter is after how many intervals a sample is stale.
const sampleStaleAfter = 3

// Sample returns the newest sample, and the database's time now. Without one, as on tables before version 7, it returns nil.
func (s *Store) Sample(ctx context.Context) (newest *Sample, now time.Time, err error) {
	var waits, dead []byte
	var x Sample
	err = s.db.QueryRow(ctx, s.in(`SELECT pg_catalog.now(), `+sqltime.Bounded("at")+`, worker, interval_ms, took_ms, missing, estimated, pending, delivering, retrying,
    waits::pg_catalog.text, dead::pg_catalog.text, `+sqltime.Bounded("oldest_due")+`, breakers_open, paused, due_dead_rows, `+sqltime.Bounded("horizon_since")+`, horizon_xids, `+
		sqltime.Bounded("retention_since")+`, workers
FROM outbox.sample ORDER BY at DESC LIMIT 1`)).Scan(&now, &x.At, &x.Worker, &x.IntervalMS, &x.TookMS, &x.Missing, &x.Estimated, &x.Pending,
		&x.Delivering, &x.Retrying, &waits, &dead, &x.OldestDue, &x.BreakersOpen, &x.Paused, &x.DueDeadRows, &x.HorizonSince, &x.HorizonXIDs,
		&x.RetentionFrom, &x.Workers)
	if errors.Is(err, pgx.ErrNoRows) || sqlstate.Of(err) == "42P01" { // no such table
		return nil, now, nil
	}
	for _, part := range []struct {
		text []byte
		to   *map[string]int64
	}{{waits, &x.Waits}, {dead, &x.Dead}} {
		if err == nil && part.text != nil {
			err = json.Unmarshal(part.text, part.to)
		}
	}
	if err != nil {
		return nil, now, fmt.Errorf("sample: %w", err)
	}
	return &x, now, nil
}
