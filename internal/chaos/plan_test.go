package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func plannedStage(seed uint64, faults ...string) *stage {
	s := &stage{options: options{seed: seed, workers: 3, faults: faults}, receiver: &receiver{}}
	for _, b := range behaviours {
		s.receiver.origins = append(s.receiver.origins, &origin{behaviour: b, url: "http://" + b.name})
	}
	for i := range 3 {
		s.workers = append(s.workers, &process{name: fmt.Sprint("worker-", i)})
	}
	return s
}

// episodes returns the first n episodes of a seed as text.
func episodes(s *stage, n int) (text []string) {
	p := newPlanner(s)
	for range n {
		together, pause := p.next()
		for _, one := range together {
			if one.kind == "poison" {
				one.touches = touches{} // ids differ from run to run
			}
			text = append(text, fmt.Sprint(one.kind, one.detail, one.touches, one.delay, one.length, pause))
		}
	}
	return text
}

func TestTheSeedDecidesTheFaults(t *testing.T) {
	t.Parallel()
	first, again, other := episodes(plannedStage(7), 40), episodes(plannedStage(7), 40), episodes(plannedStage(8), 40)
	if !slices.Equal(first, again) {
		t.Error("the same seed drew different faults, want the same ones")
	}
	if slices.Equal(first, other) {
		t.Error("another seed drew the same faults, want different ones")
	}
}

func TestEveryKindHasItsTurnAndNoGroupFailsTwiceAtOnce(t *testing.T) {
	t.Parallel()
	p, seen := newPlanner(plannedStage(1)), map[string]bool{}
	for range 2 * len(p.kinds) {
		together, _ := p.next()
		groups := map[string]bool{}
		for _, one := range together {
			if groups[one.group] {
				t.Errorf("an episode has two faults of the group %s, want one at most", one.group)
			}
			groups[one.group], seen[one.kind] = true, true
		}
		if len(together) == 0 {
			t.Error("an episode has no fault, want one at least")
		}
	}
	for _, k := range p.kinds {
		if !seen[k.name] {
			t.Errorf("the kind %s was never drawn, want each one drawn", k.name)
		}
	}
}

func TestFaultsCanBePicked(t *testing.T) {
	t.Parallel()
	p := newPlanner(plannedStage(1, "kill", "cut"))
	for range 10 {
		together, _ := p.next()
		for _, one := range together {
			if one.kind != "kill" && one.kind != "cut" {
				t.Errorf("the kind %s was drawn, want kill and cut only", one.kind)
			}
		}
	}
}

// TestContentsAreValidAndVaried: the hook would refuse an invalid one, so it would test nothing.
func TestContentsAreValidAndVaried(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	statuses, large := map[outbox.TerminalStatus]int{}, 0
	for n := range 2000 {
		c := newContent(r, fmt.Sprint("run-", n), []string{"http://127.0.0.1:1/hook"})
		if err := c.outcome.Validate(); err != nil {
			t.Fatal(err)
		}
		for key, value := range c.outcome.Headers {
			if !utf8.ValidString(value) {
				t.Fatalf("the header %s is %q, want valid UTF-8", key, value)
			}
		}
		if err := header.Check(forwardedHeader, c.outcome.Headers[forwardedHeader]); err != nil {
			t.Fatal(err)
		}
		if len(c.outcome.Result) > 64<<10 {
			large++
		}
		statuses[c.outcome.Status]++
	}
	if len(statuses) != 3 || large == 0 {
		t.Errorf("the statuses are %v, and %d bodies are over 64 KiB; want all three, and some", statuses, large)
	}
}

func TestAnswersFollowTheSeed(t *testing.T) {
	t.Parallel()
	seen := map[answer]bool{}
	for _, b := range behaviours {
		for n := range 1000 {
			a := b.choose(1, fmt.Sprint("run-", n), n%3)
			if a != b.choose(1, fmt.Sprint("run-", n), n%3) {
				t.Fatal("the same request got two different answers, want one")
			}
			if a != accepted && b.share[a] == 0 {
				t.Fatalf("%s gives the answer %d, want one that it has a share of", b.name, a)
			}
			seen[a] = true
		}
	}
	if len(seen) != int(answers) {
		t.Errorf("%d of %d answers were drawn, want all", len(seen), answers)
	}
}
