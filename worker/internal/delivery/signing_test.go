package delivery

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/internal/httpmethod"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// ring is a keyring that a test can change.
type ring struct {
	mu   sync.Mutex
	sets map[string]webhook.Keys
}

func newRing(sets map[string]webhook.Keys) *ring { return &ring{sets: maps.Clone(sets)} }

func (r *ring) Keys(name string) (webhook.Keys, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, ok := r.sets[name]
	return keys, ok
}

func (r *ring) set(name string, keys ...webhook.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sets[name] = keys
}

func generate(t testing.TB, kind webhook.Kind) webhook.Key {
	t.Helper()
	key, err := webhook.Generate(kind)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicOf(t testing.TB, key webhook.Key) webhook.Key {
	t.Helper()
	public, ok := key.Public()
	if !ok {
		t.Fatal("the key has no public half")
	}
	return public
}

// verifyByTheOracle verifies a request with the library of Standard Webhooks and an HMAC key.
func verifyByTheOracle(t testing.TB, key webhook.Key, got request) error {
	t.Helper()
	oracle, err := standardwebhooks.NewWebhook(key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return oracle.Verify([]byte(got.body), got.header)
}

// verify verifies a request with package webhook.
func verify(got request, keys ...webhook.Key) error {
	_, err := webhook.Verifier{Keys: keys}.Verify(got.header, []byte(got.body))
	return err
}

// The signature covers exactly the bytes that are sent, in every format and for every kind of key. The library of Standard
// Webhooks and package webhook both verify it.
func TestTheOracleAndPackageWebhookVerifyARequest(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	first, second, stranger := generate(t, webhook.HMAC), generate(t, webhook.HMAC), generate(t, webhook.HMAC)
	private := generate(t, webhook.Ed25519)
	sets := map[string]webhook.Keys{
		"v1": {first}, "v1a": {private}, "both": {private, first}, "two": {second, first, publicOf(t, private)},
	}
	c := allowing("127.0.0.1")
	c.Keys = newRing(sets)
	s := newSender(t, c)
	for set := range sets {
		for what, body := range map[string]string{
			"json": `{"a": [1, 2.50, "ü<>&"]}` + "\n", "empty": "", "binary": "\xff\x00\r\n", "text": "grüße\r\n", "large": strings.Repeat("0123456789", 90_000),
		} {
			for i, format := range []outbox.Format{outbox.FormatRaw, outbox.FormatEnvelope, outbox.FormatCloudEvents} {
				m := messageTo(to.URL).with(t, outbox.Options{SigningKey: set, Format: format, Method: httpmethod.All()[i]})
				m.RunID, m.Body = fmt.Sprint(set, " ", what, " ", format), []byte(body)
				wantDelivered(t, m.RunID, s.Send(t.Context(), m))
				req := to.last(t)
				wantVerified(t, req, set != "v1a", set == "v1a" || set == "both", first, private)
				if set == "two" && (verifyByTheOracle(t, second, req) != nil || verify(req, second) != nil) {
					t.Errorf("%s: the second key's signature is missing", req.runID)
				}
				if err := verify(req, stranger); !errors.Is(err, webhook.ErrSignature) {
					t.Errorf("%s: with another key the error is %v, want %v", req.runID, err, webhook.ErrSignature)
				}
				req.body += " "
				if verify(req, first, publicOf(t, private)) == nil {
					t.Errorf("%s: a changed body is verified, want an error", req.runID)
				}
			}
		}
	}
}

func wantVerified(t *testing.T, req request, v1, v1a bool, key, private webhook.Key) {
	t.Helper()
	if v1 {
		if err := verifyByTheOracle(t, key, req); err != nil {
			t.Errorf("%s: the oracle returns %v, want none", req.runID, err)
		}
		if err := verify(req, key); err != nil {
			t.Errorf("%s: package webhook returns %v for v1, want none", req.runID, err)
		}
	}
	if err := verify(req, publicOf(t, private)); v1a != (err == nil) {
		t.Errorf("%s: package webhook returns %v for v1a, want it signed: %v", req.runID, err, v1a)
	}
	for _, name := range []string{webhook.HeaderID, webhook.HeaderTimestamp, webhook.HeaderSignature} {
		if n := len(req.header.Values(name)); n != 1 {
			t.Errorf("%s: %d values of %s, want 1", req.runID, n, name)
		}
	}
}

func TestAMessageIsSignedWithTheKeySetThatItNames(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	sets := map[string]webhook.Keys{"": {generate(t, webhook.HMAC)}, "hook": {generate(t, webhook.HMAC)}, "a": {generate(t, webhook.HMAC)}, "b.2": {generate(t, webhook.HMAC)}}
	c := allowing("127.0.0.1")
	c.Keys = newRing(sets)
	s := newSender(t, c)
	for set := range sets {
		wantDelivered(t, set, s.Send(t.Context(), messageTo(to.URL).with(t, outbox.Options{SigningKey: set})))
		for name, keys := range sets {
			if err := verifyByTheOracle(t, keys[0], to.last(t)); (err == nil) != (name == set) {
				t.Errorf("signed with the key set %q: the oracle returns %v for the key of %q", set, err, name)
			}
		}
	}
}

// Each attempt has its own signature and the same webhook-id.
func TestEachAttemptIsSigned(t *testing.T) {
	t.Parallel()
	key := generate(t, webhook.HMAC)
	to := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusServiceUnavailable) })
	c := allowing("127.0.0.1")
	c.Keys = newRing(map[string]webhook.Keys{"": {key}})
	s, m := newSender(t, c), messageTo(to.URL)
	for i := range 3 {
		if a := s.Send(t.Context(), m); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("attempt %d: %s, want 503", i+1, describe(a))
		}
		if req := to.last(t); verifyByTheOracle(t, key, req) != nil || req.id != m.ID.String() {
			t.Errorf("attempt %d has the headers %v, want a valid signature and the id of the message", i+1, req.header)
		}
	}
}

// No header from outside replaces a signature or adds one: neither a submitter's header that the hook forwards, nor a header
// in the options of a row. A name with underscores would become the same variable in CGI.
func TestNoHeaderFromOutsideReplacesASignature(t *testing.T) {
	t.Parallel()
	forged := map[string]string{}
	for _, name := range append(header.ReservedNames(), "Ce-Id", "Ce-Signature") {
		lower := strings.ToLower(name)
		for _, spelling := range []string{name, lower, strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(lower, "-", "_")} {
			forged[spelling] = "v1,forged"
		}
	}
	key := generate(t, webhook.HMAC)
	for what, keys := range map[string]Keyring{"signed": newRing(map[string]webhook.Keys{"": {key}}), "unsigned": nil} {
		to := newReceiver(t, nil)
		c := allowing("127.0.0.1")
		c.Keys = keys
		s := newSender(t, c)
		for by, m := range map[string]Message{
			"the submitter": messageTo(to.URL).forwarding(t, forged),
			"the options":   messageTo(to.URL).with(t, outbox.Options{Headers: forged}),
		} {
			a := s.Send(t.Context(), m)
			wantDelivered(t, by, a)
			if !strings.Contains(a.Note, "webhook_signature") || !strings.Contains(a.Note, "WEBHOOK-ID") || strings.Contains(a.Note, "forged") {
				t.Errorf("%s, by %s: the note is %s, want the names of the left-out headers, and no value", what, by, a.Note)
			}
			wantNothingForged(t, to.last(t))
			if err := verifyByTheOracle(t, key, to.last(t)); (keys != nil) != (err == nil) {
				t.Errorf("%s, by %s: the oracle returns %v", what, by, err)
			}
		}
	}
}

// A message whose key set is missing, or cannot sign, is not sent until the key is there.
func TestAMessageWhoseKeyIsUnknownWaits(t *testing.T) {
	t.Parallel()
	private := generate(t, webhook.Ed25519)
	for what, keys := range map[string]*ring{
		"no such set":      newRing(map[string]webhook.Keys{"": {generate(t, webhook.HMAC)}, "Tenant-a": {generate(t, webhook.HMAC)}}),
		"an empty set":     newRing(map[string]webhook.Keys{"tenant-a": {}}),
		"public keys only": newRing(map[string]webhook.Keys{"tenant-a": {publicOf(t, private)}}),
		"no keyring":       nil,
	} {
		to := newReceiver(t, nil)
		c := allowing("127.0.0.1")
		if keys != nil {
			c.Keys = keys
		}
		s, m := newSender(t, c), messageTo(to.URL).with(t, outbox.Options{SigningKey: "tenant-a"})
		a := s.Send(t.Context(), m)
		if a.Class != "" || a.Err != "" || !strings.Contains(a.WaitsFor, `"tenant-a"`) || !strings.Contains(a.WaitsFor, "signing key") {
			t.Errorf("%s: %s, want that the message waits for its signing key", what, describe(a))
		}
		if n := len(to.requests()); n != 0 {
			t.Errorf("%s: %d requests were sent before there was a key, want none", what, n)
		}
		if keys == nil {
			continue
		}
		key := generate(t, webhook.HMAC)
		keys.set("tenant-a", key)
		wantDelivered(t, what, s.Send(t.Context(), m))
		if err := verifyByTheOracle(t, key, to.last(t)); err != nil {
			t.Errorf("%s: the oracle returns %v, want none", what, err)
		}
	}
}

// If there is a default key set, receivers expect signatures. If it cannot sign, messages wait.
func TestADefaultSetThatCannotSignHoldsMessagesBack(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	c := allowing("127.0.0.1")
	c.Keys = newRing(map[string]webhook.Keys{"": {publicOf(t, generate(t, webhook.Ed25519))}})
	if a := sendOnce(t, c, messageTo(to.URL)); a.Class != "" || a.WaitsFor == "" {
		t.Errorf("%s, want that the message waits", describe(a))
	}
	if n := len(to.requests()); n != 0 {
		t.Errorf("%d requests were sent unsigned, want none", n)
	}
}

// Without a default key set messages are sent unsigned, with id and timestamp.
func TestWithoutAnyKeysMessagesAreSentUnsigned(t *testing.T) {
	t.Parallel()
	for _, keys := range []Keyring{nil, newRing(nil), newRing(map[string]webhook.Keys{"other": {generate(t, webhook.HMAC)}})} {
		c := allowing("127.0.0.1")
		c.Keys = keys
		to := newReceiver(t, nil)
		wantDelivered(t, "a message", sendOnce(t, c, messageTo(to.URL)))
		h := to.last(t).header
		if h.Get(webhook.HeaderSignature) != "" || h.Get(webhook.HeaderID) == "" || h.Get(webhook.HeaderTimestamp) == "" {
			t.Errorf("the receiver got the headers %v, want an id and a timestamp without a signature", h)
		}
	}
}

// gate is a receiver that accepts only requests with a signature of one of its keys.
type gate struct {
	*receiver
	mu       sync.Mutex
	verifier webhook.Verifier
	accepted map[int]int // by the index of the key that matched, since the keys were last changed
	rejected []string
}

func newGate(t *testing.T, keys ...webhook.Key) *gate {
	t.Helper()
	g := &gate{}
	g.accept(keys...)
	g.receiver = newReceiver(t, func(w http.ResponseWriter, got request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		d, err := g.verifier.Verify(got.header, []byte(got.body))
		if err != nil {
			g.rejected = append(g.rejected, got.runID+": "+err.Error())
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		g.accepted[d.KeyIndex]++
	})
	return g
}

// accept replaces the keys.
func (g *gate) accept(keys ...webhook.Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.verifier = webhook.Verifier{Keys: keys}
	g.accepted = map[int]int{}
}

// Keys are replaced while messages are sent, in the order that package webhook describes, and the receiver rejects no request:
// the receiver accepts the new key as well, the sender signs with both, the receiver drops the old key, and so does the
// sender.
func TestKeysAreReplacedWithoutARejectedRequest(t *testing.T) {
	t.Parallel()
	for _, kind := range []webhook.Kind{webhook.HMAC, webhook.Ed25519} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			old, next := generate(t, kind), generate(t, kind)
			theirOld, theirNext := old, next // HMAC: both sides have the same secret
			if kind == webhook.Ed25519 {
				theirOld, theirNext = publicOf(t, old), publicOf(t, next)
			}
			to, keys := newGate(t, theirOld), newRing(map[string]webhook.Keys{"": {old}})
			c := allowing("127.0.0.1")
			c.Keys = keys
			s := newSender(t, c)
			for _, change := range []func(){
				func() { to.accept(theirNext, theirOld) },
				func() { keys.set("", next, old) },
				func() { to.accept(theirNext) }, // all requests that the old key alone has signed have arrived: they belong to the step before
				func() { keys.set("", next) },
				func() {},
			} {
				sendDuring(t, s, to.URL, change)
			}
			if len(to.rejected) > 0 {
				t.Errorf("the receiver rejected %d requests, want none: %.500v", len(to.rejected), to.rejected)
			}
			if n := to.accepted[0]; n < 200 {
				t.Errorf("%d requests were accepted with the new key alone, want 200 at least", n)
			}
			if err := verify(to.last(t), theirOld); err == nil {
				t.Error("the old key still signs")
			}
		})
	}
}

// sendDuring sends 100 messages, 16 at a time, and makes a change after half of them. All are delivered when it returns.
func sendDuring(t *testing.T, s *Sender, url string, change func()) {
	t.Helper()
	const messages, atOnce = 100, 16
	var next, sent atomic.Int64
	var sending sync.WaitGroup
	for range atOnce {
		sending.Go(func() {
			for next.Add(1) <= messages {
				wantDelivered(t, "a message", s.Send(t.Context(), messageTo(url)))
				if sent.Add(1) == messages/2 {
					change()
				}
			}
		})
	}
	sending.Wait()
}

// The public library reads six signatures in one header, finds that of each key, and accepts an empty body.
func TestTheOracleReadsSixSignaturesAndAnEmptyBody(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, nil)
	var keys webhook.Keys
	for range 6 {
		keys = append(keys, generate(t, webhook.HMAC))
	}
	c := allowing("127.0.0.1")
	c.Keys = newRing(map[string]webhook.Keys{"": keys})
	s := newSender(t, c)
	for what, body := range map[string]string{"JSON": `{"ok":true}`, "nothing": ""} {
		m := messageTo(to.URL)
		m.Body = []byte(body)
		wantDelivered(t, what, s.Send(t.Context(), m))
		got := to.last(t)
		if n := len(strings.Fields(got.header.Get("Webhook-Signature"))); n != len(keys) || got.body != body {
			t.Errorf("%s: %d signatures over %q, want %d", what, n, got.body, len(keys))
		}
		for i, key := range keys {
			if err := verifyByTheOracle(t, key, got); err != nil {
				t.Errorf("%s, key %d: the oracle returns %v, want none", what, i+1, err)
			}
		}
		if err := verifyByTheOracle(t, generate(t, webhook.HMAC), got); err == nil {
			t.Errorf("%s: the request is verified with another key, want an error", what)
		}
	}
}
