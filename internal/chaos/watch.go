package main

import (
	"context"
	"fmt"
	"time"
)

// The bounds on waiting. DESIGN.md promises two polls; the allowance is for connecting again and for a busy machine.
const (
	allowance  = 5 * time.Second
	originMax  = 2*poll + allowance         // while an origin has something to claim, a request comes this often
	messageMax = lease + 2*poll + allowance // a message of a healthy origin is tried within this time, whichever worker had claimed it
)

// dueRow is a row of outbox.due that is due, at an origin that nothing holds back.
type dueRow struct {
	id, origin string
	leased     bool
}

// watch measures liveness. Several times a second it gets what is due, and compares it with what the receiver got. A clock runs
// for each message at a healthy origin, and for each origin that has something to claim. A request resets the clock,
// and so does a fault that touches the message or the origin.
type watch struct {
	workers  int
	healthy  map[string]bool // origins
	faults   func(from, to time.Time) []fault
	tried    func(id string) time.Time     // the last request
	triedAt  func(origin string) time.Time // the last request to the origin
	messages map[string]time.Time          // since when each message waits
	origins  map[string]time.Time
	told     map[string]bool

	longest       time.Duration // the longest wait of a message
	longestWhat   string
	longestOrigin time.Duration // the longest wait of an origin
	longestBeside time.Duration // the longest wait of either during a fault that touched only others
	samples       int
	missed        int // samples that could not be taken
}

func newWatch(workers int, healthy map[string]bool) *watch {
	return &watch{workers: workers, healthy: healthy, messages: map[string]time.Time{}, origins: map[string]time.Time{}, told: map[string]bool{}}
}

// sample takes what is due now, and returns the violations. before is the time of the last sample.
func (w *watch) sample(before, now time.Time, rows []dueRow) (stalls []violation) {
	w.samples++
	faults := w.faults(before, now)
	messages, origins := map[string]time.Time{}, map[string]time.Time{}
	for _, row := range rows {
		if w.healthy[row.origin] {
			since := clock(w.messages[row.id], w.tried(row.id), now, mayWait(faults, w.workers, row.origin, row.id))
			messages[row.id] = since
			if waited := now.Sub(since); waited > w.longest {
				w.longest, w.longestWhat = waited, fmt.Sprintf("%s to %s, at %s", row.id, row.origin, now.Format(timeFormat))
			}
			w.beside(faults, now.Sub(since))
			stalls = w.judge(stalls, "message "+row.id, row, since, now, messageMax)
		}
		if _, seen := origins[row.origin]; !row.leased && !seen && !mayWait(faults, w.workers, row.origin, row.id) {
			since := clock(w.origins[row.origin], w.triedAt(row.origin), now, false)
			origins[row.origin] = since
			w.longestOrigin = max(w.longestOrigin, now.Sub(since))
			w.beside(faults, now.Sub(since))
			stalls = w.judge(stalls, "origin", row, since, now, originMax)
		}
	}
	w.messages, w.origins = messages, origins
	return stalls
}

func (w *watch) beside(faults []fault, waited time.Duration) {
	if len(faults) > 0 {
		w.longestBeside = max(w.longestBeside, waited)
	}
}

const timeFormat = "15:04:05.000"

// clock returns since when something waits.
func clock(since, tried, now time.Time, touched bool) time.Time {
	if since.IsZero() || touched {
		return now
	}
	if tried.After(since) {
		return tried
	}
	return since
}

// judge adds a violation, once for each wait.
func (w *watch) judge(stalls []violation, what string, row dueRow, since, now time.Time, bound time.Duration) []violation {
	key := what + row.origin + since.String()
	if now.Sub(since) <= bound || w.told[key] {
		return stalls
	}
	w.told[key] = true
	return append(stalls, violation{
		rule: "stall", message: row.id, what: fmt.Sprintf("%s (%s) has waited since %s, for %v; the bound is %v", what, row.origin, since.Format(timeFormat), now.Sub(since).Round(time.Millisecond), bound),
		from: since, to: now,
	})
}

// sampleEvery is the interval of samples. A sample that takes longer than sampleMax does not count.
const sampleEvery, sampleMax = 250 * time.Millisecond, time.Second

// selectDue reads what is due by the database's clock and not held back: not by its origin, its tenant there, or its URL, which
// may be set aside and tried one message at a time.
const selectDue = `SELECT d.message_id::text, split_part(d.endpoint, ' ', 1), coalesce(d.locked_until > now(), false)
FROM outbox.due d
WHERE d.due_at <= now() AND NOT EXISTS (
    SELECT FROM outbox.endpoint e
    WHERE e.endpoint IN (d.endpoint, split_part(d.endpoint, ' ', 1), split_part(d.endpoint, ' ', 1) || ' ' || split_part(d.endpoint, ' ', 2))
      AND (e.paused OR e.open_until > now() OR e.failures > 0 AND split_part(e.endpoint, ' ', 3) <> ''))
  AND EXISTS (SELECT FROM outbox.message m JOIN chaos.ack a ON a.run_id = m.run_id WHERE m.id = d.message_id)`

// watchDue samples until ctx ends. When a sample fails, as during a crash, the clocks begin anew.
func (t *trial) watchDue(ctx context.Context) {
	before := time.Now()
	for sleep(ctx, sampleEvery) {
		rows, err := t.readDue(ctx)
		now := time.Now()
		if err != nil {
			if len(t.timeline.overlapping(before, now, allowance)) == 0 && ctx.Err() == nil {
				t.detail("what is due could not be read: %v", err)
			}
			t.watch.missed++
			t.watch.messages, t.watch.origins = map[string]time.Time{}, map[string]time.Time{}
			before = now
			continue
		}
		for _, v := range t.watch.sample(before, now, rows) {
			t.violated(v)
		}
		t.backlog.Store(int64(len(rows)))
		before = now
	}
}

func (t *trial) readDue(ctx context.Context) (rows []dueRow, err error) {
	ctx, cancel := context.WithTimeout(ctx, sampleMax)
	defer cancel()
	result, err := t.stage.admin.Query(ctx, selectDue)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	for result.Next() {
		var row dueRow
		if err := result.Scan(&row.id, &row.origin, &row.leased); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, result.Err()
}
