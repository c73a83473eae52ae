package worker

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestTheScheduleIsWalkedAndThenExhausted(t *testing.T) {
	t.Parallel()
	p := policy{retried: statusSet(DefaultRetryStatuses()), schedule: []time.Duration{time.Second, time.Minute, time.Hour}, retryAfterMax: time.Hour}
	for _, class := range []string{classTimeout, classDNS, classConnect, classTLS, classReset, classProtocol} {
		a := answer{class: class}
		for n, wait := range p.schedule {
			want := verdict{action: actionRetry, delay: wait}
			if got := p.judge(a, n+1); got != want {
				t.Errorf("%s, attempt %d: %+v, want %+v", class, n+1, got, want)
			}
		}
		want := verdict{action: actionDead, reason: "exhausted"}
		if got := p.judge(a, 4); got != want {
			t.Errorf("%s, attempt 4: %+v, want %+v", class, got, want)
		}
	}
	want := verdict{action: actionDead, reason: "exhausted"}
	if got := (policy{schedule: []time.Duration{}}).judge(answer{class: classTimeout}, 1); got != want {
		t.Errorf("an empty schedule: %+v, want %+v", got, want)
	}
}

func TestTheDefaultScheduleIsTheDesigns(t *testing.T) {
	t.Parallel()
	var total time.Duration
	for _, wait := range DefaultRetrySchedule() {
		total += wait
	}
	if n := len(DefaultRetrySchedule()); n != 9 || total.Round(time.Hour) != 76*time.Hour {
		t.Errorf("%d waits, %v in all; want 9 waits (ten attempts), about 75 h", n, total)
	}
}

func TestJitterStaysWithinItsBoundsAndFillsThem(t *testing.T) {
	t.Parallel()
	const wait = 1000 * time.Second
	for _, jitter := range []float64{0, 0.2, 1} {
		p := policy{retried: statusSet(DefaultRetryStatuses()), schedule: []time.Duration{wait}, jitter: jitter}
		low, high := time.Duration(math.MaxInt64), time.Duration(0)
		for range 10_000 {
			d := p.judge(answer{class: classTimeout}, 1).delay
			low, high = min(low, d), max(high, d)
		}
		least, most := time.Duration(float64(wait)*(1-jitter)), time.Duration(float64(wait)*(1+jitter))
		if low < least || high > most {
			t.Errorf("jitter %v: waits from %v to %v, want %v to %v", jitter, low, high, least, most)
		}
		// Ten thousand draws that leave a tenth of the range at either end empty: once in 10^450 runs.
		if slack := time.Duration(float64(wait) * jitter / 5); low > least+slack || high < most-slack {
			t.Errorf("jitter %v: waits from %v to %v, which does not fill %v to %v", jitter, low, high, least, most)
		}
	}
}

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	const longest = math.MaxUint32 * time.Second
	for value, want := range map[string]time.Duration{
		"0":                                  0,
		"120":                                2 * time.Minute,
		"4294967295":                         longest,
		"4294967296":                         longest,
		"99999999999999999999999999":         longest,
		"Mon, 04 May 2026 03:02:31 GMT":      30 * time.Second,
		"Monday, 04-May-26 03:02:31 GMT":     30 * time.Second, // RFC 850, which RFC 9110 still asks to read
		"Mon May  4 03:02:31 2026":           30 * time.Second, // asctime
		"Mon, 04 May 2026 03:02:00 GMT":      0,
		"Thu, 01 Jan 1970 00:00:00 GMT":      0,
		"":                                   0,
		"-5":                                 0,
		"+5":                                 0,
		"1.5":                                0,
		"5 s":                                0,
		"soon":                               0,
		"2026-05-04T03:02:31Z":               0,
		"Mon, 04 May 2026 03:02:31 GMT, 120": 0,
	} {
		if got := parseRetryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	if got := parseRetryAfter("Fri, 31 Dec 9999 23:59:59 GMT", now); got <= 0 {
		t.Errorf("a date beyond what a duration holds: %v", got)
	}
}

func TestRetryAfterIsCappedAndNeverShortensTheWait(t *testing.T) {
	t.Parallel()
	p := policy{retried: statusSet(DefaultRetryStatuses()), schedule: []time.Duration{time.Minute}, retryAfterMax: time.Hour}
	for asked, want := range map[time.Duration]verdict{
		0:               {action: actionRetry, delay: time.Minute},
		time.Second:     {action: actionRetry, delay: time.Minute, hold: time.Second},
		2 * time.Minute: {action: actionRetry, delay: 2 * time.Minute, hold: 2 * time.Minute},
		math.MaxInt64:   {action: actionRetry, delay: time.Hour, hold: time.Hour},
	} {
		if got := p.judge(answer{class: classStatus, statusCode: 503, retryAfter: asked}, 1); got != want {
			t.Errorf("Retry-After %v: %+v, want %+v", asked, got, want)
		}
	}
	want := verdict{action: actionDead, reason: "exhausted", hold: time.Minute}
	if got := p.judge(answer{class: classStatus, statusCode: 429, retryAfter: time.Minute}, 2); got != want {
		t.Errorf("on the last attempt: %+v, want %+v", got, want)
	}
}

func TestATransportsFaultIsNamedByItsType(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for want, errs := range map[string][]error{
		classBlocked:  {dial(errBlocked{errors.New("no")}), fmt.Errorf("wrapped: %w", errBlocked{errors.New("no")})},
		classTimeout:  {os.ErrDeadlineExceeded, dial(os.ErrDeadlineExceeded), dial(&net.DNSError{IsTimeout: true})},
		classDNS:      {dial(&net.DNSError{IsNotFound: true}), dial(&net.DNSError{IsTemporary: true})},
		classConnect:  {dial(errors.New("refused"))},
		classProtocol: {errors.New("what is this"), http.ErrLineTooLong},
	} {
		for _, err := range errs {
			if got, _ := classify(err); got != want {
				t.Errorf("%v is of class %s, want %s", err, got, want)
			}
		}
	}
}

func TestAFaultsTextIsShortAndValid(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"\xff\xfe and NUL \x00", strings.Repeat("ä", 2000), "x" + strings.Repeat("ä", 2000), strings.Repeat("\xff!", 2000),
	} {
		_, got := classify(errors.New(text))
		if !utf8.ValidString(got) || strings.Contains(got, "\x00") || len(got) > 1000 {
			t.Errorf("%.20q… becomes %d bytes, valid: %v", text, len(got), utf8.ValidString(got))
		}
	}
}
