package schedule

import (
	"fmt"
	"slices"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

const sharedOrigin = "https://example.com"

func tenant(i int) string { return lane.Of(sharedOrigin, fmt.Sprint("t", i)) }

// TestTenantsShareTheWindowOfTheirOriginEqually: in a claim, they get the whole window at most, and each gets its part at most.
func TestTenantsShareTheWindowOfTheirOriginEqually(t *testing.T) {
	t.Parallel()
	r := slots(t, 100, 8)
	r.drains()
	for i := range 3 { // each tenant's own window is 8
		for range 5 {
			r.roundTrip(tenant(i), slow())
		}
	}
	r.knows(tenant(0))
	if n := r.mayGive(tenant(0)); n != 8 {
		t.Errorf("alone, a tenant may have %d requests in flight, want the whole window of 8", n)
	}
	r.knows(tenant(1), tenant(2))
	r.drain.after, r.drain.stream = afterNothing, false
	all := 0
	for _, turn := range r.claim().Turns {
		if turn.Most != 2 {
			t.Errorf("%s may give %d, want 2, a third of 8", turn.Endpoint, turn.Most)
		}
		all += turn.Most
	}
	if all != 6 {
		t.Errorf("the three tenants may give %d together, want 6", all)
	}
}

// TestTheLanesOfATenantShareItsPartOfTheWindow: a URL that was set aside does not give its tenant a larger part.
func TestTheLanesOfATenantShareItsPartOfTheWindow(t *testing.T) {
	t.Parallel()
	r := slots(t, 100, 8)
	r.drains()
	ofURL := lane.OfURL(tenant(0), "u")
	for _, name := range []string{tenant(0), ofURL, tenant(1)} {
		for range 5 {
			r.roundTrip(name, slow())
		}
	}
	r.knows(tenant(0), ofURL, tenant(1))
	r.drain.after, r.drain.stream = afterNothing, false
	got := map[string]int{}
	for _, turn := range r.claim().Turns {
		got[lane.Owner(turn.Endpoint)] += turn.Most
	}
	if got[tenant(0)] != 4 || got[tenant(1)] != 4 {
		t.Errorf("the tenants may give %v, want half of 8 each", got)
	}
}

// TestATenantOverItsPartGivesItsSlotsBack as its requests end, although it has messages that were claimed ahead.
func TestATenantOverItsPartGivesItsSlotsBack(t *testing.T) {
	t.Parallel()
	r := slots(t, 100, 8)
	r.drains()
	for range 5 {
		r.roundTrip(tenant(0), slow())
	}
	r.begins(tenant(0), 8+5)
	if n := len(r.endpoint(tenant(0)).waiting); n != 5 {
		t.Fatalf("%d messages wait, want 5", n)
	}
	r.knows(tenant(1))
	for i := range 4 {
		if _, more, _ := r.Answered(tenant(0), slow(), r.now); more {
			t.Errorf("answer %d began a request of the tenant, want none while it has more than its part", i)
		}
	}
	if _, more, _ := r.Answered(tenant(0), slow(), r.now); !more {
		t.Error("no request of the tenant begins, want one now that it is within its part")
	}
	if n := r.mayGive(tenant(1)); n != 4 {
		t.Errorf("the other tenant may give %d, want 4", n)
	}
}

// TestATenantWhosePartIsUsedUpKeepsNobodyBehindItFromItsTurn, although more of its URLs wait.
func TestATenantWhosePartIsUsedUpKeepsNobodyBehindItFromItsTurn(t *testing.T) {
	t.Parallel()
	r := slots(t, 8, 8)
	r.knows(tenant(0), lane.OfURL(tenant(0), "a"), lane.OfURL(tenant(0), "b"), tenant(1)).drains()
	r.drain.contended = true
	o := r.claim()
	if o.String() != tenant(0)+" "+tenant(1) || !r.drain.pending.rest {
		t.Errorf("the turns are %q, want one of each tenant; more of the first wait: %v, want true", o, r.drain.pending.rest)
	}
}

func TestATenantHasOneTurnHoweverManyOfItsURLsWereSetAside(t *testing.T) {
	t.Parallel()
	r := slots(t, 2, 2)
	r.drains()
	var urls []string
	for i := range 50 {
		urls = append(urls, lane.OfURL(tenant(0), fmt.Sprint("u", i)))
	}
	r.knows(append(urls, tenant(0), tenant(1))...)
	r.drain.contended = true
	asked := map[string]int{}
	for range 40 {
		r.drain.after, r.drain.stream, r.drain.contended = afterNothing, false, true
		order := r.claim()
		for _, turn := range order.Turns {
			asked[turn.Endpoint]++
		}
		var gave []Message
		for _, turn := range order.Turns {
			gave = append(gave, r.gave(turn.Endpoint, turn.Most, 1)...)
		}
		start, back := r.Claimed(r.now, gave, nil)
		if len(back) > 0 {
			t.Fatalf("%d messages go back, want none", len(back))
		}
		for _, m := range start {
			r.Answered(m.Endpoint, slow(), r.now)
		}
	}
	ofOther := asked[tenant(1)]
	ofURLs := 0
	for _, name := range append(urls, tenant(0)) {
		ofURLs += asked[name]
		if asked[name] > 1 {
			t.Errorf("%s was asked %d times before the others, want once", name, asked[name])
		}
	}
	if ofOther < 35 || ofURLs < 35 || ofURLs > 45 {
		t.Errorf("one tenant was asked %d times, and the URLs of the other %d times; want about 40 times each", ofOther, ofURLs)
	}
}

// TestAFullOriginGivesNoRecentMessageOfAnotherTenant: that message would exceed the window.
func TestAFullOriginGivesNoRecentMessageOfAnotherTenant(t *testing.T) {
	t.Parallel()
	r := slots(t, 100, 4)
	r.drains()
	r.begins(tenant(0), 2)
	r.begins(tenant(1), 2)
	r.drain.recent = true
	if o := r.claim(); o.Recent == 0 || !slices.Contains(o.Except, sharedOrigin) {
		t.Errorf("the claim takes %d recent messages, except of %v; want some, except of the origin", o.Recent, o.Except)
	}
}
