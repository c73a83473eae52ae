package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

// sign sends a body that was signed at this time, and returns the answer's status.
func (r receiving) sign(keys webhook.Keys, at time.Time, id, body string) int {
	r.t.Helper()
	q, err := http.NewRequestWithContext(r.t.Context(), http.MethodPut, r.url+"/hook", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	q.Header.Set(webhook.HeaderID, id)
	q.Header.Set(webhook.HeaderTimestamp, webhook.Timestamp(at))
	q.Header.Set(webhook.HeaderSignature, keys.Sign(id, at, []byte(body)))
	response, err := r.client.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	return response.StatusCode
}

func TestAReceiverWithKeysRefusesRequestsThatNoneOfThemSigned(t *testing.T) {
	t.Parallel()
	shared, private, stranger := generated(t, webhook.HMAC), generated(t, webhook.Ed25519), generated(t, webhook.HMAC)
	file := keysFile(t, "# of both kinds", shared.Reveal(), publicText(private)+" # public")
	r := beginReceiver(t, "--keys-file", file, "--body")
	now := time.Now()
	big := strings.Repeat("x", bodyBytesKept+1) // longer than the part that is kept; the whole body is verified
	for _, c := range []struct {
		key    webhook.Key
		at     time.Time
		id     string
		body   string
		answer int
		line   string
	}{
		{stranger, now, "m1", "a", 401, "NOT VERIFIED: no webhook signature matches: 1 given, 2 keys"},
		{shared, now, "m1", "a", 200, "verified by key 1"},
		{private, now, "m2", big, 200, "verified by key 2"},
		{shared, now.Add(-time.Hour), "m3", "", 425, "NOT VERIFIED: webhook timestamp outside the tolerance"},
		{private, now, "m1", "a", 200, "verified by key 2; DUPLICATE: arrival 2 of an accepted message"},
		{stranger, now, "m1", "a", 401, "NOT VERIFIED"},
	} {
		if got := r.sign(webhook.Keys{c.key}, c.at, c.id, c.body); got != c.answer {
			t.Errorf("the answer to %s is %d, want %d (%s)", c.id, got, c.answer, c.line)
		}
		if line := r.line(c.line); !strings.Contains(line, c.id) {
			t.Errorf("the line is %q, want it to be about %s", line, c.id)
		}
	}
	r.mustPost("m4", "unsigned", http.StatusBadRequest)
	r.line("NOT VERIFIED: missing webhook header: webhook-timestamp")
	_, rest := r.end()
	if !strings.Contains(rest, "7 requests for 2 messages: 3 accepted, 4 refused, 0 unanswered; 0 retries, 1 duplicate") ||
		!strings.Contains(rest, "4 requests refused: not verified") {
		t.Errorf("the summary is\n%s\nwant 3 accepted and 4 refused, because they are not verified", rest)
	}
}

func TestWithoutKeysAReceiverSaysThatItDoesNotVerify(t *testing.T) {
	t.Parallel()
	key, other := generated(t, webhook.HMAC), generated(t, webhook.HMAC)
	env := []string{"OUTBOX_RECEIVE_KEYS=" + other.Reveal() + "," + key.Reveal()}
	r := beginReceiverIn(t, env, "--json")
	if got := r.sign(webhook.Keys{key}, time.Now(), "m1", "a"); got != 200 {
		t.Errorf("the answer is %d, want 200", got)
	}
	var d delivery
	if err := json.Unmarshal([]byte(r.line("delivery")), &d); err != nil || d.Verified == nil || !*d.Verified || d.Key != 2 {
		t.Errorf("got %+v, %v; want it verified by key 2", d, err)
	}
	if got := r.sign(webhook.Keys{generated(t, webhook.HMAC)}, time.Now(), "m2", "a"); got != 401 {
		t.Errorf("the answer is %d, want 401", got)
	}
	if err := json.Unmarshal([]byte(r.line("delivery")), &d); err != nil || *d.Verified || !strings.Contains(d.NotVerified, "no webhook signature") {
		t.Errorf("got %+v, %v; want it not verified, because no signature fits", d, err)
	}
	r.end()

	r = beginReceiverIn(t, env, "--keys-file", keysFile(t, key.Reveal())) // the flag overrides the environment
	if got := r.sign(webhook.Keys{other}, time.Now(), "m1", "a"); got != 401 {
		t.Errorf("the answer is %d, want 401", got)
	}
	r.end()

	r = beginReceiver(t)
	r.line("signatures are not verified")
	if got := r.sign(webhook.Keys{other}, time.Now(), "m1", "a"); got != 200 {
		t.Errorf("the answer is %d, want 200", got)
	}
	if line := r.line("m1"); strings.Contains(line, "verified") {
		t.Errorf("the line is %q, want nothing about verification", line)
	}
	r.end()
}

func TestAReceiverNamesTheFaultOfItsKeys(t *testing.T) {
	t.Parallel()
	key := generated(t, webhook.HMAC)
	for file, want := range map[string]string{
		keysFile(t, "# none"):                        "there is no key",
		keysFile(t, publicText(key), "default="+"x"): "keys: key 1: webhook key: its text begins with none of",
		keysFile(t, key.Reveal(), key.Reveal()[:30]): "keys: key 2: webhook key: ",
		keysFile(t, key.Reveal(), "a="+key.Reveal()): "keys: key 2: webhook key: ",
		t.TempDir() + "/missing":                     "no such file",
		t.TempDir():                                  "is a directory",
	} {
		got := invoke(t, nil, "receive", "--addr", "127.0.0.1:0", "--keys-file", file)
		got.wants(t, exitUsage, "--keys-file: ", want)
		got.hides(t, key)
	}
	got := invoke(t, []string{"OUTBOX_RECEIVE_KEYS=default=" + key.Reveal()}, "receive")
	got.wants(t, exitUsage, "OUTBOX_RECEIVE_KEYS cannot be read: key 1: webhook key")
	got.hides(t, key)
}
