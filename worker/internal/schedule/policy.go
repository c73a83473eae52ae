package schedule

import "time"

// Action is what happens to a message.
type Action string

const (
	Deliver Action = "delivered"
	Retry   Action = "retry"
	Die     Action = "dead"
	Release Action = "release" // not an attempt: it was claimed and not sent
	Wait    Action = "wait"    // not an attempt: the worker itself lacks something
	Move    Action = "move"    // not an attempt: its URL was set aside
)

// Verdict is what follows from one answer.
type Verdict struct {
	Action Action
	Delay  time.Duration // for Retry and Wait: until the next attempt
	Reason string        // for a message that dies: refused, exhausted, gone
	Hold   time.Duration // for how long the receiver asks for a pause
}

// Policy is the retry policy.
type Policy struct {
	Schedule      []time.Duration // the wait after each failed attempt; there is one more attempt than waits
	Jitter        float64         // 0.2 spreads each wait by ±20 %
	RetryAfterMax time.Duration   // the longest that an endpoint can ask for
	RetryStatuses map[int]bool    // the statuses that are tried again
	Random        func() float64  // from 0 to 1; rand.Float64
}

// waitDelay is how long a message waits for something that its worker lacks.
const waitDelay = 30 * time.Second

// Judge decides what follows from an answer. n counts the message's attempts since it was written or last replayed, from 1.
func (p Policy) Judge(a Answer, n int) Verdict {
	switch {
	case a.Kind == NotSent:
		return Verdict{Action: Wait, Delay: p.Spread(waitDelay)}
	case a.Kind == Delivered:
		return Verdict{Action: Deliver}
	case a.Kind == Refused:
		return Verdict{Action: Die, Reason: "refused"}
	case a.gone():
		return Verdict{Action: Die, Reason: "gone"}
	case a.Kind == Status && !p.RetryStatuses[a.StatusCode]:
		return Verdict{Action: Die, Reason: "refused"}
	}
	hold := min(a.RetryAfter, p.RetryAfterMax)
	if n > len(p.Schedule) {
		return Verdict{Action: Die, Reason: "exhausted", Hold: hold}
	}
	return Verdict{Action: Retry, Delay: max(p.Spread(p.Schedule[max(n, 1)-1]), hold), Hold: hold}
}

// Spread applies the jitter, so that messages that failed together are not retried together.
func (p Policy) Spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + p.Jitter*(2*p.Random()-1)))
}
