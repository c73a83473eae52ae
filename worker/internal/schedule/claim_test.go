package schedule

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestWhatTheClaimLoopDoesNext has a case for each thing that leads to a claim, a wait or an end.
func TestWhatTheClaimLoopDoesNext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after func(r *rig)
		want  string
	}{
		"a drain without candidates claims recent messages": {func(r *rig) { r.drains() }, "claim "},
		"candidates have turns":                             {func(r *rig) { r.knows("a", "b").drains() }, "claim a b"},
		"nothing more is due: waits for a wake or the poll": {func(r *rig) {
			r.drains().claim()
			r.Claimed(r.now, nil, nil)
		}, "wait until 1s for a wake"},
		"a wake ends that wait": {func(r *rig) {
			r.drains().claim()
			r.Claimed(r.now, nil, nil)
			r.NextClaim(r.now)
			r.Woken(r.now)
		}, "claim "},
		"without candidates the poll's end claims nothing": {func(r *rig) {
			r.drains().claim()
			r.Claimed(r.now, nil, nil)
			r.later(testPoll)
		}, "wait until 2s for a wake"},
		"a candidate is asked again at the poll": {func(r *rig) {
			r.knows("a").drains().claim()
			r.Claimed(r.now, nil, nil)
			r.later(testPoll)
		}, "claim a"},
		"a full window: waits for a slot": {func(r *rig) {
			r.knows("a").drains().begins("a", 4)
			r.drain.recent = false
		}, "wait until 1s for a slot, a wake"},
		"an endpoint that gave all it may: waits for a slot": {func(r *rig) {
			r.knows("a").drains().claim()
			r.Claimed(r.now, r.gave("a", 4, 1), nil)
		}, "wait until 1s for a slot, a wake"},
		"its next answer ends that wait": {func(r *rig) {
			r.knows("a").drains().claim()
			r.Claimed(r.now, r.gave("a", 4, 1), nil)
			r.NextClaim(r.now)
			r.answers("a", 1, slow())
		}, "claim a"},
		"all slots are taken: waits for a slot": {func(r *rig) {
			r.knows("a", "b").drains()
			for i := range 8 {
				r.begins(fmt.Sprint("other", i), 2)
			}
		}, "wait until 1s for a slot, a wake"},
		"more endpoints wait than there are slots: claim again": {func(r *rig) {
			for i := range 20 {
				r.knows(fmt.Sprint("e", i+10))
			}
			o := r.drains().claim()
			var all []Message
			for _, turn := range o.Turns[:7] {
				all = append(all, r.gave(turn.Endpoint, 1, 1)...)
			}
			r.Claimed(r.now, all, nil)
		}, "claim e16 e17 e18 e19 e20 e21 e22 e23 e24"},
		"new messages were left behind: claim again": {func(r *rig) {
			r.drains().claim()
			r.Claimed(r.now, nil, []Candidate{{"new", r.now}})
		}, "claim new"},
		"a steady stream is claimed in batches": {func(r *rig) {
			r.knows("a", "b", "c").drains().claim()
			r.Claimed(r.now, append(append(r.gave("a", 3, 1), r.gave("b", 3, 1)...), r.gave("c", 3, 1)...), []Candidate{{"d", longAgo}})
		}, "wait until 10ms for a wake, enough answers"},
		"at the batch's end comes the next claim": {func(r *rig) {
			r.knows("a", "b", "c").drains().claim()
			r.Claimed(r.now, append(append(r.gave("a", 3, 1), r.gave("b", 3, 1)...), r.gave("c", 3, 1)...), []Candidate{{"d", longAgo}})
			r.later(BatchPace)
		}, "claim d"},
		"a wake shortens the wait to a quarter": {func(r *rig) {
			r.knows("a", "b", "c").drains().claim()
			r.Claimed(r.now, append(append(r.gave("a", 3, 1), r.gave("b", 3, 1)...), r.gave("c", 3, 1)...), []Candidate{{"d", longAgo}})
			r.NextClaim(r.now)
			r.Woken(r.now)
		}, "wait until 2.5ms for enough answers"},
		"after a failed claim it waits as long as it must": {func(r *rig) {
			r.knows("a").drains().claim()
			r.ClaimFailed(r.now, 300*time.Millisecond)
			r.Woken(r.now)
		}, "wait until 300ms for "},
		"and claims again": {func(r *rig) {
			r.knows("a").drains().claim()
			r.ClaimFailed(r.now, 300*time.Millisecond)
			r.later(300 * time.Millisecond)
		}, "claim a"},
		"a rate that is used up: waits for the next grant": {func(r *rig) {
			r.knows("a").drains().claim()
			r.Claimed(r.now, []Message{{Endpoint: "a", Rate: 5, DueFrom: longAgo, ClaimedAt: r.now}}, nil)
		}, "wait until 200ms for a wake"},
		"a rate that is used up, for which a claim passes over it: the next grant": {func(r *rig) {
			r.knows("a").drains().claim()
			r.Claimed(r.now, []Message{{Endpoint: "a", Rate: 5, DueFrom: longAgo, ClaimedAt: r.now}}, nil)
			r.later(50 * time.Millisecond)
			r.knows("b").Woken(r.now)
			r.claim()
			r.Claimed(r.now, nil, nil)
		}, "wait until 200ms for a wake"},
		"several rates that are used up: the first grant": {func(r *rig) {
			r.knows("a", "b", "c").drains().claim()
			var took []Message
			for name, rate := range map[string]float64{"a": 2, "b": 5, "c": 4} {
				took = append(took, Message{Endpoint: name, Rate: rate, DueFrom: longAgo, ClaimedAt: r.now})
			}
			r.Claimed(r.now, took, nil)
		}, "wait until 200ms for a wake"},
		"a drain whose time is over hands over": {func(r *rig) {
			r.knows("a").drains()
			r.later(testTurn)
		}, "end the drain"},
		"an idle drain ends": {func(r *rig) {
			r.drains().claim()
			r.Claimed(r.now, nil, nil)
			r.later(drainLinger)
		}, "end the drain"},
		"not when it was woken": {func(r *rig) {
			r.drains().claim()
			r.Claimed(r.now, nil, nil)
			r.later(drainLinger)
			r.Woken(r.now)
		}, "claim "},
		"not when it waits for a slot": {func(r *rig) {
			r.knows("a").drains().claim()
			r.Claimed(r.now, r.gave("a", 4, 1), nil)
			r.later(drainLinger)
		}, "wait until 6s for a slot, a wake"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := slots(t, 16, 8)
			c.after(r)
			if got := r.NextClaim(r.now).String(); got != c.want {
				t.Errorf("the next step is %q, want %q", got, c.want)
			}
		})
	}
}

// TestADrainWithALongPollEndsWhenItIsIdle: it does not wait until the next poll.
func TestADrainWithALongPollEndsWhenItIsIdle(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	r.config.PollInterval = time.Hour
	r.drains().claim()
	r.Claimed(r.now, nil, nil)
	step := r.NextClaim(r.now)
	if r.now = step.Until; step.Do != WaitFor || r.NextClaim(r.now).Do != EndDrain {
		t.Errorf("the drain waits until %v, and the step after that is %v; want that it waits and ends", step.Until.Sub(began), r.NextClaim(r.now))
	}
}

// TestADrainThatHandsOverLeadsToANewDrain, without a scan. An idle drain leads to a scan.
func TestADrainThatHandsOverLeadsToANewDrain(t *testing.T) {
	t.Parallel()
	for over, want := range map[time.Duration]string{testTurn: "insert a drain", drainLinger: `scan behind ""`} {
		r := slots(t, 16, 8)
		r.drains().claim()
		r.Claimed(r.now, nil, nil)
		r.NextScan(r.now)
		r.Scanned(ScanOrder{}, nil, 0, r.now)
		signalled(r.ScanLoop)
		r.later(over)
		if over == testTurn {
			r.knows("a")
		}
		if step := r.NextClaim(r.now); step.Do != EndDrain {
			t.Fatalf("after %v the step is %v, want the drain's end", over, step)
		}
		r.DrainEnded()
		if !signalled(r.ScanLoop) {
			t.Errorf("after %v the scan loop is not signalled", over)
		}
		if got := r.NextScan(r.now).String(); got != want {
			t.Errorf("after %v the next step is %q, want %q", over, got, want)
		}
	}
}

// TestTheClaimLoopIsSignalledForWhatItWaitsFor, and for nothing else.
func TestTheClaimLoopIsSignalledForWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	r.roundTrip("full", slow())
	r.knows("full").drains()
	r.begins("full", r.endpoint("full").room())
	r.begins("other", 1)
	r.drain.recent = false
	if step := r.NextClaim(r.now); step.For != SlotFreed|Wake {
		t.Fatalf("the step is %v, want a wait for a slot or a wake", step)
	}
	if r.answers("other", 1, slow()); signalled(r.ClaimLoop) {
		t.Error("a request that nobody waits for signals the claim loop")
	}
	if r.answers("full", 1, slow()); !signalled(r.ClaimLoop) {
		t.Error("room at the endpoint that had none does not signal the claim loop")
	}

	r = slots(t, 1, 1)
	r.begins("last", 1)
	r.knows("a").drains().NextClaim(r.now)
	if r.answers("last", 1, slow()); !signalled(r.ClaimLoop) {
		t.Error("a free slot does not signal the claim loop")
	}
}

// TestAnEndpointThatGaveAllIsAskedAgainAfterItsNextAnswer, also when all its requests ended before the claim's result was known.
func TestAnEndpointThatGaveAllIsAskedAgainAfterItsNextAnswer(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	r.knows("a").drains().claim()
	r.Claimed(r.now, r.gave("a", 4, 1), nil)
	r.NextClaim(r.now)
	if r.answers("a", 1, slow()); !signalled(r.ClaimLoop) {
		t.Error("room at the endpoint that gave all does not signal the claim loop")
	}
	r.Stop()
	r.claim()
	r.answers("a", 3, slow())
	r.endpoint("a").wantsSlot = false
	r.outcome(r.gave("a", r.drain.pending.turns[0].Most, 1), nil)
	if !r.drain.slotFreed {
		t.Error("the drain waits for requests that have ended")
	}
}

// TestEnoughAnswersSignalTheClaimLoopOnce: requests that ended before the last claim do not count.
func TestEnoughAnswersSignalTheClaimLoopOnce(t *testing.T) {
	t.Parallel()
	r := slots(t, 8, 8)
	r.knows("a").drains().claim()
	r.drain.contended = true // half of the slots are enough then
	r.drain.stream, r.drain.after = true, afterNothing
	r.begins("e", 8)
	if step := r.NextClaim(r.now); step.For&EnoughAnswers == 0 {
		t.Fatalf("the step is %v, want a wait for enough answers", step)
	}
	for i := range 5 {
		r.answers("e", 1, slow())
		if got := signalled(r.ClaimLoop); got != (i+1 == 4) {
			t.Errorf("after %d answers the claim loop is signalled: %v; want it at the fourth", i+1, got)
		}
	}
	if step := r.NextClaim(r.now); step.Do != Claim {
		t.Errorf("after enough answers the step is %v, want a claim", step)
	}
	if r.drain.answered != 0 {
		t.Errorf("%d answers of the last claim count for the next one, want none", r.drain.answered)
	}
}

// TestAnEndpointGetsItsRateWhateverThePollInterval: it is asked as often as its rate gives something.
func TestAnEndpointGetsItsRateWhateverThePollInterval(t *testing.T) {
	t.Parallel()
	r := slots(t, 256, 64)
	r.config.PollInterval = 4 * time.Second
	r.knows("a").drains()
	const rate = 20.0
	took, granted := 0, r.now
	for r.now.Sub(began) < 3*time.Second {
		switch step := r.NextClaim(r.now); step.Do {
		case Claim:
			n := int(r.now.Sub(granted).Seconds()*rate + 1e-6) // what the database would grant
			granted = granted.Add(time.Duration(float64(n) / rate * float64(time.Second)))
			var all []Message
			for range n {
				all = append(all, Message{Endpoint: "a", Rate: rate, DueFrom: longAgo, ClaimedAt: r.now})
			}
			took += n
			r.Claimed(r.now, all, nil)
			r.answers("a", n, slow())
		case WaitFor:
			r.now = step.Until
		default:
			t.Fatalf("the step is %v, want a claim or a wait", step)
		}
		if took == 0 && r.now.Sub(began) > 100*time.Millisecond { // the first message brings the rate
			r.now = began.Add(100 * time.Millisecond)
			r.drain.after = afterNothing
		}
	}
	if took < 58 || took > 60 {
		t.Errorf("%d messages in three seconds at %v/s, want 58 to 60", took, rate)
	}
}

// TestAnEndpointWhoseRateLimitWasRemovedIsAskedAtOnce: its next message says that it has no limit.
func TestAnEndpointWhoseRateLimitWasRemovedIsAskedAtOnce(t *testing.T) {
	t.Parallel()
	r := slots(t, 16, 8)
	r.knows("a").drains().claim()
	m := r.gave("a", 1, 1)
	m[0].Rate = 5
	r.Claimed(r.now, m, nil)
	r.later(200 * time.Millisecond)
	r.claim()
	r.Claimed(r.now, r.gave("a", 1, 2), nil)
	if e := r.endpoint("a"); e.rate != 0 || !e.grantAt.IsZero() {
		t.Errorf("the endpoint has a rate of %v and waits until %v, want neither", e.rate, e.grantAt)
	}
}

// TestANewCandidateIsAskedAtOnceHoweverManyGaveNothing before it became one.
func TestANewCandidateIsAskedAtOnceHoweverManyGaveNothing(t *testing.T) {
	t.Parallel()
	r := slots(t, 1, 1).knows("a", "b", "c").drains() // one turn per claim
	askAll := func() (asked []string) {               // no endpoint gives anything
		for step := r.NextClaim(r.now); step.Do == Claim; step = r.NextClaim(r.now) {
			asked = append(asked, step.Order.String())
			r.Claimed(r.now, nil, nil)
		}
		return asked
	}
	if asked := askAll(); len(asked) < 3 {
		t.Fatalf("the claims ask %v, want all three candidates", asked)
	}
	r.knows("d")
	r.Woken(r.now)
	if asked := askAll(); !slices.Contains(asked, "d") {
		t.Errorf("after the scan the claims ask %v, want d among them", asked)
	}
}

// TestAClaimThatTookItsMaximumLeadsToAnother: there may be more messages, although every candidate was asked.
func TestAClaimThatTookItsMaximumLeadsToAnother(t *testing.T) {
	t.Parallel()
	r := slots(t, 2, 2).knows("a").drains()
	o := r.claim()
	r.Claimed(r.now, r.gave("a", o.Most, 1), nil)
	r.answers("a", o.Most, slow())
	if next := r.claim(); len(next.Turns) != 1 {
		t.Errorf("the next claim is %v, want one turn", next)
	}
	r.Claimed(r.now, r.gave("a", 1, 2), nil)
}
