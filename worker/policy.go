package worker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// The classes of an attempt, as the table names them.
const (
	classDelivered = "delivered"
	classStatus    = "status"
	classTimeout   = "timeout"
	classDNS       = "dns"
	classConnect   = "connect"
	classTLS       = "tls"
	classReset     = "reset"
	classProtocol  = "protocol"
	classBlocked   = "blocked"
)

// answer is how one attempt ended.
type answer struct {
	class      string
	statusCode int           // 0 when no answer came
	err        string        // what went wrong, never with the URL in it
	response   string        // start of the response body
	note       string        // what was left out of the request
	retryAfter time.Duration // what the endpoint asked for; 0 when it did not
	waitsFor   string        // why it was not sent, which is nobody's attempt: a key, or the proxy
	startedAt  time.Time
	duration   time.Duration
}

// action is what becomes of the message, as the record statement names it.
type action string

const (
	actionDelivered action = "delivered"
	actionRetry     action = "retry"
	actionDead      action = "dead"
	actionRelease   action = "release" // not an attempt: the worker is stopping
	actionWait      action = "wait"    // not an attempt: something of our own is missing
)

// verdict is what one answer leads to.
type verdict struct {
	action action
	delay  time.Duration // until the next attempt, of a retry or a wait
	reason string        // of a dead message: refused, exhausted, gone
	hold   time.Duration // how long the whole endpoint is left alone
	pause  bool          // the endpoint is gone: nothing is sent until an operator resumes it
}

// policy is the retry policy of design §4.
type policy struct {
	schedule      []time.Duration
	jitter        float64
	retryAfterMax time.Duration
	retried       map[int]bool // statuses
}

func newPolicy(c Config) policy {
	return policy{
		schedule: c.RetrySchedule, jitter: *c.RetryJitter, retryAfterMax: c.RetryAfterMax, retried: statusSet(c.RetryStatuses),
	}
}

func statusSet(statuses []int) map[int]bool {
	set := make(map[int]bool, len(statuses))
	for _, status := range statuses {
		set[status] = true
	}
	return set
}

// waitFor is how long a message waits for what its worker lacks.
const waitFor = 30 * time.Second

// judge says what an answer leads to, for the message's n-th attempt since it was written or last replayed.
func (p policy) judge(a answer, n int) verdict {
	switch {
	case a.waitsFor != "":
		return verdict{action: actionWait, delay: p.spread(waitFor)}
	case a.class == classDelivered:
		return verdict{action: actionDelivered}
	case a.class == classBlocked:
		return verdict{action: actionDead, reason: "refused"}
	case a.class == classStatus && a.statusCode == http.StatusGone:
		return verdict{action: actionDead, reason: "gone", pause: true}
	case a.class == classStatus && !p.retried[a.statusCode]:
		return verdict{action: actionDead, reason: "refused"}
	}
	hold := min(a.retryAfter, p.retryAfterMax)
	if n > len(p.schedule) {
		return verdict{action: actionDead, reason: "exhausted", hold: hold}
	}
	return verdict{action: actionRetry, delay: max(p.spread(p.schedule[max(n, 1)-1]), hold), hold: hold}
}

// spread applies the jitter, so that what failed together does not come back together.
func (p policy) spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + p.jitter*(2*rand.Float64()-1)))
}

// parseRetryAfter reads both forms of Retry-After (RFC 9110, section 10.2.3). What is not valid, or past, is 0.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil || errors.Is(err, strconv.ErrRange) { // then the most it can be
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// statusError says what the answer was, and of a redirect where it pointed.
func statusError(resp *http.Response) string {
	text := fmt.Sprintf("answered %d", resp.StatusCode)
	if name := http.StatusText(resp.StatusCode); name != "" {
		text += " " + name
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		text += "; redirects are not followed"
		if target := resp.Header.Get("Location"); target != "" {
			text += fmt.Sprintf(" (to %.200q)", target)
		}
	}
	return text
}
