package postgres

import "time"

// leftOut are rows or endpoints that the database refuses, and that could not be set aside. This process leaves them out
// for a while, twice as long each time, so that the others go on. Their number is bounded; beyond it, the one
// whose time ends first makes room. The zero value is ready.
type leftOut[K comparable] struct {
	of map[K]*leaving
}

// leaving is the state of one that is left out. It is forgotten when it is not refused again for leaveForget after its time.
type leaving struct {
	first time.Time     // when it was refused first
	until time.Time     // it is left out before this
	pause time.Duration // how long it was left out the last time
	waits bool          // it was refused while nothing else was accepted: tried again as soon as something is
}

const (
	leaveMin    = 5 * time.Second
	leaveMax    = 5 * time.Minute
	leaveForget = 10 * time.Minute
	leftOutMax  = 1000
)

// add leaves one out, and returns until when.
func (l *leftOut[K]) add(key K, now time.Time, waits bool) time.Time {
	s := l.of[key]
	if s == nil {
		if l.of == nil {
			l.of = map[K]*leaving{}
		}
		if len(l.of) >= leftOutMax {
			l.makeRoom()
		}
		s = &leaving{first: now}
		l.of[key] = s
	}
	s.pause = min(max(2*s.pause, leaveMin), leaveMax)
	s.until, s.waits = now.Add(s.pause), waits
	return s.until
}

func (l *leftOut[K]) makeRoom() {
	var soonest K
	var at time.Time
	for key, s := range l.of {
		if at.IsZero() || s.until.Before(at) {
			soonest, at = key, s.until
		}
	}
	delete(l.of, soonest)
}

// since is when one was first refused; zero when it was not.
func (l *leftOut[K]) since(key K) time.Time {
	if s := l.of[key]; s != nil {
		return s.first
	}
	return time.Time{}
}

// drop takes one off the list.
func (l *leftOut[K]) drop(key K) { delete(l.of, key) }

// now returns the rows or endpoints that are left out now.
func (l *leftOut[K]) now(at time.Time) (keys []K) {
	for key, s := range l.of {
		switch {
		case at.Before(s.until):
			keys = append(keys, key)
		case at.Sub(s.until) > leaveForget:
			delete(l.of, key)
		}
	}
	return keys
}

// accepted says that the database accepted something: those that were refused while it accepted nothing are tried again.
func (l *leftOut[K]) accepted(at time.Time) {
	for _, s := range l.of {
		if s.waits {
			s.until, s.pause, s.waits = at, 0, false
		}
	}
}
