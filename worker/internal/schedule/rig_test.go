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

// rig is a scheduler, a clock that the test moves, and the state that a worker would keep.
type rig struct {
	*Scheduler
	t   *testing.T
	now time.Time
}

// began is the time at which every test begins. longAgo is the due time of all messages.
var (
	began   = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	longAgo = began.Add(-time.Hour)
)

const (
	testPoll = time.Second
	testTurn = time.Minute
)

// slots returns a scheduler with this many slots, overall and per endpoint.
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

// claim takes the claim loop's next step, which must be a claim.
func (r *rig) claim() Order {
	r.t.Helper()
	step := r.NextClaim(r.now)
	if step.Do != Claim {
		r.t.Fatalf("the next step is %v, want a claim", step)
	}
	return step.Order
}

// mayGive is how many messages the next claim may take from an endpoint, 0 if it is no candidate.
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

// gave returns n messages of an endpoint, as a claim does. The last one is due until seconds after longAgo.
func (r *rig) gave(name string, n, until int) (messages []Message) {
	for i := range n {
		messages = append(messages, Message{Endpoint: name, DueFrom: longAgo.Add(time.Duration(until-i) * time.Second), ClaimedAt: r.now})
	}
	return messages
}

// begins starts n requests of an endpoint, as if a claim had brought their messages.
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

// roundTrip fills the endpoint's window, and gives each request in it the same answer. The answers are so slow that nothing is
// claimed ahead.
func (r *rig) roundTrip(name string, a Answer) (inFlight int) {
	inFlight = r.endpoint(name).room()
	r.begins(name, inFlight)
	r.later(time.Second)
	a.StartedAt, a.Duration = r.now, time.Hour
	r.answers(name, inFlight, a)
	return inFlight
}

// quick is an answer after a millisecond. With a window of four, 160 of them come within aheadTime.
func quick() Answer { return Answer{Kind: Delivered, Duration: time.Millisecond} }

// slow is an answer after an hour.
func slow() Answer { return Answer{Kind: Delivered, Duration: time.Hour} }

// signalled reports whether a loop's channel had a token, and takes it.
func signalled(c <-chan struct{}) bool {
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

// String describes a step. Its times are counted from began.
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
