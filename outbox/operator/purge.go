package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Purge erases all data of a tenant or of a run in the outbox: its messages with their dedupe keys, attempts, due and dead
// rows, the copies that replays made of them, and the riverstep runs that they were written for. There is no index over
// tenants, so it reads all messages, in the order of their ids and in many statements: no snapshot lasts longer than one
// statement.
//
// Messages written after the survey are not erased. It waits for messages that are being delivered. An active run stays, and
// so does one that the message of another tenant belongs to; the pauses and limits of the tenant stay too.
//
// Erased rows leave the files with the next VACUUM, and leave backups and the write-ahead log when those are removed.
type Purge struct {
	store  *Store
	runID  string                 // only messages of this run; all when empty
	end    outbox.ID              // the last message that was there when the survey began
	copies map[outbox.ID]struct{} // messages that are copies of the tenant's, and name no tenant
	report func(PurgeProgress)

	left    map[outbox.ID]struct{} // messages to try again
	refused int
}

// PurgeProgress is the progress of a purge.
type PurgeProgress struct {
	Walked int64 // messages that were read
	About  int64 // about how many there are; 0 when that is not known
	Counts PurgeCounts
}

// PurgeCounts is what a purge found, or erased.
type PurgeCounts struct {
	Messages   int64 `json:"messages"`
	Copies     int64 `json:"copies"` // of the messages, those that a replay made
	DedupeKeys int64 `json:"dedupe_keys"`
	Attempts   int64 `json:"attempts"`
	Due        int64 `json:"due"`
	Dead       int64 `json:"dead"`  // includes cancelled ones
	Runs       int64 `json:"runs"`  // of riverstep; a survey also counts those that belong to the message of another tenant
	Lanes      int64 `json:"lanes"` // lanes of the tenant, at endpoints and URLs

	// What an erasure left.
	Left        int64  `json:"left"`         // messages that are being delivered, that another transaction has locked, or that the database keeps
	Refusal     string `json:"refusal"`      // why the database keeps one of them
	ActiveRuns  int64  `json:"active_runs"`  // runs of riverstep that have not ended
	PausedLanes int64  `json:"paused_lanes"` // the tenant's pauses and limits
}

func (c *PurgeCounts) add(n PurgeCounts) {
	c.Messages += n.Messages
	c.Copies += n.Copies
	c.DedupeKeys += n.DedupeKeys
	c.Attempts += n.Attempts
	c.Due += n.Due
	c.Dead += n.Dead
	c.Runs += n.Runs
	c.ActiveRuns += n.ActiveRuns
}

// Bounds of a purge.
const (
	purgePage      = 5000      // messages that one statement reads
	purgeBatch     = 500       // messages that one transaction erases
	purgeLeftMax   = 10_000    // messages that are tried again later; with more, the purge ends
	purgeCopiesMax = 1_000_000 // copies that name no tenant, of all tenants
	purgePause     = 250 * time.Millisecond
)

// Purge returns a purge of the tenant of the store ([Store.OfTenant]), of a run, or, with both, of a run of the tenant. It does
// nothing yet. report is called at each step, and may be nil.
func (s *Store) Purge(runID string, report func(PurgeProgress)) (*Purge, error) {
	if runID == "" && s.tenant == "" {
		return nil, errors.New("purge: name a tenant or a run")
	}
	if report == nil {
		report = func(PurgeProgress) {}
	}
	return &Purge{store: s, runID: runID, report: report, copies: map[outbox.ID]struct{}{}, left: map[outbox.ID]struct{}{}}, nil
}

// Survey counts what would be erased, and changes nothing. [Purge.Erase] erases what the last survey found.
func (p *Purge) Survey(ctx context.Context) (PurgeCounts, error) {
	counts, err := p.survey(ctx)
	if err != nil {
		return counts, fmt.Errorf("purge: %w", err)
	}
	return counts, nil
}

// Erase erases what was surveyed, and returns what it erased, even with an error. For the time wait, it retries messages that
// are being delivered or are locked. It can be called again.
func (p *Purge) Erase(ctx context.Context, wait time.Duration) (PurgeCounts, error) {
	var counts PurgeCounts
	err := p.erase(ctx, wait, &counts)
	counts.Left = int64(len(p.left) + p.refused)
	if err != nil {
		return counts, fmt.Errorf("purge: %w", err)
	}
	return counts, nil
}

func (p *Purge) erase(ctx context.Context, wait time.Duration, counts *PurgeCounts) error {
	p.refused = 0
	clear(p.left)
	err := p.walk(ctx, func(page []purgeable, progress PurgeProgress) error {
		var ids []outbox.ID
		for _, m := range page {
			if _, copied := p.copies[m.id]; m.mine || copied {
				ids = append(ids, m.id)
			}
		}
		err := p.eraseAll(ctx, ids, counts)
		progress.Counts = *counts
		p.report(progress)
		return err
	})
	for until := time.Now().Add(wait); err == nil && len(p.left) > 0 && time.Now().Before(until); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(purgePause):
		}
		again := make([]outbox.ID, 0, len(p.left))
		for id := range p.left {
			again = append(again, id)
		}
		clear(p.left)
		err = p.eraseAll(ctx, again, counts)
	}
	if err == nil {
		err = p.eraseRunsAndLanes(ctx, counts)
	}
	return err
}

// eraseAll erases messages in bounded transactions. A batch that meets a lock, or that the database refuses, is halved until
// the message at fault is alone.
func (p *Purge) eraseAll(ctx context.Context, ids []outbox.ID, counts *PurgeCounts) error {
	var todo [][]outbox.ID
	for len(ids) > 0 {
		n := min(len(ids), purgeBatch)
		todo = append(todo, ids[:n])
		ids = ids[n:]
	}
	for len(todo) > 0 {
		part := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		err := p.eraseBatch(ctx, part, counts)
		locked, refused := aboutRows(err)
		switch {
		case err == nil:
		case !locked && !refused:
			return err
		case len(part) > 1:
			half := len(part) / 2
			todo = append(todo, part[half:], part[:half])
		case locked:
			p.left[part[0]] = struct{}{}
		default:
			p.refused++
			counts.Refusal = fmt.Sprintf("message %s: %v", part[0], err)
		}
		if n := len(p.left) + p.refused; n > purgeLeftMax {
			return fmt.Errorf("%d messages are locked, being delivered or kept by the database (%s); try again later", n, counts.Refusal)
		}
	}
	return nil
}

// aboutRows reports an error that only some rows cause: a wait for a lock without success, or a rule, a trigger or a
// foreign key that protects a row.
func aboutRows(err error) (locked, refused bool) {
	switch code := sqlstate.Of(err); {
	case code == "55P03", code == "40P01", code == "40001":
		return true, false
	default:
		return false, strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") || strings.HasPrefix(code, "P0")
	}
}
