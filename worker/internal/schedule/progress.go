package schedule

import (
	"fmt"
	"time"
)

// progress is what scans and claims show about whether deliveries go on. It is computed from scans that are made anyway.
type progress struct {
	// scannedAt is when a scan last succeeded.
	scannedAt time.Time
	// madeAt is when there was progress last: somebody claimed something, here or, as scans show, elsewhere; or there was nothing to
	// claim.
	madeAt time.Time
	// waiting are the candidates of the last full scan from the beginning, and since when each has something to claim.
	waiting map[string]time.Time
}

// scanned takes the result of a full scan from the beginning. An endpoint had something to claim: if it is gone, or what is due
// there is due since later, somebody claimed it.
func (p *progress) scanned(found []Candidate, cut bool, now time.Time) {
	waiting := make(map[string]time.Time, len(found))
	for _, c := range found {
		waiting[c.Endpoint] = c.Since
	}
	claimed := len(found) == 0 || len(p.waiting) == 0
	for name, since := range p.waiting {
		still, there := waiting[name]
		beyond := cut && name > found[len(found)-1].Endpoint // not reached by this scan
		claimed = claimed || !there && !beyond || there && still.After(since)
	}
	if claimed {
		p.madeAt = now
	}
	p.waiting = waiting
}

// Stuck says what keeps messages from being claimed, or "". A claimable message waits, this process has a free slot, and
// nobody has claimed anything for a lease and two polls; or no scan succeeded for three polls.
func (s *Scheduler) Stuck(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.progress
	if since := now.Sub(p.scannedAt); since > s.scanPatience() {
		return fmt.Sprintf("no scan for due messages succeeded for %v", since.Round(time.Millisecond))
	}
	idle := now.Sub(p.madeAt)
	if len(p.waiting) == 0 || s.free == 0 || idle <= s.config.Lease+2*s.config.PollInterval {
		return ""
	}
	return fmt.Sprintf("messages are due at %d endpoints, and nobody has claimed any for %v (is River's queue paused?)",
		len(p.waiting), idle.Round(time.Millisecond))
}

// scanPatience is how long scans may fail. It is at least a second, however short the poll interval is, because a scan
// takes time.
func (s *Scheduler) scanPatience() time.Duration {
	return max(3*s.config.PollInterval, scanPatienceMin)
}

const scanPatienceMin = time.Second
