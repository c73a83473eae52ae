package worker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/recurring"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// senders are the goroutines that deliver. Each has one request in flight. A slot is free again once the result is handed
// to the recorder; so a slow database slows the claims.
//
// A goroutine that has made a request takes the next one, because its stack has already grown to what a request needs.
type senders struct {
	ctx       context.Context // its end tears the requests down
	bodies    *postgres.Bodies
	delivery  attempter
	policy    schedule.Policy
	blame     *schedule.Blame
	scheduler *schedule.Scheduler
	results   chan<- postgres.Result
	mover     *mover
	logger    *slog.Logger
	faults    *recurring.Log
	every     bool                   // each attempt is logged
	next      chan *postgres.Message // unbuffered: to a goroutine that waits for it
	stopped   <-chan struct{}        // closed when no request begins any more
	suspended atomic.Bool            // others may take this worker for dead, and deliver what it has claimed
	running   sync.WaitGroup
	metrics   attemptMetrics
	onAttempt *callbacks[Attempt]
}

// attempter makes one HTTP attempt: a delivery.Sender.
type attempter interface {
	Send(ctx context.Context, m delivery.Message) delivery.Answer
}

// loadTimeout bounds the wait for room for a large body, and its load: that and the request must end within the lease.
const loadTimeout = LeaseMargin / 2

// loadAgain is how long a message that found no room waits.
const loadAgain = time.Second

// senderIdle is how long a goroutine waits for its next request.
const senderIdle = time.Second

// start begins the request for a message that has a slot.
func (s *senders) start(m *postgres.Message) {
	select {
	case s.next <- m:
	default:
		s.running.Go(func() { s.loop(m) })
	}
}

// loop sends one message after the other.
func (s *senders) loop(m *postgres.Message) {
	idle := time.NewTimer(senderIdle)
	defer idle.Stop()
	for {
		var answer schedule.Answer
		if to, aside := s.blame.Aside(m.Endpoint, m.URL); aside {
			answer = schedule.Answer{Kind: schedule.Moved}
			s.results <- moved(m, to, time.Now())
			s.mover.met(m.Endpoint)
		} else {
			answer = s.send(m)
		}
		next, more, back := s.scheduler.Answered(m.Endpoint, answer, time.Now())
		s.release(rowsOf(back))
		m = nil // nothing of the last message is kept
		if more {
			m = rowOf(next)
			continue
		}
		idle.Reset(senderIdle)
		select {
		case m = <-s.next:
		case <-idle.C:
			return
		case <-s.stopped:
			return
		}
	}
}

// send makes one attempt and hands its result to the recorder.
func (s *senders) send(m *postgres.Message) schedule.Answer {
	a, v := s.attempt(m)
	if v.Action == schedule.Release {
		s.results <- released(m, a.StartedAt)
		return judged(a)
	}
	s.results <- resultOf(m, a, v, s.blame.Note(attemptOf(m, a, v), time.Now()))
	return judged(a)
}

// attempt makes one attempt and judges it. It makes none when the worker itself lacks something.
func (s *senders) attempt(m *postgres.Message) (delivery.Answer, schedule.Verdict) {
	loaded, err := s.bodies.Load(s.ctx, m)
	if err != nil {
		s.logger.DebugContext(s.ctx, "a large body waits", "message", m.ID.String(), "for", err)
		return delivery.Answer{StartedAt: time.Now(), WaitsFor: err.Error()},
			schedule.Verdict{Action: schedule.Wait, Delay: s.policy.Spread(loadAgain)}
	}
	defer loaded()
	if s.suspended.Load() {
		return delivery.Answer{StartedAt: time.Now(), WaitsFor: "the lock of this worker's name"}, schedule.Verdict{Action: schedule.Release}
	}
	a := s.delivery.Send(s.ctx, outgoing(m))
	m.Body = nil                                                                                     // what is recorded needs it no more
	if s.ctx.Err() != nil && a.Class != delivery.ClassDelivered && a.Class != delivery.ClassStatus { // torn down, not answered
		return a, schedule.Verdict{Action: schedule.Release}
	}
	s.metrics.made(m, a)
	v := s.policy.Judge(judged(a), m.Attempt-m.AttemptsBefore)
	s.tell(m, a, v)
	s.log(m, a, v)
	return a, v
}

// tell reports an attempt to the embedding program. A request that was not sent is no attempt, and attempts of events are not reported.
func (s *senders) tell(m *postgres.Message, a delivery.Answer, v schedule.Verdict) {
	if s.onAttempt != nil && a.Class != "" && !event.IsLane(m.Endpoint) {
		s.onAttempt.tell(attemptMade(m, a, v))
	}
}

// stop lets no further request begin, and releases what waits for one.
func (s *senders) stop() { s.release(rowsOf(s.scheduler.Stop())) }

// suspend lets no request begin until resume, and releases what waits for one.
func (s *senders) suspend() {
	s.suspended.Store(true)
	if back := s.scheduler.Suspend(); len(back) > 0 {
		s.running.Go(func() { s.release(rowsOf(back)) }) // which may have to wait for the database
	}
}

func (s *senders) resume() {
	s.suspended.Store(false)
	s.scheduler.Resume()
}

// release gives up messages that were claimed and not sent.
func (s *senders) release(messages []*postgres.Message) {
	for _, m := range messages {
		s.results <- released(m, time.Now())
	}
}

// log logs an attempt: at a high level what failed for good, at a low level the rest. The same failure at the
// same endpoint is logged once a minute, unless each attempt is to be logged.
func (s *senders) log(m *postgres.Message, a delivery.Answer, v schedule.Verdict) {
	level := slog.LevelDebug
	if s.every {
		level = slog.LevelInfo
	}
	switch v.Action {
	case schedule.Die:
		level = slog.LevelWarn
	case schedule.Retry:
		level = slog.LevelInfo
	case schedule.Wait:
		level = slog.LevelError
	}
	if !s.logger.Enabled(s.ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("message", m.ID.String()), slog.String("run", m.RunID), slog.String("endpoint", m.Endpoint),
		slog.Int("attempt", m.Attempt), slog.String("class", a.Class), slog.Duration("took", a.Duration),
	}
	add := func(applies bool, attr slog.Attr) {
		if applies {
			attrs = append(attrs, attr)
		}
	}
	add(a.StatusCode != 0, slog.Int("status_code", a.StatusCode))
	add(a.Err != "", slog.String("error", a.Err))
	add(v.Action == schedule.Wait, slog.String("waits_for", a.WaitsFor))
	add(v.Action == schedule.Wait || v.Action == schedule.Retry, slog.Duration("again_in", v.Delay))
	add(v.Action == schedule.Die, slog.String("reason", v.Reason))
	text := "attempt: " + string(v.Action)
	if s.every || v.Action == schedule.Deliver {
		s.logger.LogAttrs(s.ctx, level, text, attrs...)
		return
	}
	key := v.Reason + a.Class + " " + m.Endpoint
	if v.Action == schedule.Wait {
		key = a.WaitsFor
	}
	s.faults.Tell(s.ctx, level, key, text, attrs...)
}
