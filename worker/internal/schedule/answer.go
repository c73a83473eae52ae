package schedule

import (
	"net/http"
	"time"
)

// Kind says how an attempt ended, as far as scheduling is concerned.
type Kind int

const (
	Delivered Kind = iota + 1 // a 2xx
	Status                    // any other status
	Refused                   // this worker does not send it
	Timeout                   // no complete answer in time
	Failed                    // no complete answer for another reason
	NotSent                   // the worker itself lacks something; not an attempt
	Moved                     // not sent, because its URL was set aside; not an attempt
)

// Answer is what the scheduler needs of one attempt.
type Answer struct {
	Kind       Kind
	StatusCode int           // 0 when no status came
	Unreached  bool          // no request was sent: the host could not be looked up, connected to, or trusted
	RetryAfter time.Duration // what the endpoint asked for; 0 when it did not
	StartedAt  time.Time
	Duration   time.Duration
}

// Unhealthy reports an answer that counts against the endpoint's health: none at all, or a 5xx. A refusal, or even "too
// many requests", shows that the endpoint works.
func (a Answer) Unhealthy() bool {
	switch a.Kind {
	case Delivered, Refused, Moved:
		return false
	case Status:
		return a.StatusCode >= http.StatusInternalServerError
	}
	return true
}

// overloaded reports an answer that means: too many at once.
func (a Answer) overloaded() bool {
	return a.Kind == Timeout || a.Kind == Status &&
		(a.StatusCode == http.StatusTooManyRequests || a.StatusCode == http.StatusServiceUnavailable)
}

// backsOff reports an answer after which nothing claimed ahead is sent: too many at once, or no answer at all.
func (a Answer) backsOff() bool { return a.overloaded() || a.Unhealthy() && a.Kind != Status }

// gone reports an answer that means: nothing is here any longer.
func (a Answer) gone() bool { return a.Kind == Status && a.StatusCode == http.StatusGone }
