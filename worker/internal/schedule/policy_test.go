package schedule

import (
	"math"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

func retried(codes ...int) map[int]bool {
	set := map[int]bool{}
	for _, code := range codes {
		set[code] = true
	}
	return set
}

func half() float64 { return 0.5 }

func TestEachRetryWaitsAsScheduledAndThenTheMessageIsExhausted(t *testing.T) {
	t.Parallel()
	p := Policy{RetryStatuses: retried(503), Schedule: []time.Duration{time.Second, time.Minute, time.Hour}, RetryAfterMax: time.Hour, Random: half}
	for _, a := range []Answer{{Kind: Timeout}, {Kind: Failed}, {Kind: Status, StatusCode: 503}} {
		for n, wait := range p.Schedule {
			want := Verdict{Action: Retry, Delay: wait}
			if got := p.Judge(a, n+1); got != want {
				t.Errorf("%+v, attempt %d: the verdict is %+v, want %+v", a, n+1, got, want)
			}
		}
		want := Verdict{Action: Die, Reason: "exhausted"}
		if got := p.Judge(a, 4); got != want {
			t.Errorf("%+v, attempt 4: the verdict is %+v, want %+v", a, got, want)
		}
	}
	want := Verdict{Action: Die, Reason: "exhausted"}
	if got := (Policy{Random: half}).Judge(Answer{Kind: Timeout}, 1); got != want {
		t.Errorf("with an empty schedule the verdict is %+v, want %+v", got, want)
	}
}

func TestWhatAnAnswerLeadsTo(t *testing.T) {
	t.Parallel()
	p := Policy{RetryStatuses: retried(429, 503), Schedule: []time.Duration{time.Minute}, RetryAfterMax: time.Hour, Random: half}
	for name, c := range map[string]struct {
		answer Answer
		want   Verdict
	}{
		"a 2xx":                  {Answer{Kind: Delivered, StatusCode: 204}, Verdict{Action: Deliver}},
		"gone":                   {Answer{Kind: Status, StatusCode: http.StatusGone}, Verdict{Action: Die, Reason: "gone"}},
		"a status not retried":   {Answer{Kind: Status, StatusCode: 404}, Verdict{Action: Die, Reason: "refused"}},
		"refused by this worker": {Answer{Kind: Refused}, Verdict{Action: Die, Reason: "refused"}},
		"not sent":               {Answer{Kind: NotSent}, Verdict{Action: Wait, Delay: waitDelay}},
	} {
		if got := p.Judge(c.answer, 1); got != c.want {
			t.Errorf("%s: the verdict is %+v, want %+v", name, got, c.want)
		}
	}
}

func TestJitteredWaitsFillTheRangeAndStayWithinIt(t *testing.T) {
	t.Parallel()
	const wait = 1000 * time.Second
	for _, jitter := range []float64{0, 0.2, 1} {
		p := Policy{Schedule: []time.Duration{wait}, Jitter: jitter, Random: rand.Float64}
		low, high := time.Duration(math.MaxInt64), time.Duration(0)
		for range 10_000 {
			d := p.Judge(Answer{Kind: Timeout}, 1).Delay
			low, high = min(low, d), max(high, d)
		}
		least, most := time.Duration(float64(wait)*(1-jitter)), time.Duration(float64(wait)*(1+jitter))
		if low < least || high > most {
			t.Errorf("jitter %v: the waits are from %v to %v, want them within %v to %v", jitter, low, high, least, most)
		}
		// Ten thousand draws leave a tenth of the range empty at one end once in 10^450 runs.
		if slack := time.Duration(float64(wait) * jitter / 5); low > least+slack || high < most-slack {
			t.Errorf("jitter %v: the waits are from %v to %v, want them nearly from %v to %v", jitter, low, high, least, most)
		}
	}
}

func TestRetryAfterIsCappedAndNeverShortensTheWait(t *testing.T) {
	t.Parallel()
	p := Policy{RetryStatuses: retried(429, 503), Schedule: []time.Duration{time.Minute}, RetryAfterMax: time.Hour, Random: half}
	for asked, want := range map[time.Duration]Verdict{
		0:               {Action: Retry, Delay: time.Minute},
		time.Second:     {Action: Retry, Delay: time.Minute, Hold: time.Second},
		2 * time.Minute: {Action: Retry, Delay: 2 * time.Minute, Hold: 2 * time.Minute},
		math.MaxInt64:   {Action: Retry, Delay: time.Hour, Hold: time.Hour},
	} {
		if got := p.Judge(Answer{Kind: Status, StatusCode: 503, RetryAfter: asked}, 1); got != want {
			t.Errorf("Retry-After %v: the verdict is %+v, want %+v", asked, got, want)
		}
	}
	want := Verdict{Action: Die, Reason: "exhausted", Hold: time.Minute}
	if got := p.Judge(Answer{Kind: Status, StatusCode: 429, RetryAfter: time.Minute}, 2); got != want {
		t.Errorf("on the last attempt the verdict is %+v, want %+v", got, want)
	}
}
