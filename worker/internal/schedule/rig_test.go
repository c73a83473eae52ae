package schedule

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
)

func TestMain(m *testing.M) { leakcheck.Main(m) }

// rig is a scheduler, a clock that the test moves, and what a worker would keep.
type rig struct {
	*Scheduler
	t   *testing.T
	now time.Time
}

// began is when every test begins, and longAgo when what is due became so.
var (
	began   = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	longAgo = began.Add(-time.Hour)
)

const (
	testPoll = time.Second
	testTurn = time.Minute
)

// slots returns a scheduler of so many slots, and so many per endpoint.
func slots(t *testing.T, most, perEndpoint int) *rig {
	t.Helper()
	return &rig{
		t: t, now: began,
		Scheduler: New(Config{MaxInFlight: most, EndpointMaxInFlight: perEndpoint, PollInterval: testPoll, DrainTurn: testTurn}, began),
	}
}

func (r *rig) later(d time.Duration) { r.now = r.now.Add(d) }

// drains begins a drain.
func (r *rig) drains() *rig {
	r.DrainBegan(r.now)
	return r
}

// knows makes endpoints candidates, each due since longAgo, as a scan does.
func (r *rig) knows(names ...string) *rig {
	var all []Candidate
	for _, name := range names {
		all = append(all, Candidate{name, longAgo})
	}
	r.addCandidates(all)
	return r
}

// claim asks what to do next, which must be a claim.
func (r *rig) claim() Order {
	r.t.Helper()
	step := r.NextClaim(r.now)
	if step.Do != Claim {
		r.t.Fatalf("next: %v, want a claim", step)
	}
	return step.Order
}

// mayGive is how many messages the next claim would take from an endpoint, of those that are candidates.
func (r *rig) mayGive(name string) int {
	r.t.Helper()
	r.drain.after, r.drain.stream = afterNothing, false
	for _, t := range r.NextClaim(r.now).Order.Turns {
		if t.Endpoint == name {
			return t.Most
		}
	}
	return 0
}

// gave are n messages of an endpoint, the last due at some seconds after longAgo.
func (r *rig) gave(name string, n, until int) (messages []Message) {
	for i := range n {
		messages = append(messages, Message{Endpoint: name, DueFrom: longAgo.Add(time.Duration(until-i) * time.Second), ClaimedAt: r.now})
	}
	return messages
}

// begins has n requests of an endpoint begin, as if a claim had brought them.
func (r *rig) begins(name string, n int) {
	for _, m := range r.gave(name, n, 0) {
		r.begin(m)
	}
}

// answers gives n answers to an endpoint's requests.
func (r *rig) answers(name string, n int, a Answer) {
	for range n {
		r.Answered(name, a, r.now)
	}
}

// roundTrip fills the endpoint's window and answers everything in it alike, so slowly that nothing is claimed ahead.
func (r *rig) roundTrip(name string, a Answer) (inFlight int) {
	inFlight = r.endpoint(name).room()
	r.begins(name, inFlight)
	r.later(time.Second)
	a.StartedAt, a.Duration = r.now, time.Hour
	r.answers(name, inFlight, a)
	return inFlight
}

// quick is an answer after a millisecond: of a window of four, 160 come in aheadTime.
func quick() Answer { return Answer{Kind: Delivered, Duration: time.Millisecond} }

// slow is an answer after an hour.
func slow() Answer { return Answer{Kind: Delivered, Duration: time.Hour} }

// told reports whether a loop's channel had a token, and takes it.
func told(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (o Order) String() string {
	var turns []string
	for _, t := range o.Turns {
		turns = append(turns, t.Endpoint)
	}
	return strings.Join(turns, " ")
}

// String says what a step is, its times as what is left until then since began.
func (s Step) String() string {
	switch s.Do {
	case Claim:
		return "claim " + s.Order.String()
	case EndDrain:
		return "end the drain"
	case InsertDrain:
		return "insert a drain"
	case Scan:
		if s.Scan.Kind == Recent {
			return fmt.Sprint("scan what was written since ", s.Scan.Since.Sub(began))
		}
		return fmt.Sprintf("scan behind %q", s.Scan.After)
	}
	var events []string
	for e, name := range map[Events]string{Wake: "a wake", SlotFreed: "a slot", EnoughAnswers: "enough answers"} {
		if s.For&e != 0 {
			events = append(events, name)
		}
	}
	slices.Sort(events)
	return fmt.Sprintf("wait until %v for %s", s.Until.Sub(began), strings.Join(events, ", "))
}
