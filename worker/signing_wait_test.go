package worker

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// awaitWait waits until a message's row says that it waits, and checks that nothing else has changed.
func (r *rig) awaitWait(id outbox.ID) (waitsFor string) {
	r.t.Helper()
	var d operator.MessageDetail
	r.await("the message waits", func() bool {
		d = r.state(id)
		return d.WaitsFor != nil
	})
	if d.State != outbox.StatePending || d.Attempts != 0 || len(d.AttemptList) != 0 || d.LockedBy != nil {
		r.t.Errorf("a message that waits is %s after %d attempts (%d in the list), leased to %v; want it pending after none, leased to nobody", d.State, d.Attempts, len(d.AttemptList), d.LockedBy)
	}
	return *d.WaitsFor
}

// TestAMessageWhoseKeyIsUnknownWaits: it is never sent unsigned, and it is sent once the key is there.
func TestAMessageWhoseKeyIsUnknownWaits(t *testing.T) {
	t.Parallel()
	private := generate(t, webhook.Ed25519)
	for what, keys := range map[string]*ring{
		"no such set":      newRing(map[string]webhook.Keys{"": {generate(t, webhook.HMAC)}, "Tenant-a": {generate(t, webhook.HMAC)}}),
		"an empty set":     newRing(map[string]webhook.Keys{"tenant-a": {}}),
		"public keys only": newRing(map[string]webhook.Keys{"tenant-a": {publicOf(t, private)}}),
		"no keyring":       nil,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r, to := newRig(t), newReceiver(t, nil)
			id := r.endBy(hook.WebhookConfig{Options: outbox.Options{SigningKey: "tenant-a"}}, succeeded("run-1", to.URL, "x", nil))
			c := r.patient()
			if keys != nil {
				c.Keys = keys
			}
			_, stop := r.run(c)
			if text := r.awaitWait(id); !strings.Contains(text, `"tenant-a"`) || !strings.Contains(text, "signing key") {
				t.Errorf("the message waits for %q, want the signing key tenant-a", text)
			}
			if n := r.count(`SELECT count(*) FROM outbox.overview WHERE state = 'pending' AND messages = 1`); n != 1 {
				t.Error("the overview does not count the message as pending")
			}
			key := generate(t, webhook.HMAC)
			if keys == nil { // replace the worker by one with a keyring
				stop()
				c.Keys = newRing(map[string]webhook.Keys{"tenant-a": {key}})
				r.run(c)
			} else {
				keys.set("tenant-a", key)
			}
			if n := len(to.requests()); n != 0 {
				t.Fatalf("%d requests were sent before there was a key, want none", n)
			}
			r.exec(`UPDATE outbox.due SET due_at = now()`) // as if the wait were over by the database's clock
			d := r.awaitState(id, outbox.StateDelivered)
			if d.Attempts != 1 || len(d.AttemptList) != 1 || d.WaitsFor != nil {
				t.Errorf("the message is delivered after %d attempts, and waits for %v; want 1, and nothing", d.Attempts, d.WaitsFor)
			}
			if err := verifyByTheOracle(t, key, to.requests()[0]); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAMessageThatWaitsHoldsBackNoOther: other messages of its endpoint are sent, and it is claimed again by itself.
func TestAMessageThatWaitsHoldsBackNoOther(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, nil)
	waits := r.endBy(hook.WebhookConfig{Options: outbox.Options{SigningKey: "later"}}, succeeded("waits", to.URL, "x", nil))
	c := r.patient()
	c.MaxInFlight = 1
	before := r.now()
	r.run(c)
	r.awaitWait(waits)
	r.awaitState(r.writeTo(to.URL, "other"), outbox.StateDelivered)
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE due_at BETWEEN $1::timestamptz + interval '20 s' AND now() + interval '36 s'`, before); n != 1 {
		t.Error("the message is not due again in about half a minute")
	}
	if r.count(`SELECT count(*) FROM outbox.endpoint`) != 0 {
		t.Error("the endpoint has a row, want none: the missing key is not its fault")
	}
}

// TestADefaultSetThatCannotSignHoldsMessagesBack: there is a default set, so receivers expect signatures.
func TestADefaultSetThatCannotSignHoldsMessagesBack(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, nil)
	c := r.patient()
	c.Keys = newRing(map[string]webhook.Keys{"": {publicOf(t, generate(t, webhook.Ed25519))}})
	id := r.writeTo(to.URL, "run-1")
	r.run(c)
	r.awaitWait(id)
	if n := len(to.requests()); n != 0 {
		t.Errorf("%d requests were sent unsigned, want none", n)
	}
}

// TestAMessageThatNamesAnImpossibleKeySetWaits: it is not signed with another tenant's key, and its run has ended. The name is
// shown nowhere, because it may be a key.
func TestAMessageThatNamesAnImpossibleKeySetWaits(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, nil)
	secret := generate(t, webhook.HMAC).Reveal()
	c := hook.WebhookConfig{Options: outbox.Options{SigningKey: "own"}, SigningKeyOf: func(o outbox.RunOutcome) string { return o.Headers["tenant"] }}
	ids := map[string]outbox.ID{}
	for name, tenant := range map[string]string{
		"a key": secret, "a path": "../../etc/passwd", "a space": "own ", "NUL": "own\x00", "a line": "own\r\nx", "long": strings.Repeat("own", 5000),
		"invalid UTF-8": "own\xff", "dots": "..", "a quote": `own"`, "an equals sign": "own=", "unknown": "nobody",
	} {
		ids[name] = r.endBy(c, succeeded(name, to.URL, "x", map[string]string{"tenant": tenant}))
	}
	config, logged := r.patient(), &logLines{}
	config.Keys = newRing(map[string]webhook.Keys{"": {generate(t, webhook.HMAC)}, "own": {generate(t, webhook.HMAC)}})
	config.Logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	_, stop := r.run(config)
	for name, id := range ids {
		if text := r.awaitWait(id); len(text) > 200 || name != "unknown" && !strings.Contains(text, `"invalid-`) {
			t.Errorf("%s: the message waits for %q, want a short text with an invalid- name", name, text)
		}
	}
	stop()
	if n := len(to.requests()); n != 0 {
		t.Errorf("%d requests were sent, want none", n)
	}
	if logged.count(secret) > 0 || r.count(`SELECT count(*) FROM outbox.due WHERE strpos(waits_for, $1) > 0`, secret) > 0 ||
		r.count(`SELECT count(*) FROM outbox.message WHERE strpos(options::text, $1) > 0`, secret) > 0 {
		t.Error("a key that was given as a name is in the log, in waits_for or in the options; want it nowhere")
	}
}
