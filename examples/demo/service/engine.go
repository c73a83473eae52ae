package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/chance"
	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/compare"
	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// engine takes the runs that have not ended through their steps, several at a time.
type engine struct {
	store   *store
	wake    func()
	root    string
	workers int
	seed    uint64
	failing float64 // share of the acknowledgements that are rolled back on purpose
	log     *slog.Logger
}

// run returns when every run has ended.
func (e *engine) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	runs := make(chan progress)
	group.Go(func() error {
		defer close(runs)
		return e.feed(ctx, runs)
	})
	for range e.workers {
		group.Go(func() error {
			for p := range runs {
				if err := e.finish(ctx, p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// feed hands out the runs in the order of their submission.
func (e *engine) feed(ctx context.Context, runs chan<- progress) error {
	const pageMax = 500
	last := int64(0)
	for {
		page, err := e.store.unended(ctx, last, pageMax)
		if err != nil && ctx.Err() == nil {
			e.log.Warn("the database does not answer; trying again", "error", err)
			if err = pause(ctx); err == nil {
				continue
			}
		}
		if err != nil || len(page) == 0 {
			return err
		}
		for _, p := range page {
			select {
			case runs <- p:
				last = p.Number
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// finish takes one run through its steps until it ends. After an error it reads in the table where the run stands and continues
// from there. An acknowledgement that was rolled back is made again, with its work; one that was committed
// although its answer was lost is not.
func (e *engine) finish(ctx context.Context, p progress) error {
	input := newInput(e.root, p.RunID)
	for try := 1; ; try++ {
		ended, err := e.advance(ctx, &p, input, try)
		switch {
		case ended:
			return nil
		case err == nil:
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		}
		again, ready, err := e.standing(ctx, p.RunID, err)
		if err != nil || !ready {
			return err
		}
		p = again
	}
}

// advance does one step and acknowledges it.
func (e *engine) advance(ctx context.Context, p *progress, input *input, try int) (ended bool, err error) {
	all := steps()
	a := acknowledgement{progress: *p, attempt: rand.Text()}
	end := all[p.Step].do(input, &a.Facts)
	if a.Step+1 < int64(len(all)) {
		a.next = all[a.Step+1].name
	}
	if end != nil {
		a.outcome = e.outcome(a, *end)
	}
	a.fails = chance.Hits(e.seed, e.failing, "acknowledge", p.RunID, p.Step, try)
	if err := e.store.acknowledge(ctx, a); err != nil {
		return false, err
	}
	if a.outcome != nil {
		e.wake() // after the commit, never inside it
		return true, nil
	}
	p.Step, p.Facts = a.Step+1, a.Facts
	return false, nil
}

// outcome is the run's outcome when it ends with this acknowledgement.
func (e *engine) outcome(a acknowledgement, end end) *outbox.RunOutcome {
	headers := map[string]string{hook.DefaultURLHeader: a.Callback, compare.AttemptHeader: a.attempt}
	return &outbox.RunOutcome{
		RunID: a.RunID, Status: end.status, Result: end.result, Error: end.reason, Headers: headers, FinalStep: uint32(a.Step),
	}
}

// standing reads where a run stands, for as long as it takes; ready is false when it has ended.
func (e *engine) standing(ctx context.Context, runID string, why error) (p progress, ready bool, err error) {
	for {
		if !errors.Is(why, errOnPurpose) && !errors.Is(why, errNotOurs) {
			e.log.Warn("a step was not acknowledged; trying again", "run", runID, "error", why)
			if err := pause(ctx); err != nil {
				return p, false, err
			}
		}
		p, ready, why = e.store.reload(ctx, runID)
		if why == nil {
			return p, ready, nil
		}
	}
}

// pause waits before something that failed is tried again.
func pause(ctx context.Context) error {
	select {
	case <-time.After(200 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
