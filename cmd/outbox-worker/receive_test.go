package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

// receiving is a receiver on a socket of its own.
type receiving struct {
	*running
	url    string
	client *http.Client
}

func beginReceiver(t *testing.T, args ...string) receiving {
	t.Helper()
	return beginReceiverIn(t, nil, args...)
}

func beginReceiverIn(t *testing.T, environ []string, args ...string) receiving {
	t.Helper()
	r := begin(t, environ, append([]string{"receive", "--addr", "127.0.0.1:0"}, args...)...)
	url := regexp.MustCompile(`http://[^;]+`).FindString(r.line("receiving on"))
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return receiving{r, url, &http.Client{Transport: transport, Timeout: patience}}
}

func (r receiving) post(id, body string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.url+"/hook", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Header.Set("webhook-id", id)
	q.Header.Set("Workflow-Run-Id", "run-"+id)
	q.Header.Set("Workflow-Run-Status", "succeeded")
	response, err := r.client.Do(q)
	if err == nil {
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	return response, err
}

func (r receiving) mustPost(id, body string, want int) *http.Response {
	r.t.Helper()
	response, err := r.post(id, body)
	if err != nil {
		r.t.Fatal(err)
	}
	if response.StatusCode != want {
		r.t.Fatalf("the answer is %d, want %d", response.StatusCode, want)
	}
	return response
}

func TestAReceiverMarksRetriesAndDuplicatesAndSumsThemUp(t *testing.T) {
	t.Parallel()
	r := beginReceiver(t, "--fail-first", "1", "--retry-after", "10s", "--body")
	if got := r.mustPost("m1", "one\x1b\ntwo", 503).Header.Get("Retry-After"); got != "10" {
		t.Errorf("Retry-After is %q, want 10", got)
	}
	r.line("TIME")
	if line := r.line("m1"); !regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3}  503     m1 +run-m1 +succeeded        8$`).MatchString(line) {
		t.Errorf("the line is %q, want a time, 503, m1, its run, its status and 8 bytes", line)
	}
	if line := r.line("  | one"); line != `  | one\x1b` {
		t.Errorf("the body's first line is %q, want its control character escaped", line)
	}
	r.line("  | two")
	if got := r.mustPost("m1", "", 200).Header.Get("Retry-After"); got != "" {
		t.Errorf("an accepted message has the Retry-After %q, want none", got)
	}
	r.line("retry: attempt 2")
	r.mustPost("m1", "", 200)
	r.line("DUPLICATE: arrival 3 of an accepted message")
	r.mustPost("", "", 503)
	status, rest := r.end()
	if status != exitOK || !strings.Contains(rest, "4 requests for 1 message: 2 accepted, 2 refused, 0 unanswered; 1 retry, 1 duplicate") ||
		!strings.Contains(rest, "1 request without a webhook-id") {
		t.Errorf("exit status %d, want 0, and the summary is\n%s\nwant the counts of all requests", status, rest)
	}
}

func TestAReceiverPrintsJSONLinesForScripts(t *testing.T) {
	t.Parallel()
	r := beginReceiver(t, "--json", "--status", "204", "--body")
	r.mustPost("m1", `{"a":"<é>"}`, 204)
	r.mustPost("m1", "", 204)
	var d delivery
	if err := json.Unmarshal([]byte(r.line("delivery")), &d); err != nil {
		t.Fatal(err)
	}
	if d.WebhookID != "m1" || d.RunID != "run-m1" || d.Answer != 204 || d.Bytes != 12 || *d.Body != `{"a":"<é>"}` || d.Attempt != 1 || d.Duplicate {
		t.Errorf("got %+v, want the delivery as it was sent", d)
	}
	if err := json.Unmarshal([]byte(r.line("delivery")), &d); err != nil || !d.Duplicate || d.Attempt != 2 {
		t.Errorf("got %+v, %v; want a duplicate, as attempt 2", d, err)
	}
	_, rest := r.end()
	var s summary
	if err := json.Unmarshal([]byte(rest), &s); err != nil || s != (summary{Type: "summary", Requests: 2, Messages: 1, Accepted: 2, Duplicates: 1}) {
		t.Errorf("got %+v, %v; want 2 requests for 1 message, with 1 duplicate", s, err)
	}
}

func TestAReceiverThatHangsGivesNoAnswerAndStopsAllTheSame(t *testing.T) {
	t.Parallel()
	r := beginReceiver(t, "--hang")
	answered := make(chan error, 1)
	go func() {
		_, err := r.post("m1", "x")
		answered <- err
	}()
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { time.AfterFunc(50*time.Millisecond, giveUp) }, // the client waits for a moment, and no answer comes
	})
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, strings.NewReader("y"))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("webhook-id", "m2")
	if response, err := r.client.Do(q); err == nil {
		_ = response.Body.Close()
		t.Error("the receiver answered, want no answer")
	}
	if line := r.line("m2"); !strings.Contains(line, "gave up") {
		t.Errorf("the line is %q, want that the sender gave up", line)
	}
	status, rest := r.end()
	if err := <-answered; err == nil {
		t.Error("the receiver answered when it stopped, want no answer")
	}
	if status != exitOK || !strings.Contains(rest, "unanswered") {
		t.Errorf("exit status %d, want 0 and a summary that counts unanswered requests: %s", status, rest)
	}
}

func TestAReceiverFailsItsShareAndDelays(t *testing.T) {
	t.Parallel()
	r := beginReceiver(t, "--fail", "100", "--fail-status", "429", "--delay", "20ms")
	begun := time.Now()
	r.mustPost("m1", "", 429)
	if took := time.Since(begun); took < 20*time.Millisecond {
		t.Errorf("the answer came after %v, want 20 ms at least", took)
	}
	r.line("429")
	response, err := r.client.Get(r.url)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("the answer to a GET is %d, want 405", response.StatusCode)
	}
	r.end()
}

func TestAReceiverKeepsABoundedPartOfABody(t *testing.T) {
	t.Parallel()
	start, bytes, err := readBody(strings.NewReader(strings.Repeat("x", bodyBytesKept+7)))
	if len(start) != bodyBytesKept || bytes != bodyBytesKept+7 || err != nil {
		t.Errorf("readBody keeps %d of %d bytes, %v; want bodyBytesKept of 7 more", len(start), bytes, err)
	}
	if _, _, err := readBody(endless{}); err == nil {
		t.Error("readBody of an endless body returns no error, want one")
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func TestARecordForgetsTheOldestIDs(t *testing.T) {
	t.Parallel()
	r := newRecord(3)
	for i := range 5 {
		id := fmt.Sprint(i)
		r.answered(id, r.arrived(id), 200)
	}
	if len(r.known) != 3 || r.sum.Forgotten != 2 || r.sum.Messages != 5 {
		t.Errorf("%d ids are remembered, with the sums %+v; want 3 remembered and 2 forgotten", len(r.known), r.sum)
	}
	if n := r.arrived("0"); n != 1 || len(r.known) != 3 {
		t.Errorf("arrived of a forgotten id returns %d, want 1", n)
	}
	if n := r.arrived("4"); n != 2 || !r.answered("4", n, 503) {
		t.Errorf("arrived of a remembered id returns %d, want 2", n)
	}
}

func TestTheErrorOfAnAddressInUseNamesItsFlag(t *testing.T) {
	t.Parallel()
	r := beginReceiver(t)
	addr := strings.TrimPrefix(r.url, "http://")
	invoke(t, nil, "receive", "--addr", addr).wants(t, exitFailed, "--addr: listen tcp "+addr, "name another with --addr")
	db := testdb.NewEmpty(t)
	invoke(t, append(environment(db), "OUTBOX_ADMIN_ADDR="+addr), "run").wants(t, exitFailed, "OUTBOX_ADMIN_ADDR: listen tcp "+addr, "or off")
	r.end()
}
