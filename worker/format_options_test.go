package worker

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
)

// TestTheRequestIsAsTheHooksConfigurationSays, from the hook through the row to the receiver.
func TestTheRequestIsAsTheHooksConfigurationSays(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	configs := map[string]hook.WebhookConfig{
		"raw":      {Options: outbox.Options{Method: "PUT", ContentType: "application/x-ndjson", Headers: map[string]string{"X-Static": "hook's", "Authorization": "Bearer t"}}},
		"envelope": {ForwardHeaders: []string{"X-*"}, Options: outbox.Options{Method: "PATCH", Format: outbox.FormatEnvelope, Headers: map[string]string{"X-Static": "hook's"}}},
		"cloud":    {Options: outbox.Options{Format: outbox.FormatCloudEvents, Source: "urn:acme:runs"}, Traceparent: spanIs(parent)},
		"no span":  {Traceparent: spanIs("")},
		"bad span": {Traceparent: spanIs("00-forged\r\nX-Injected: 1")},
	}
	wants := map[string]struct {
		method, body string
		header       map[string]string
	}{
		"raw":      {"PUT", "[1]\n", map[string]string{"Content-Type": "application/x-ndjson", "X-Static": "hook's", "Authorization": "Bearer t", "X-Tenant": "", "Traceparent": ""}},
		"envelope": {"PATCH", "", map[string]string{"Content-Type": "application/json", "X-Static": "hook's", "X-Tenant": "acme", "Ce-Id": ""}},
		"cloud":    {"POST", "[1]\n", map[string]string{"Content-Type": "application/json", "Ce-Source": "urn:acme:runs", "Ce-Type": "workflow.run.succeeded", "Traceparent": parent}},
		"no span":  {"POST", "[1]\n", map[string]string{"Traceparent": ""}},
		"bad span": {"POST", "[1]\n", map[string]string{"Traceparent": "", "X-Injected": ""}},
	}
	r, to := newRig(t), newReceiver(t, nil)
	for what, c := range configs {
		r.endBy(c, succeeded(what, to.URL+"/hook", "[1]\n", map[string]string{"X-Tenant": "acme", "X-Static": "submitter's", "x-static": "submitter's"}))
	}
	r.run(r.patient())
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	got := byRun(to.requests())
	for what, want := range wants {
		req := got[what]
		if req.method != want.method || req.path != "/hook" || want.body != "" && req.body != want.body {
			t.Errorf("%s: got %s %s %q, want %s /hook %q", what, req.method, req.path, req.body, want.method, want.body)
		}
		for name, value := range want.header {
			if values := req.header.Values(name); strings.Join(values, ", ") != value {
				t.Errorf("%s: %s is %q, want %q", what, name, values, value)
			}
		}
	}
}

// TestAMessageWhoseOptionsCannotBeReadIsDead: somebody wrote them by hand, or a newer hook did. The worker sends no request
// that differs from what the options ask for. The other messages of the claim are delivered.
func TestAMessageWhoseOptionsCannotBeReadIsDead(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, nil)
	poisons := map[string]string{
		`{"timeout_ms": "soon"}`:                      "options",
		`{"timeout_ms": 1e30}`:                        "options",
		`{"timeout_ms": 1.5}`:                         "options",
		`{"headers": ["X-A"]}`:                        "options",
		`{"headers": {"X-A": 1}}`:                     "options",
		`{"forward": "X-A"}`:                          "options",
		`{"method": 7}`:                               "options",
		`{"method": "DELETE"}`:                        "method",
		`{"method": "GET"}`:                           "method",
		`{"method": "post"}`:                          "method",
		`{"method": "POST /admin HTTP/1.1\r\nX: y"}`:  "method",
		`{"format": "avro"}`:                          "format",
		`{"format": {"a": 1}}`:                        "options",
		`{"content_type": "text/plain\r\nX: forged"}`: "content_type",
	}
	ids := map[string]outbox.ID{}
	for poison := range poisons {
		ids[poison] = r.writeTo(to.URL+"/poisoned", poison)
		r.exec(`UPDATE outbox.message SET options = $1::text::jsonb WHERE id = $2`, poison, ids[poison])
	}
	headers := r.end(outbox.RunOutcome{RunID: "headers", Status: outbox.Succeeded, Headers: map[string]string{"callback_url": to.URL + "/poisoned", "X-A": "a"}})
	r.exec(`UPDATE outbox.message SET headers = '{"X-A": [1]}' WHERE id = $1`, headers)
	good := r.writeTo(to.URL+"/good", "good")
	newer := r.writeTo(to.URL+"/good", "newer") // the worker ignores options that it does not know
	r.exec(`UPDATE outbox.message SET options = '{"priority": 9, "method": "PUT", "shape": {"a": [1]}}' WHERE id = $1`, newer)

	r.run(r.patient())
	for poison, says := range poisons {
		d := r.awaitState(ids[poison], outbox.StateDead)
		if *d.DeadReason != "refused" || len(d.AttemptList) != 1 || *d.LastClass != delivery.ClassBlocked || !strings.Contains(*d.DeadError, says) {
			t.Errorf("%s: the message is dead as %s after %d attempts, of class %s: %s; want it refused and blocked", poison, *d.DeadReason, d.Attempts, *d.LastClass, *d.DeadError)
		}
	}
	if d := r.awaitState(headers, outbox.StateDead); !strings.Contains(*d.DeadError, "headers of the message") {
		t.Errorf("the message whose headers are wrong is dead for %s, want for its headers", *d.DeadError)
	}
	r.awaitState(good, outbox.StateDelivered)
	r.awaitState(newer, outbox.StateDelivered)
	for _, got := range to.requests() {
		if got.path != "/good" || got.runID == "newer" && got.method != http.MethodPut {
			t.Errorf("the receiver got %s %s for the run %s, want requests of good messages only", got.method, got.path, got.runID)
		}
	}
}

// Readable options that are out of bounds do no harm.
func TestAMessageWhoseOptionsAreOutOfBoundsIsDelivered(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, nil)
	for what, options := range map[string]string{
		"a negative timeout":     `{"timeout_ms": -5}`,
		"a timeout of ages":      `{"timeout_ms": 9223372036854775807}`,
		"a bad traceparent":      `{"traceparent": "00-x\r\nX-Injected: 1"}`,
		"a source with a break":  `{"format": "cloudevents", "source": "a\r\nX-Injected: 1"}`,
		"bad headers":            `{"headers": {"X-Bad": "a\r\nX-Injected: 1", "bad name": "b", "": "c", "Webhook-Id": "forged"}}`,
		"headers to forward":     `{"forward": ["nobody", "", "Webhook-Id", "callback_url"]}`,
		"nothing":                `{}`,
		"nulls":                  `{"method": null, "headers": null, "timeout_ms": null, "forward": null}`,
		"an empty content type":  `{"content_type": ""}`,
		"a strange content type": `{"content_type": "a thing"}`,
	} {
		id := r.writeTo(to.URL, what)
		r.exec(`UPDATE outbox.message SET options = $1::text::jsonb WHERE id = $2`, options, id)
	}
	r.run(r.patient())
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := r.count(`SELECT count(*) FROM outbox.status WHERE state <> 'delivered'`); n != 0 {
		t.Errorf("%d messages are not delivered, want none", n)
	}
	for _, got := range to.requests() {
		if got.header.Get("X-Injected") != "" || got.header.Get("X-Bad") != "" || got.id == "forged" {
			t.Errorf("%s: the request has the headers %v; want none of the bad ones", got.runID, got.header)
		}
	}
}

// spanIs is a function for WebhookConfig.Traceparent that always returns the same text.
func spanIs(text string) func(context.Context) string {
	return func(context.Context) string { return text }
}
