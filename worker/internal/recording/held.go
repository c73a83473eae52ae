package recording

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// heldResult is a result that could not be recorded yet: another session holds a row that it needs, or the database
// refuses it and may be refusing everything.
//
// A sender's slot is free once its result is held. The lease of its message is prolonged where that is possible. Where
// it is not, the message's own row is locked, and then nobody can claim it either.
type heldResult struct {
	postgres.Result
	since   time.Time
	pause   time.Duration // before the next try
	next    time.Time     // when that is
	written int           // recorder.written when it came: if more was written since, the database refuses only this one
	refusal error         // of the last try; nil when it was locked
}

const (
	HeldMax      = 2 * BatchMax // beyond that the oldest is dropped: it is delivered again when its lease ends
	heldPauseMin = 200 * time.Millisecond
	heldPauseMax = 5 * time.Second // for a refused one
	lockPauseMax = time.Second     // for a locked one: once the lock is released, it should be recorded before its lease ends
	tellHeld     = time.Minute     // between two lines of the log

	// partsMost bounds the statements of one walk through a batch that fails as a whole. 512 results with three bad ones
	// among them take 55.
	partsMost = 64

	// refusedAlone is how long a refused result waits for another one to be written, which shows that the first is the
	// only bad one.
	refusedAlone = 10 * time.Second
)

func (r *Recorder) newlyHeld(batch []postgres.Result) []*heldResult {
	now := time.Now()
	all := make([]*heldResult, len(batch))
	for i := range batch {
		all[i] = &heldResult{Result: batch[i], since: now, written: r.written}
	}
	return all
}

// writeParts records what can be recorded now, without waiting for a lock. A batch that fails is halved until the cause
// is alone: few are bad, so few halves fail. What is left is held, or set aside.
func (r *Recorder) writeParts(ctx context.Context, batch []*heldResult) (unwritten int, err error) {
	var refused []*heldResult
	todo, last := [][]*heldResult{batch}, error(nil)
	for tries := 0; len(todo) > 0; tries++ {
		part := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if tries >= partsMost {
			r.hold(ctx, part, last)
			continue
		}
		held, err := r.try(ctx, part, false)
		switch {
		case err == nil:
			r.hold(ctx, held, nil)
		case ctx.Err() != nil:
			unwritten += len(part)
			for _, left := range todo {
				unwritten += len(left)
			}
			return unwritten + len(refused), err
		case len(part) > 1:
			half := len(part) / 2
			todo = append(todo, part[half:], part[:half])
			last = err
		case postgres.IsRefusal(err):
			part[0].refusal = err
			refused = append(refused, part[0])
		default:
			r.hold(ctx, part, nil)
		}
	}
	for _, x := range refused {
		if !r.isToBlame(x, len(refused) == 1) {
			r.hold(ctx, []*heldResult{x}, x.refusal)
		} else if !r.setAside(ctx, x) {
			unwritten++
		}
	}
	if unwritten > 0 && ctx.Err() != nil {
		return unwritten, ctx.Err()
	}
	return 0, nil
}

// try records results without waiting for a lock, and returns those that are locked. Its error is a refusal or a lock
// that concerns one row or more, or the end of ctx.
func (r *Recorder) try(ctx context.Context, part []*heldResult, withoutEndpoints bool) (held []*heldResult, err error) {
	results := make([]postgres.Result, len(part))
	for i, x := range part {
		results[i] = x.Result
	}
	var tried postgres.Tried
	err = r.persist(ctx, func() (err error) {
		tried, err = r.to.TryRecord(ctx, results, withoutEndpoints)
		return err
	}, postgres.IsRowLocked)
	if err != nil {
		return nil, err
	}
	r.written += tried.Recorded
	r.logChanges(ctx, tried.Changes)
	if len(tried.Held) > 0 || tried.Busy {
		r.carefulUntil = time.Now().Add(carefulFor)
	}
	for _, i := range tried.Held {
		held = append(held, part[i])
	}
	return held, nil
}

// hold keeps results for another try, each after a pause that grows.
func (r *Recorder) hold(ctx context.Context, results []*heldResult, refusal error) {
	if len(results) == 0 {
		return
	}
	now := time.Now()
	for _, x := range results {
		most := heldPauseMax
		if refusal == nil {
			most = lockPauseMax
		}
		x.pause = min(max(2*x.pause, heldPauseMin), most)
		x.next, x.refusal = now.Add(x.pause), refusal
	}
	r.held = append(r.held, results...)
	if now.Sub(r.toldHeld) > tellHeld {
		r.toldHeld = now
		r.tellHeld(ctx)
	}
	if over := len(r.held) - HeldMax; over > 0 && !r.everythingIsRefused() {
		slices.SortStableFunc(r.held, func(a, b *heldResult) int { return a.since.Compare(b.since) })
		r.tellLost(ctx, over, fmt.Errorf("more than %d answers wait for the database", HeldMax))
		r.held = slices.Delete(r.held, 0, over)
	}
}

// tellHeld logs how many results wait, and for what.
func (r *Recorder) tellHeld(ctx context.Context) {
	var locked, refused []*heldResult
	for _, x := range r.held {
		if x.refusal == nil {
			locked = append(locked, x)
		} else {
			refused = append(refused, x)
		}
	}
	if len(locked) > 0 {
		var few []postgres.Result // are enough to find who holds them
		for _, x := range locked[:min(len(locked), 16)] {
			few = append(few, x.Result)
		}
		pids, _ := r.to.Holders(ctx, few) // the line is useful without them
		r.logger.WarnContext(ctx, "answers wait to be recorded: other sessions hold locks on their rows", "messages", len(locked),
			"held_by_pids", pids, "message", locked[0].ID.String(), "endpoint", locked[0].Endpoint)
	}
	if len(refused) > 0 {
		r.logger.WarnContext(ctx, "answers wait to be recorded: the database refuses them", "messages", len(refused),
			"message", refused[0].ID.String(), "endpoint", refused[0].Endpoint, "error", refused[0].refusal)
	}
}

// everythingIsRefused reports that the list is full of refused results, and that nothing was written since the oldest of
// them came: the database accepts nothing at all.
func (r *Recorder) everythingIsRefused() bool {
	if len(r.held) < HeldMax {
		return false
	}
	return !slices.ContainsFunc(r.held, func(x *heldResult) bool { return x.refusal == nil || x.written < r.written })
}

// oldestHeld is when the oldest of the held results came; zero when none is held.
func (r *Recorder) oldestHeld() (at time.Time) {
	for _, x := range r.held {
		if at.IsZero() || x.since.Before(at) {
			at = x.since
		}
	}
	return at
}

// heldPause is how long it takes until one of the held results is to be tried.
func (r *Recorder) heldPause(now time.Time) time.Duration {
	pause := time.Hour
	for _, x := range r.held {
		pause = min(pause, x.next.Sub(now))
	}
	return max(pause, 0)
}

// tryHeld tries the held results whose time has come.
func (r *Recorder) tryHeld(ctx context.Context) {
	now := time.Now()
	var due []*heldResult
	r.held = slices.DeleteFunc(r.held, func(x *heldResult) bool {
		if len(due) >= BatchMax || x.next.After(now) {
			return false
		}
		due = append(due, x)
		return true
	})
	if len(due) == 0 {
		return
	}
	if unwritten, err := r.writeParts(ctx, due); err != nil {
		r.giveUp(ctx, unwritten, err)
	}
}

// giveUpHeld tries the held results one last time.
func (r *Recorder) giveUpHeld(ctx context.Context) {
	for _, x := range r.held {
		x.next = time.Time{}
	}
	for tries := len(r.held); tries > 0; tries -= BatchMax {
		r.tryHeld(ctx)
	}
	if len(r.held) > 0 {
		r.tellHeld(ctx)
		r.unwritten.Add(int64(len(r.held)))
		r.held = nil
	}
}

// isToBlame reports whether the database refuses this result and not everything. It judges by the kind of the refusal, by
// another result that was written meanwhile, or by some time in which no other was refused.
func (r *Recorder) isToBlame(x *heldResult, alone bool) bool {
	return postgres.IsCertain(x.refusal) || r.written > x.written ||
		alone && time.Since(x.since) > refusedAlone && !slices.ContainsFunc(r.held, func(h *heldResult) bool { return h.refusal != nil })
}

// setAside records in some other form a result that the database refuses, so that its message is not delivered again and again. It
// returns false when every form is refused.
//
// First, the receiver's texts and the answer's change at its endpoint are left out: the attempt is then recorded
// without them. If that is refused, too, the message is dead, with a reason that names the rule. If even that is refused, it
// waits for an hour.
func (r *Recorder) setAside(ctx context.Context, x *heldResult) bool {
	why := postgres.Refusal(x.refusal)
	plain := withoutTexts(x.Result, why)
	type variant struct {
		result           postgres.Result
		withoutEndpoints bool
		what             string
	}
	texts, health := variant{plain, false, "recorded without its texts"}, variant{x.Result, true, "recorded without its endpoint's change"}
	variants := []variant{texts, health}
	if postgres.ConcernsEndpoint(x.refusal) {
		variants = []variant{health, texts}
	}
	variants = append(variants, variant{plain, true, "recorded without its texts and its endpoint's change"})
	if x.Action.IsAttempt() {
		variants = append(variants, variant{poisoned(x.Result, why), true, "its message is dead"},
			variant{postponed(x.Result, why), true, "its message waits for an hour"})
	}
	for _, v := range variants {
		held, err := r.try(ctx, []*heldResult{{Result: v.result}}, v.withoutEndpoints)
		switch {
		case err == nil && len(held) > 0, err != nil && postgres.IsLocked(err):
			r.hold(ctx, []*heldResult{x}, x.refusal)
			return true
		case err == nil:
			r.faults.Tell(ctx, slog.LevelError, why, "the database refuses an answer: "+v.what, refusedAnswer(x, why)...)
			if v.withoutEndpoints && v.result.Reason != postgres.ReasonPoison && v.result.Action != postgres.ActionWait {
				r.pauseRefused(ctx, x, why)
			}
			return true
		case !postgres.IsRefusal(err):
			return false
		}
	}
	r.faults.Tell(ctx, slog.LevelError, why, "an answer is not recorded, because the database refuses it; the message will be delivered again", refusedAnswer(x, why)...)
	return true
}

func refusedAnswer(x *heldResult, why string) []slog.Attr {
	return []slog.Attr{
		slog.String("message", x.ID.String()), slog.String("endpoint", x.Endpoint), slog.String("refusal", why), slog.Any("error", x.refusal),
	}
}

// pauseRefused pauses the endpoint, if the database refuses the change of its row.
func (r *Recorder) pauseRefused(ctx context.Context, x *heldResult, why string) {
	change, err := r.to.PauseRefused(ctx, x.Result, why)
	if err != nil {
		r.faults.Tell(ctx, slog.LevelError, "", "an endpoint's health cannot be recorded, and it cannot be paused", slog.String("endpoint", x.Endpoint), slog.Any("error", err))
		return
	}
	r.logChanges(ctx, change)
}

// withoutTexts is a result without the receiver's texts.
func withoutTexts(x postgres.Result, why string) postgres.Result {
	x.Response, x.StatusCode = "", 0
	x.Note = "not kept, because the database refused the row: " + why
	if x.Err != "" {
		x.Err = x.Note
	}
	return x
}

// poisoned makes a message dead.
func poisoned(x postgres.Result, why string) postgres.Result {
	text := "the database refused to record its attempt: " + why
	if x.Action == postgres.ActionDelivered {
		text = "it was delivered, and " + text
	}
	return postgres.Result{
		ID: x.ID, Endpoint: x.Endpoint, Attempt: x.Attempt, Action: postgres.ActionDead, Reason: postgres.ReasonPoison, Err: text,
		StartedAt: x.StartedAt,
	}
}

// postponed lets a message that cannot even be made dead wait for an hour.
func postponed(x postgres.Result, why string) postgres.Result {
	return postgres.Result{
		ID: x.ID, Endpoint: x.Endpoint, Attempt: x.Attempt, Action: postgres.ActionWait, Delay: time.Hour, StartedAt: x.StartedAt,
		WaitsFor: "the database, which refused to record its attempt: " + why,
	}
}
