package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// planned is a fault that will be made.
type planned struct {
	kind    string
	group   string // two faults of a group are never made at the same time
	detail  string
	touches touches
	delay   time.Duration // after the beginning of the episode
	length  time.Duration // how long it lasts
	// make makes the fault, and the function that it returns undoes it. Either may fail while the database is away. A fault
	// that could not be made is skipped.
	make func(ctx context.Context, touch touch) (undo, error)
}

// undo undoes a fault. touch records a message that the fault touches.
type (
	undo  func(context.Context) error
	touch func(message string)
)

// kind is a kind of fault. draw plans one; it uses only r, so that the plan depends on the seed alone.
type kind struct {
	name string
	draw func(s *stage, r *rand.Rand) planned
}

// onRequest are kinds that are made only if -faults or their own flag names them.
var onRequest = []string{failoverKind}

func faultNames() (names []string) {
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// planner draws episodes: one to four faults together, and a pause after them.
type planner struct {
	r     *rand.Rand
	stage *stage
	kinds []kind
	deck  []kind // shuffled, so that every kind comes in turn
	count int
}

func newPlanner(s *stage) *planner {
	p := &planner{r: rand.New(rand.NewPCG(s.options.seed, 2)), stage: s}
	for _, k := range kinds() {
		if s.options.wants(k.name) {
			p.kinds = append(p.kinds, k)
		}
	}
	return p
}

// next draws an episode. Every eighth pause is longer than each bound on waiting, so that the bounds are checked without a fault.
func (p *planner) next() (together []planned, pause time.Duration) {
	most := 1 + p.r.IntN(4)
	groups := map[string]bool{}
	for range most {
		if len(p.deck) == 0 {
			p.deck = slices.Clone(p.kinds)
			p.r.Shuffle(len(p.deck), func(i, j int) { p.deck[i], p.deck[j] = p.deck[j], p.deck[i] })
		}
		one := p.deck[0].draw(p.stage, p.r)
		if groups[one.group] {
			break // it will be drawn again, and begin the next episode
		}
		p.deck = p.deck[1:]
		groups[one.group] = true
		one.delay = p.upTo(1500 * time.Millisecond)
		together = append(together, one)
	}
	if p.count++; p.count%8 == 0 {
		return together, messageMax + time.Second
	}
	return together, 200*time.Millisecond + p.upTo(2*time.Second)
}

func (p *planner) upTo(d time.Duration) time.Duration { return time.Duration(p.r.Int64N(int64(d))) }

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// makeFaults makes one episode after another until ctx ends. When it returns, all faults have been undone.
func (t *trial) makeFaults(ctx context.Context) {
	p := newPlanner(t.stage)
	for ctx.Err() == nil {
		together, pause := p.next()
		var group sync.WaitGroup
		for _, one := range together {
			group.Go(func() { t.makeFault(ctx, one) })
		}
		group.Wait()
		sleep(ctx, pause)
	}
}

// undoMax bounds the time to make a fault and the time to undo it.
const undoMax = 45 * time.Second

func (t *trial) makeFault(ctx context.Context, p planned) {
	if !sleep(ctx, p.delay) {
		return
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoMax)
	defer cancel()
	entry := t.timeline.begin(p.kind, p.detail, p.touches)
	defer entry.end()
	undo, err := p.make(bounded, entry.touch)
	if err != nil {
		t.detail("%s %s could not be made: %v", p.kind, p.detail, err)
	}
	sleep(ctx, p.length)
	if undo == nil {
		return
	}
	undoCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoMax)
	defer cancel()
	if err := undo(undoCtx); err != nil {
		t.fail("the chaos program could not undo %s %s: %v", p.kind, p.detail, err)
	}
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
