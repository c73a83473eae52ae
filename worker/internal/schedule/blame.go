package schedule

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// Blame decides whose fault an answer is: the origin's, the tenant's at the origin, or one URL's. It keeps the needed
// state of URLs that fail now, in this process; its decisions go into the database, which all workers share.
//
//   - No request was sent (lookup, connect, TLS): the origin's. Nobody can be reached there.
//   - A request was sent, and answered 5xx or not at all: the URL's. OpenAfter in a row set it aside. Without an answer silentMost
//     are enough, because each of them keeps a slot for a whole timeout. When at least urlsMin URLs of a lane fail in a
//     row, and none of them has more than half of the failures, it is the lane's.
//   - Retry-After: the URL's. When urlsMin URLs of a lane ask for it within askedWithin, it is the lane's, too.
//   - 410: the URL's. Its messages are tried one at a time from then on.
//
// A URL that is set aside has a lane of its own (package lane), where it is held back, probed and counted like any other.
// When its messages are met, they are moved there, so that they delay no others.
//
// Blame may be used by several goroutines at once.
type Blame struct {
	openAfter int
	seed      maphash.Seed

	mu    sync.Mutex
	lanes map[string]*laneFaults          // by owner; only those at which something failed lately
	aside map[string]map[string]time.Time // by owner: the lanes of URLs that are set aside, and since when this is known
}

// laneFaults is what failed lately in a tenant's lane at an origin.
type laneFaults struct {
	urls   map[uint64]*list.Element // of *urlFaults; at most urlsKept
	recent *list.List               // the same, the last used first
	usedAt time.Time

	// The failures in a row, of any URL. A good answer starts the count again.
	inARow int
	by     map[uint64]int // the failures of each URL; at most urlsKept
	most   int            // the most that one URL gave

	asked []asked // which URLs asked for a pause lately; at most urlsMin
}

// urlFaults counts the failures in a row of one URL. A good answer drops it.
type urlFaults struct {
	url    uint64
	inARow int // 5xx and silence
	silent int // without any status
}

type asked struct {
	url uint64
	at  time.Time
}

const (
	urlsMin     = 3                // this many URLs make it the lane's fault
	silentMost  = 3                // failures in a row without a status that set a URL aside
	askedWithin = time.Minute      // Retry-After
	urlsKept    = 1000             // of each lane, the last used ones
	faultsKept  = 10 * time.Minute // how long a lane without further failures is remembered
	lanesKept   = 10_000           // lanes with failures; beyond that, one of them makes room
	asideMost   = 1000             // URLs of each owner that are set aside; beyond that, the one set aside for longest is taken back
	asideKept   = 10 * time.Second // how long a URL set aside here counts as that before the database confirms it
)

// NewBlame returns one without any faults. openAfter is how many failures in a row open a circuit breaker.
func NewBlame(openAfter int) *Blame {
	return &Blame{openAfter: openAfter, seed: maphash.MakeSeed(), lanes: map[string]*laneFaults{}, aside: map[string]map[string]time.Time{}}
}

// Attempt is what Blame needs of an attempt.
type Attempt struct {
	Lane, URL string
	Answer    Answer
	Hold      time.Duration // for how long the receiver asked for a pause, as far as the policy allows
	Probe     bool          // a circuit breaker was half-open
}

// Saying is what an answer says about a lane. The zero value, except for Lane, says that the lane answers.
type Saying struct {
	Lane     string
	Failures int           // how many more failures in a row
	Hold     time.Duration // for how long nothing is sent there
	HalfOpen bool          // one message at a time from now on; without Failures, only if it was so before
}

// Blamed is what follows from an answer.
type Blamed struct {
	Says   []Saying // each lane once
	MoveTo string   // the lane in which the message is due again; "" for the one that it was in
}

// Note takes an answer, and says whose fault it is.
func (b *Blame) Note(a Attempt, now time.Time) Blamed {
	origin, owner := lane.Origin(a.Lane), lane.Owner(a.Lane)
	switch {
	case a.Answer.Kind == Refused || a.Answer.Kind == NotSent:
		return Blamed{}
	case a.Answer.Unhealthy() && a.Answer.Unreached:
		return Blamed{Says: []Saying{{Lane: origin, Failures: 1}}}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	faults := b.lanes[owner]
	gone, unhealthy := a.Answer.gone(), a.Answer.Unhealthy()
	if !gone && !unhealthy && a.Hold == 0 {
		if faults != nil {
			faults.answered(b.hash(a.URL))
		}
		return Blamed{Says: answers(a.Lane, origin)}
	}
	if faults == nil {
		faults = b.newLane(owner, now)
	}
	faults.usedAt = now
	return b.fault(a, faults, now)
}

// fault decides about an answer that counts against a URL.
func (b *Blame) fault(a Attempt, faults *laneFaults, now time.Time) (blamed Blamed) {
	origin, owner, url := lane.Origin(a.Lane), lane.Owner(a.Lane), b.hash(a.URL)
	ofURL := Saying{Lane: lane.OfURL(owner, a.URL), Hold: a.Hold}
	ofOwner := Saying{Lane: owner}
	if a.Answer.Unhealthy() {
		urlFails, laneFails := faults.failed(url, a.Answer.Kind != Status, b.openAfter)
		if urlFails || a.Probe && a.Lane == owner { // the next probe comes from another URL
			ofURL.Failures = b.openAfter
		}
		switch {
		case a.Lane != owner:
			ofURL.Failures = 1
		case laneFails:
			ofOwner.Failures = b.openAfter
		case a.Probe:
			ofOwner.Failures = 1
		}
	}
	if a.Answer.gone() {
		ofURL.Failures, ofURL.HalfOpen = b.openAfter, true
	}
	if a.Hold > 0 && faults.asks(url, now) {
		ofOwner.Hold = a.Hold
	}
	if setAside := ofURL.Failures > 0 || ofURL.Hold > 0; setAside {
		blamed.Says = append(blamed.Says, ofURL)
		if back := b.setAside(owner, ofURL.Lane, now); back != "" {
			blamed.Says = append(blamed.Says, Saying{Lane: back})
		}
		if a.Lane == owner {
			blamed.MoveTo = ofURL.Lane
		}
	}
	switch {
	case ofOwner.Failures > 0 || ofOwner.Hold > 0:
		blamed.Says = append(blamed.Says, ofOwner)
	case a.Answer.Kind == Status && a.Lane == owner && owner != origin:
		blamed.Says = append(blamed.Says, Saying{Lane: owner})
	}
	if originIsThere := owner != origin || a.Answer.Kind == Status && ofOwner == (Saying{Lane: owner}); originIsThere {
		blamed.Says = append(blamed.Says, Saying{Lane: origin})
	}
	return blamed
}

// answers says that a lane and its origin answer.
func answers(of, origin string) []Saying {
	if of == origin {
		return []Saying{{Lane: origin}}
	}
	return []Saying{{Lane: of}, {Lane: origin}}
}

func (b *Blame) hash(url string) uint64 { return maphash.String(b.seed, url) }

// newLane makes room for a lane. It drops lanes without failures for long, and then any, until a tenth is free.
func (b *Blame) newLane(owner string, now time.Time) *laneFaults {
	if len(b.lanes) >= lanesKept {
		for name, faults := range b.lanes {
			if now.Sub(faults.usedAt) > faultsKept {
				delete(b.lanes, name)
			}
		}
		for name := range b.lanes {
			if len(b.lanes) <= lanesKept*9/10 {
				break
			}
			delete(b.lanes, name)
		}
	}
	faults := &laneFaults{urls: map[uint64]*list.Element{}, recent: list.New(), by: map[uint64]int{}}
	b.lanes[owner] = faults
	return faults
}

// answered takes a good answer of a URL.
func (f *laneFaults) answered(url uint64) {
	if e := f.urls[url]; e != nil {
		f.recent.Remove(e)
		delete(f.urls, url)
	}
	f.beginAnew()
}

func (f *laneFaults) beginAnew() {
	f.inARow, f.most = 0, 0
	clear(f.by)
}

// failed counts a failure of a URL. It reports whether the URL is to be set aside, and whether it is the lane's fault.
func (f *laneFaults) failed(url uint64, silent bool, openAfter int) (urlFails, laneFails bool) {
	u := f.url(url)
	u.inARow++
	if silent {
		u.silent++
	}
	urlFails = u.inARow >= openAfter || u.silent >= min(silentMost, openAfter)
	if urlFails {
		u.inARow, u.silent = 0, 0
	}
	f.inARow++
	if f.by[url] > 0 || len(f.by) < urlsKept {
		f.by[url]++
		f.most = max(f.most, f.by[url])
	}
	laneFails = f.inARow >= openAfter && len(f.by) >= urlsMin && 2*f.most <= f.inARow
	if laneFails {
		f.beginAnew()
	}
	return urlFails, laneFails
}

// url returns the state of a URL. The one that was used last is kept longest.
func (f *laneFaults) url(url uint64) *urlFaults {
	if e := f.urls[url]; e != nil {
		f.recent.MoveToFront(e)
		return e.Value.(*urlFaults)
	}
	if len(f.urls) >= urlsKept {
		last := f.recent.Back()
		delete(f.urls, f.recent.Remove(last).(*urlFaults).url)
	}
	u := &urlFaults{url: url}
	f.urls[url] = f.recent.PushFront(u)
	return u
}

// asks notes that a URL asked for a pause, and reports whether urlsMin URLs did so lately.
func (f *laneFaults) asks(url uint64, now time.Time) bool {
	kept := f.asked[:0]
	for _, other := range f.asked {
		if other.url != url && now.Sub(other.at) < askedWithin {
			kept = append(kept, other)
		}
	}
	if len(kept) == urlsMin {
		kept = kept[1:]
	}
	f.asked = append(kept, asked{url, now})
	return len(f.asked) >= urlsMin
}

// Aside returns the lane of a URL that is set aside, for a message that waits in its tenant's lane.
func (b *Blame) Aside(of, url string) (moveTo string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	aside := b.aside[of]
	if len(aside) == 0 {
		return "", false
	}
	moveTo = lane.OfURL(of, url)
	_, ok = aside[moveTo]
	return moveTo, ok
}

// AsideOf returns the lanes of the URLs of an owner that are set aside.
func (b *Blame) AsideOf(owner string) (lanes []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.aside[owner] {
		lanes = append(lanes, name)
	}
	return lanes
}

// setAside sets a URL aside. It returns the lane of a URL that is taken back for it, "" for none. Each costs a row in the
// database, and a submitter with a URL of its own for each message could make any number of them fail.
func (b *Blame) setAside(owner, ofURL string, now time.Time) (back string) {
	aside := b.aside[owner]
	if aside == nil {
		aside = map[string]time.Time{}
		b.aside[owner] = aside
	}
	if _, known := aside[ofURL]; !known && len(aside) >= asideMost {
		for name, since := range aside {
			if back == "" || since.Before(aside[back]) {
				back = name
			}
		}
		delete(aside, back)
	}
	aside[ofURL] = now
	return back
}

// SetAside takes the lanes of all URLs that are set aside according to the database. Those that were set aside here a moment
// ago may be missing there.
func (b *Blame) SetAside(lanes []string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fresh := map[string]map[string]time.Time{}
	keep := func(name string, since time.Time) {
		owner := lane.Owner(name)
		if fresh[owner] == nil {
			fresh[owner] = map[string]time.Time{}
		}
		fresh[owner][name] = since
	}
	for _, known := range b.aside {
		for name, since := range known {
			if now.Sub(since) < asideKept {
				keep(name, since)
			}
		}
	}
	for _, name := range lanes {
		keep(name, time.Time{})
	}
	b.aside = fresh
}

// Closed takes back a URL whose circuit breaker closed: its messages are no longer moved.
func (b *Blame) Closed(name string) {
	if !lane.IsURL(name) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.aside[lane.Owner(name)], name)
}
