package schedule

import "time"

// ScanKind is one of the two ways to find candidates.
type ScanKind int

const (
	// Full descends the index to each endpoint and passes what is dead or leased there. It finds everything, and is cheap
	// as long as vacuum removes what was delivered.
	Full ScanKind = iota
	// Recent reads what was written since the last scan, by the time-ordered key. It misses what was committed long after
	// it was written, what a worker gave up, and what a retry made due again: the next full scan finds those.
	Recent
)

// ScanOrder is what a scan must do.
type ScanOrder struct {
	Kind  ScanKind
	After string    // for a full scan: the endpoint at which the last one ended; empty to begin again
	Since time.Time // for a recent scan
}

// scans is the state of the scan loop.
type scans struct {
	full, recent pace
	// owed: something may have become due since the last scan began.
	owed bool
	// pollAt is when a scan is owed without any event. Each scan moves it on by a poll interval.
	pollAt time.Time
	// wakeAt is when a scan is owed because of a wake that went to the drain; zero when none is owed. A claim finds new messages by
	// itself, and the scan finds the others.
	wakeAt time.Time
	// cursor is the endpoint that the last full scan ended at, empty when it came to the end.
	cursor string
	// recentFrom is where the next recent scan begins: the start of the last scan that succeeded and read all that was
	// written until then.
	recentFrom time.Time
	// insert: a drain is to be inserted, because one ended at the end of its turn, or a scan found something and none runs.
	insert bool
	// insertedAt is when a drain was inserted last.
	insertedAt time.Time
}

// pace of one kind of scan.
type pace struct {
	began    time.Time // zero while none is being made
	took     time.Duration
	failed   bool // the last one
	pausedTo time.Time
}

const (
	// ScanMax bounds the endpoints that a full scan returns; the next one continues behind them.
	ScanMax = 1000

	scanPause      = 9                     // times the work of a scan: scans take at most a tenth of the time
	scanPauseMax   = time.Minute           // however long the work was
	scanSlow       = 20 * time.Millisecond // a full scan that takes longer is too expensive to run on every wake
	recentBefore   = 2 * time.Second       // how long before the last scan a recent scan begins: clocks differ, and commits can be slow
	wakeScanDelay  = 100 * time.Millisecond
	insertInterval = 50 * time.Millisecond // the least time between two inserted drains
)

// slow reports that this kind of scan takes, or took, too long to be made on every wake, or failed.
func (p *pace) slow(now time.Time) bool {
	return p.failed || p.took > scanSlow || !p.began.IsZero() && now.Sub(p.began) > scanSlow
}

// readyAt is when the next scan of this kind may begin; false while one is being made.
func (p *pace) readyAt() (at time.Time, ok bool) { return p.pausedTo, p.began.IsZero() }

func (p *pace) ready(now time.Time) bool { return p.began.IsZero() && !now.Before(p.pausedTo) }

// Woken says that something may have become due. While a drain runs, its next claim finds what was written, and a scan
// follows a little later for the rest. Otherwise a scan is made at once.
func (s *Scheduler) Woken(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.drain.running {
		s.scans.owed = true
		token(s.ScanLoop)
		return
	}
	s.wakeDrain()
	if s.scans.wakeAt.IsZero() {
		s.scans.wakeAt = now.Add(wakeScanDelay)
		token(s.ScanLoop)
	}
}

func (s *Scheduler) wakeDrain() {
	s.drain.woken = true
	if s.drain.waitsFor&Wake != 0 {
		token(s.ClaimLoop)
	}
}

// NextScan returns what the scan loop does next.
func (s *Scheduler) NextScan(now time.Time) Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.scans
	if c.insert {
		c.insert = false
		if !s.drain.running {
			c.insertedAt = now
			return Step{Do: InsertDrain}
		}
		s.wakeDrain()
	}
	if !now.Before(c.pollAt) {
		c.owed = true
	}
	if !c.wakeAt.IsZero() && !now.Before(c.wakeAt) {
		c.owed, c.wakeAt = true, time.Time{}
	}
	if c.owed {
		if order, ok := c.begin(now); ok {
			c.owed, c.pollAt = false, now.Add(s.config.PollInterval)
			return Step{Do: Scan, Scan: order}
		}
	}
	return Step{Do: WaitFor, Until: c.waitUntil(now), For: Wake}
}

// begin begins the scan that is owed, if one may begin now.
func (c *scans) begin(now time.Time) (order ScanOrder, ok bool) {
	switch {
	case c.full.ready(now):
		c.full.began = now
		return ScanOrder{Kind: Full, After: c.cursor}, true
	case c.full.slow(now) && c.recent.ready(now):
		c.recent.began = now
		return ScanOrder{Kind: Recent, Since: c.recentFrom.Add(-recentBefore)}, true
	}
	return ScanOrder{}, false
}

// waitUntil is when NextScan has something to decide, if no event comes first.
func (c *scans) waitUntil(now time.Time) time.Time {
	until := c.pollAt
	soonest := func(t time.Time) {
		if t.Before(until) {
			until = t
		}
	}
	if !c.wakeAt.IsZero() {
		soonest(c.wakeAt)
	}
	if !c.owed {
		return until
	}
	until = now.Add(scanOwedWait)
	if at, ok := c.full.readyAt(); ok {
		soonest(at)
	} else if !c.full.slow(now) { // once it has taken long enough to be slow, a recent scan may begin
		soonest(c.full.began.Add(scanSlow + time.Millisecond))
	}
	if at, ok := c.recent.readyAt(); ok && c.full.slow(now) {
		soonest(at)
	}
	return until
}

// scanOwedWait bounds the wait for a scan that is being made; its end comes as an event.
const scanOwedWait = time.Minute

// Scanned takes the result of a scan. worked is how long it took the server; waits for locks, connections and the network
// are no reason to scan less often.
func (s *Scheduler) Scanned(order ScanOrder, found []Candidate, worked time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer token(s.ScanLoop)
	c := &s.scans
	p := c.pace(order.Kind)
	began := p.began
	p.took = worked
	p.began, p.failed, p.pausedTo = time.Time{}, false, now.Add(min(scanPause*worked, scanPauseMax))
	cut := len(found) == ScanMax
	if order.Kind == Full {
		c.cursor = ""
		if cut {
			c.cursor = found[ScanMax-1].Endpoint
		}
	}
	if order.Kind == Recent || order.After == "" && !cut {
		c.recentFrom = latest(c.recentFrom, began)
	}
	c.owed = c.owed || cut
	s.progress.scannedAt = now
	if order.Kind == Full && order.After == "" {
		s.progress.scanned(found, cut, now)
	}
	if len(found) == 0 {
		return
	}
	s.addCandidates(found)
	switch allowedAt := c.insertedAt.Add(insertInterval); {
	case s.drain.running:
		s.wakeDrain()
	case now.Before(allowedAt): // a drain was just inserted and begins soon, here or in another process: scan again by then
		if c.pollAt.After(allowedAt) {
			c.pollAt = allowedAt
		}
	default:
		c.insert = true
	}
}

// ScanFailed says that a scan failed. The next one of its kind is made after pause, however long the failed one took, and covers its
// part too.
func (s *Scheduler) ScanFailed(order ScanOrder, now time.Time, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.scans.pace(order.Kind)
	p.took, p.began, p.failed, p.pausedTo = now.Sub(p.began), time.Time{}, true, now.Add(pause)
	s.scans.owed = true
	token(s.ScanLoop)
}

// InsertFailed says that no drain could be inserted; a scan decides again after pause.
func (s *Scheduler) InsertFailed(now time.Time, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := now.Add(pause); s.scans.pollAt.After(at) {
		s.scans.pollAt = at
	}
}

func (c *scans) pace(kind ScanKind) *pace {
	if kind == Full {
		return &c.full
	}
	return &c.recent
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
