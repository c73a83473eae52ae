package worker

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// TestWhatIsSentIsVerifiedByTheOracleAndByUs, over the exact bytes, in every format and for every kind of key.
func TestWhatIsSentIsVerifiedByTheOracleAndByUs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	first, second, stranger := generate(t, webhook.HMAC), generate(t, webhook.HMAC), generate(t, webhook.HMAC)
	private := generate(t, webhook.Ed25519)
	keys := newRing(map[string]webhook.Keys{
		"v1": {first}, "v1a": {private}, "both": {private, first}, "two": {second, first, publicOf(t, private)},
	})
	bodies := map[string]string{
		"json": `{"a": [1, 2.50, "ü<>&"]}` + "\n", "empty": "", "binary": "\xff\x00\r\n", "text": "grüße\r\n", "large": strings.Repeat("0123456789", 90_000),
	}
	for set := range keys.sets {
		for what, body := range bodies {
			for i, format := range []outbox.Format{outbox.FormatRaw, outbox.FormatEnvelope, outbox.FormatCloudEvents} {
				c := hook.WebhookConfig{SigningKey: set, Format: format, Method: outbox.Methods[i]}
				r.endBy(c, succeeded(fmt.Sprint(set, " ", what, " ", format), to.URL, body, nil))
			}
		}
	}
	c := r.patient()
	c.Keys = keys
	r.run(c)
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })

	got := to.requests()
	if want := len(keys.sets) * len(bodies) * 3; len(got) != want {
		t.Fatalf("%d requests, want %d", len(got), want)
	}
	for _, req := range got {
		set, _, _ := strings.Cut(req.runID, " ")
		wantVerified(t, req, set != "v1a", set == "v1a" || set == "both", first, private)
		if set == "two" && (verifyByTheOracle(t, second, req) != nil || verify(req, second) != nil) {
			t.Errorf("%s: the second key's signature is not there", req.runID)
		}
		if err := verify(req, stranger); !errors.Is(err, webhook.ErrSignature) {
			t.Errorf("%s: by a stranger's key: %v", req.runID, err)
		}
		req.body += " "
		if verify(req, first, publicOf(t, private)) == nil {
			t.Errorf("%s: another body is verified", req.runID)
		}
	}
}

func wantVerified(t *testing.T, req request, v1, v1a bool, key, private webhook.Key) {
	t.Helper()
	if v1 {
		if err := verifyByTheOracle(t, key, req); err != nil {
			t.Errorf("%s: the oracle: %v", req.runID, err)
		}
		if err := verify(req, key); err != nil {
			t.Errorf("%s: v1: %v", req.runID, err)
		}
	}
	if err := verify(req, publicOf(t, private)); v1a != (err == nil) {
		t.Errorf("%s: v1a: %v, want it signed: %v", req.runID, err, v1a)
	}
	for _, name := range []string{webhook.HeaderID, webhook.HeaderTimestamp, webhook.HeaderSignature} {
		if n := len(req.header.Values(name)); n != 1 {
			t.Errorf("%s: %d values of %s", req.runID, n, name)
		}
	}
}

// TestEachTenantsMessagesAreSignedWithItsOwnKey, chosen by a function of the outcome.
func TestEachTenantsMessagesAreSignedWithItsOwnKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	sets := map[string]webhook.Keys{"": {generate(t, webhook.HMAC)}, "hook": {generate(t, webhook.HMAC)}, "a": {generate(t, webhook.HMAC)}, "b.2": {generate(t, webhook.HMAC)}}
	of := func(o outbox.RunOutcome) string { return o.Headers["tenant"] }
	config := hook.WebhookConfig{SigningKey: "hook", SigningKeyOf: of}
	for _, tenant := range []string{"a", "b.2"} {
		r.endBy(config, succeeded(tenant, to.URL, "x", map[string]string{"tenant": tenant}))
	}
	r.endBy(config, succeeded("hook", to.URL, "x", nil))                  // "" of the function: the hook's own
	r.endBy(hook.WebhookConfig{}, succeeded("default", to.URL, "x", nil)) // nothing named: the default set
	c := r.patient()
	c.Keys = newRing(sets)
	r.run(c)
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	got := byRun(to.requests())
	for runID, set := range map[string]string{"a": "a", "b.2": "b.2", "hook": "hook", "default": ""} {
		for name, keys := range sets {
			if err := verifyByTheOracle(t, keys[0], got[runID]); (err == nil) != (name == set) {
				t.Errorf("run %s, by the key of %q: %v", runID, name, err)
			}
		}
	}
}

// TestARetryIsSignedAnew: its timestamp is another one, and its id the same.
func TestARetryIsSignedAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	key := generate(t, webhook.HMAC)
	n := 0
	to := newReceiver(t, func(w http.ResponseWriter, _ request) {
		if n++; n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	c := r.patient()
	c.Keys = newRing(map[string]webhook.Keys{"": {key}})
	id := r.writeTo(to.URL, "run-1")
	r.run(c)
	r.awaitState(id, outbox.StateDelivered)
	for i, req := range to.requests() {
		if err := verifyByTheOracle(t, key, req); err != nil || req.id != id.String() {
			t.Errorf("attempt %d, of %s: %v", i+1, req.id, err)
		}
	}
}

// TestNothingThatIsSuppliedReplacesASignature or adds one: not a submitter's header, forwarded by a hook that forwards
// all, and not a row that was written by hand. With underscores it would still become the same variable for CGI.
func TestNothingThatIsSuppliedReplacesASignature(t *testing.T) {
	t.Parallel()
	forged := map[string]string{}
	for _, name := range append(outbox.ReservedHeaders(), "Ce-Id", "Ce-Signature") {
		lower := strings.ToLower(name)
		for _, spelling := range []string{name, lower, strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(lower, "-", "_")} {
			forged[spelling] = "v1,forged"
		}
	}
	key := generate(t, webhook.HMAC)
	for what, keys := range map[string]Keyring{"signed": newRing(map[string]webhook.Keys{"": {key}}), "unsigned": nil} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r, to := newRig(t), newReceiver(t, nil)
			byHook := r.endBy(hook.WebhookConfig{ForwardHeaders: []string{"*"}}, succeeded("by the submitter", to.URL, "x", forged))
			byHand := r.writeTo(to.URL, "by hand")
			r.exec(`UPDATE outbox.message SET options = jsonb_build_object('headers', $1::jsonb) WHERE id = $2`, forged, byHand)
			c := r.patient()
			c.Keys = keys
			r.run(c)
			for _, id := range []outbox.ID{byHook, byHand} {
				note := r.awaitState(id, outbox.StateDelivered).AttemptList[0].Note
				if note == nil || !strings.Contains(*note, "webhook_signature") || !strings.Contains(*note, "WEBHOOK-ID") || strings.Contains(*note, "forged") {
					t.Errorf("the note does not say what was left out, or says too much: %v", note)
				}
			}
			for _, req := range to.requests() {
				wantNothingForged(t, req)
				if err := verifyByTheOracle(t, key, req); (keys != nil) != (err == nil) {
					t.Errorf("%s: %v", req.runID, err)
				}
			}
		})
	}
}

func wantNothingForged(t *testing.T, req request) {
	t.Helper()
	for name, values := range req.header {
		if len(values) != 1 || strings.Contains(values[0], "forged") {
			t.Errorf("%s: %s is %q", req.runID, name, values)
		}
	}
}
