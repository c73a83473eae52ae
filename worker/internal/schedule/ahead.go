package schedule

import "time"

// Ahead is how many messages are claimed and wait for a slot.
func (s *Scheduler) Ahead() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.MaxInFlight - s.ahead
}

// readyRoom returns how many messages a claim may take in addition to those for the free slots, where endpoints contend for slots.
// About as many requests end during one claim. A few messages are not worth a claim of their own.
func (s *Scheduler) readyRoom() int {
	room := min(s.config.MaxInFlight/2, readyMost) - len(s.ready)
	if s.free == 0 && room < BatchOfStream {
		return 0
	}
	return max(min(room, s.ahead), 0)
}

const readyMost = BatchWorth / 2

// maybeReady reports that messages of an endpoint may be claimed before there is a slot for them: it has answered before, and
// nothing but its own window bounds it.
func (e *endpoint) maybeReady() bool { return e.proven && e.rate == 0 && e.owner.isAlone() }

// makeReady lets a message wait for the next slot.
func (s *Scheduler) makeReady(e *endpoint, m Message) {
	s.ready = append(s.ready, m)
	e.ready++
	s.ahead--
}

// startReady gives a free slot to the message that has waited longest. The caller releases the messages in back: they have waited
// for too long, or their endpoint has no room any more.
func (s *Scheduler) startReady(now time.Time) (next Message, more bool, back []Message) {
	for len(s.ready) > 0 && s.free > 0 {
		m := s.nextReady()
		e := s.endpoint(m.Endpoint)
		if now.Sub(m.ClaimedAt) > aheadKept || e.inFlight >= e.bound() || !s.hasRoom(e) {
			back = append(back, m)
			continue
		}
		s.begin(m)
		return m, true, back
	}
	return Message{}, false, back
}

// nextReady takes the first of the messages that wait for the next slot.
func (s *Scheduler) nextReady() (m Message) {
	m, s.ready[0] = s.ready[0], Message{}
	s.ready = s.ready[1:]
	s.endpoint(m.Endpoint).ready--
	s.ahead++
	return m
}

// Overdue takes back what has waited for the next slot for too long, because no request ended.
func (s *Scheduler) Overdue(now time.Time) (back []Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ready) > 0 && now.Sub(s.ready[0].ClaimedAt) > aheadKept {
		back = append(back, s.nextReady())
	}
	return back
}

// takeWaiting takes back what waits for a slot of one endpoint.
func (s *Scheduler) takeWaiting(e *endpoint) []Message {
	back := e.waiting
	e.waiting = nil
	s.ahead += len(back)
	return back
}

// takeBack takes back all that was claimed ahead for one endpoint.
func (s *Scheduler) takeBack(e *endpoint) []Message {
	back := s.takeWaiting(e)
	if e.ready == 0 {
		return back
	}
	var others []Message
	for _, m := range s.ready {
		if m.Endpoint == e.name {
			back = append(back, m)
		} else {
			others = append(others, m)
		}
	}
	s.ready, s.ahead, e.ready = others, s.ahead+e.ready, 0
	return back
}

// takeAllBack takes back all that was claimed ahead.
func (s *Scheduler) takeAllBack() (back []Message) {
	for _, e := range s.endpoints {
		back = append(back, s.takeBack(e)...)
	}
	return back
}
