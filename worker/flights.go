package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// flights are the requests under way in this process.
type flights struct {
	ctx       context.Context // its end tears the requests down
	loader    *loader
	deliverer *deliverer
	policy    policy
	slots     *slots
	results   chan<- result
	logger    *slog.Logger
	next      chan message    // unbuffered: to a goroutine that waits for it
	landing   <-chan struct{} // closed when no request begins any more
	wg        sync.WaitGroup
}

// begin starts the request for a claimed message, or has it wait for a slot. A slot is free again once the result is
// handed to the recorder, which is how a slow database slows the claims.
//
// A goroutine that has made a request takes the next one: its stack has grown to what a request needs, which a new one
// would have to do again.
func (f *flights) begin(m message) {
	now, later := f.slots.begin(m)
	switch {
	case later:
	case !now:
		f.release([]message{m})
	default:
		select {
		case f.next <- m:
		default:
			f.wg.Go(func() { f.pilot(m) })
		}
	}
}

// pilotRests is how long a goroutine waits for its next request.
const pilotRests = time.Second

func (f *flights) pilot(m message) {
	rest := time.NewTimer(pilotRests)
	defer rest.Stop()
	for {
		r := f.fly(m)
		f.results <- r
		next, more, back := f.slots.end(m.endpoint, r.answer)
		f.release(back)
		m = next // nothing of the last is kept
		if more {
			continue
		}
		rest.Reset(pilotRests)
		select {
		case m = <-f.next:
		case <-rest.C:
			return
		case <-f.landing:
			return
		}
	}
}

// ground lets no request begin any more, and gives up what waits for one.
func (f *flights) ground() { f.release(f.slots.ground()) }

// release gives up messages that were claimed and not begun: they are due again at once, and no attempt is counted.
func (f *flights) release(messages []message) {
	for _, m := range messages {
		f.results <- result{message: m, answer: answer{startedAt: time.Now()}, verdict: verdict{action: actionRelease}}
	}
}

func (f *flights) fly(m message) result {
	loaded, err := f.loader.load(f.ctx, &m)
	if err != nil {
		f.logger.DebugContext(f.ctx, "a large body waits", "message", m.id.String(), "for", err)
		return result{
			message: m, answer: answer{startedAt: time.Now(), waitsFor: err.Error()},
			verdict: verdict{action: actionWait, delay: f.policy.spread(loadAgain)},
		}
	}
	defer loaded()
	a := f.deliverer.deliver(f.ctx, m)
	m.body = nil                                                                   // what is recorded needs it no more
	if f.ctx.Err() != nil && a.class != classDelivered && a.class != classStatus { // torn down, not answered
		return result{message: m, answer: a, verdict: verdict{action: actionRelease}}
	}
	v := f.policy.judge(a, m.attempt-m.attemptsBefore)
	f.log(m, a, v)
	return result{message: m, answer: a, verdict: v}
}

// log tells of an attempt: what failed for good is for the operator, the rest for whoever looks closer.
func (f *flights) log(m message, a answer, v verdict) {
	level := slog.LevelDebug
	switch v.action {
	case actionDead:
		level = slog.LevelWarn
	case actionRetry:
		level = slog.LevelInfo
	case actionWait:
		level = slog.LevelError
	}
	if !f.logger.Enabled(f.ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("message", m.id.String()), slog.String("run", m.runID), slog.String("endpoint", m.endpoint),
		slog.Int("attempt", m.attempt), slog.String("class", a.class), slog.Duration("took", a.duration),
	}
	if a.statusCode != 0 {
		attrs = append(attrs, slog.Int("status_code", a.statusCode))
	}
	if a.err != "" {
		attrs = append(attrs, slog.String("error", a.err))
	}
	switch v.action {
	case actionRetry:
		attrs = append(attrs, slog.Duration("again_in", v.delay))
	case actionWait:
		attrs = append(attrs, slog.String("waits_for", a.waitsFor), slog.Duration("again_in", v.delay))
	case actionDead:
		attrs = append(attrs, slog.String("reason", v.reason))
	}
	f.logger.LogAttrs(f.ctx, level, "attempt: "+string(v.action), attrs...)
}
