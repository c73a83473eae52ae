package worker

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestNoCookieIsKept between requests: one endpoint serves many tenants.
func TestNoCookieIsKept(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, func(w http.ResponseWriter, _ request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "of somebody", Path: "/"})
	})
	d, err := newDeliverer(direct("127.0.0.1").WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for range 3 {
		if a := d.deliver(t.Context(), messageTo(to.URL)); a.class != classDelivered {
			t.Fatalf("%s: %s", a.class, a.err)
		}
	}
	for i, got := range to.requests() {
		if cookies := got.header["Cookie"]; cookies != nil {
			t.Errorf("request %d brought cookies: %q", i, cookies)
		}
	}
}

// TestACompressedAnswerStaysAsItIs: nobody asked for it, and a few bytes of it may be gigabytes.
func TestACompressedAnswerStaysAsItIs(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 10<<20)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	to := newReceiver(t, func(w http.ResponseWriter, _ request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	a := deliverOnce(t, direct("127.0.0.1"), messageTo(to.URL))
	if a.class != classDelivered {
		t.Fatalf("%s: %s", a.class, a.err)
	}
	if got := to.requests()[0].header["Accept-Encoding"]; got != nil {
		t.Errorf("the request asks for %q", got)
	}
	if want := validText(bomb.Bytes()[:responseBytesKept]); a.response != want {
		t.Errorf("the start is kept as %.40q…, want %.40q…", a.response, want)
	}
}

// TestTheStartOfAnAnswerIsKeptAsTextThatPostgresCarries, whatever it is and wherever it is cut.
func TestTheStartOfAnAnswerIsKeptAsTextThatPostgresCarries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	answers := map[string]string{
		"empty": "", "short": "thank you", "at the limit": strings.Repeat("x", responseBytesKept),
		"long": strings.Repeat("x", 100_000), "cut in a letter": "x" + strings.Repeat("ü", 2000), "binary": strings.Repeat("\xff\x00", 700),
		"NUL": "a\x00b",
	}
	to := newReceiver(t, func(w http.ResponseWriter, got request) { _, _ = io.WriteString(w, answers[got.runID]) })
	ids := map[string]outbox.ID{}
	for what := range answers {
		ids[what] = r.writeTo(to.URL, what)
	}
	r.run(r.patient())
	for what, sent := range answers {
		d := r.awaitState(ids[what], outbox.StateDelivered)
		got := d.AttemptList[0].Response
		if sent == "" {
			if got != nil {
				t.Errorf("%s: %q", what, *got)
			}
			continue
		}
		want := strings.ReplaceAll(strings.ToValidUTF8(sent[:min(len(sent), responseBytesKept)], "\uFFFD"), "\x00", "\uFFFD")
		if got == nil || *got != want || !utf8.ValidString(*got) {
			t.Errorf("%s: kept as %.60v, want %.60q", what, got, want)
		}
	}
}

// TestTheStatusesThatAreTriedAgainCanBeChosen, those of success and 410 apart.
func TestTheStatusesThatAreTriedAgainCanBeChosen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, func(w http.ResponseWriter, got request) {
		w.WriteHeader(map[string]int{"/404": 404, "/409": 409, "/302": 302, "/500": 500, "/429": 429, "/200": 200}[got.path])
	})
	c := r.patientOnce()
	c.RetryStatuses = []int{302, 404, 500}
	wants := map[string]outbox.State{
		"/404": outbox.StateRetrying, "/302": outbox.StateRetrying, "/500": outbox.StateRetrying,
		"/409": outbox.StateDead, "/429": outbox.StateDead, "/200": outbox.StateDelivered,
	}
	ids := map[string]outbox.ID{}
	for path := range wants {
		ids[path] = r.writeTo(to.URL+path, path)
	}
	r.run(c)
	for path, want := range wants {
		if d := r.awaitState(ids[path], want); want == outbox.StateDead && *d.DeadReason != "refused" {
			t.Errorf("%s: dead for %s", path, *d.DeadReason)
		}
	}
}

func TestNoStatusNeedBeTriedAgain(t *testing.T) {
	t.Parallel()
	p := newPolicy(Config{RetryStatuses: []int{}, RetrySchedule: []time.Duration{time.Second}}.WithDefaults())
	for status := 300; status < 600; status++ {
		if v := p.judge(answer{class: classStatus, statusCode: status}, 1); v.action != actionDead {
			t.Errorf("%d: %+v", status, v)
		}
	}
	if v := p.judge(answer{class: classTimeout}, 1); v.action != actionRetry {
		t.Errorf("a timeout: %+v", v)
	}
}

func TestStatusesThatCannotBeChosenAreRefused(t *testing.T) {
	t.Parallel()
	for _, status := range []int{-1, 0, 100, 199, 200, 204, 299, 410, 600, 1000} {
		err := Config{RetryStatuses: []int{503, status}}.Validate()
		if err == nil || !strings.Contains(err.Error(), "RetryStatuses") {
			t.Errorf("%d: %v", status, err)
		}
	}
	if err := (Config{RetryStatuses: []int{}}).Validate(); err != nil {
		t.Error(err)
	}
}
