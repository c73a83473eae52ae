package worker

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestTheRequestSaysTheOutcome(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	const text = "text/plain; charset=utf-8"
	cases := []struct {
		outcome     outbox.RunOutcome
		body        string
		contentType string
	}{
		{outbox.RunOutcome{RunID: "json", Status: outbox.Succeeded, Result: []byte(` {"a": [1]} `)}, ` {"a": [1]} `, "application/json"},
		{outbox.RunOutcome{RunID: "text", Status: outbox.Succeeded, Result: []byte("grüße")}, "grüße", text},
		{outbox.RunOutcome{RunID: "bytes", Status: outbox.Succeeded, Result: []byte{0xff, 0, 1}}, "\xff\x00\x01", "application/octet-stream"},
		{outbox.RunOutcome{RunID: "nothing", Status: outbox.Succeeded}, "", text},
		{outbox.RunOutcome{RunID: "failed", Status: outbox.Failed, Error: "it broke: ä"}, "it broke: ä", text},
		{outbox.RunOutcome{RunID: "failed-json", Status: outbox.Failed, Error: `{"a":1}`}, `{"a":1}`, text},
		{outbox.RunOutcome{RunID: "stopped", Status: outbox.Cancelled, Error: "by the user"}, "by the user", text},
		{outbox.RunOutcome{RunID: "stopped-from-outside", Status: outbox.Cancelled}, "", text},
		{outbox.RunOutcome{RunID: "run/with spaces and ä", Status: outbox.Succeeded}, "", text},
	}
	ids := map[string]string{}
	for _, c := range cases {
		c.outcome.Headers = map[string]string{"X-Tenant": "the service's own", "callback_url": to.URL}
		ids[c.outcome.RunID] = r.write(outbox.Message{Outcome: c.outcome, URL: to.URL + "/hook?a=b"}).String()
	}
	before := time.Now().Unix()
	r.run(r.config())
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	after := time.Now().Unix()

	got := map[string]request{}
	for _, req := range to.requests() {
		got[req.runID] = req
	}
	for _, c := range cases {
		req := got[c.outcome.RunID]
		want := request{id: ids[c.outcome.RunID], status: c.outcome.Status.String(), body: c.body, method: http.MethodPost, path: "/hook"}
		if req.id != want.id || req.status != want.status || req.body != want.body || req.method != want.method || req.path != want.path {
			t.Errorf("run %q: got %+v, want %+v", c.outcome.RunID, req, want)
		}
		if got := req.header.Get("Content-Type"); got != c.contentType {
			t.Errorf("run %q: Content-Type %q, want %q", c.outcome.RunID, got, c.contentType)
		}
		if got := req.header.Get("User-Agent"); got != "Epilogue" {
			t.Errorf("run %q: User-Agent %q", c.outcome.RunID, got)
		}
		if at, err := strconv.ParseInt(req.header.Get("webhook-timestamp"), 10, 64); err != nil || at < before || at > after {
			t.Errorf("run %q: webhook-timestamp %d, want %d to %d (%v)", c.outcome.RunID, at, before, after, err)
		}
		if req.header.Get("X-Tenant") != "" || req.header.Get("callback_url") != "" {
			t.Errorf("run %q: the run's metadata went out unasked: %v", c.outcome.RunID, req.header)
		}
	}
}

// end records an outcome through a webhook hook that forwards every header, and returns the message.
func (r *rig) end(o outbox.RunOutcome) outbox.ID {
	r.t.Helper()
	h, err := hook.NewWebhook(hook.WebhookConfig{Schema: r.Schema, ForwardHeaders: []string{"*"}})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := pgx.BeginFunc(r.t.Context(), r.Pool, func(tx pgx.Tx) error {
		return h.OnTermination(r.t.Context(), tx, o)
	}); err != nil {
		r.t.Fatal(err)
	}
	list, err := r.store.List(r.t.Context(), outbox.Filter{RunID: o.RunID})
	if err != nil || len(list) != 1 {
		r.t.Fatalf("%d messages of run %q, %v", len(list), o.RunID, err)
	}
	return list[0].ID
}

func TestForwardedHeadersReplaceNothingOfOurs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	headers := map[string]string{
		"callback_url": to.URL, "X-Tenant": "acme", "x-lower": "kept", "X-Accent": "grüße", "Authorization": "Bearer t",
		"X-Bad-Value": "a\r\nWebhook-Id: forged", "X-Nul": "forged\x01", "ümlaut": "forged", "with space": "forged", "": "forged",
	}
	leftOut := []string{"X-Bad-Value", "X-Nul", "ümlaut", "with space"}
	for _, name := range outbox.ReservedHeaders() {
		headers[strings.ToLower(name)] = "forged"
		leftOut = append(leftOut, strings.ToLower(name))
	}
	id := r.end(outbox.RunOutcome{RunID: "run-1", Status: outbox.Succeeded, Headers: headers})
	c := r.config()
	c.UserAgent = "Epilogue/test"
	r.run(c)
	d := r.awaitState(id, outbox.StateDelivered)

	got := to.requests()[0]
	for name, values := range got.header {
		if len(values) != 1 || strings.Contains(values[0], "forged") {
			t.Errorf("%s: %q", name, values)
		}
	}
	want := map[string]string{
		"X-Tenant": "acme", "X-Lower": "kept", "X-Accent": "grüße", "Authorization": "Bearer t", "Callback_url": "",
		"Webhook-Id": id.String(), "Workflow-Run-Id": "run-1", "Workflow-Run-Status": "succeeded",
		"User-Agent": "Epilogue/test", "Content-Type": "text/plain; charset=utf-8",
	}
	for name, value := range want {
		if got := got.header.Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	if !strings.HasSuffix(to.URL, got.host) {
		t.Errorf("Host is %q", got.host)
	}
	note := d.AttemptList[0].Note
	if note == nil {
		t.Fatal("the attempt does not say what was left out")
	}
	for _, name := range append(leftOut, "header name is empty") {
		if !strings.Contains(*note, name) {
			t.Errorf("the note does not name %q: %s", name, *note)
		}
	}
	if strings.Contains(*note, "forged") || strings.Contains(*note, "acme") {
		t.Errorf("the note holds a header's value, which may be a secret: %s", *note)
	}
	if i := slices.IndexFunc(leftOut, func(name string) bool { return d.Headers[name] != headers[name] }); i >= 0 {
		t.Errorf("header %q is not kept in the row", leftOut[i])
	}
}

func TestARunIDThatHTTPForbidsIsLeftOutOfTheRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	id := r.writeTo(to.URL, "run\r\nWebhook-Id: forged")
	r.run(r.config())
	d := r.awaitState(id, outbox.StateDelivered)
	got := to.requests()[0]
	if got.id != id.String() || len(got.header["Webhook-Id"]) != 1 || got.runID != "" {
		t.Errorf("the receiver got %v", got.header)
	}
	if note := d.AttemptList[0].Note; note == nil || !strings.Contains(*note, "Workflow-Run-Id") {
		t.Errorf("the attempt's note is %v", note)
	}
}
