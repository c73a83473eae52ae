package worker

import (
	"maps"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
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
	if r.sets == nil {
		r.sets = map[string]webhook.Keys{}
	}
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

// endBy records an outcome through a hook, and returns its message.
func (r *rig) endBy(c hook.WebhookConfig, o outbox.RunOutcome) outbox.ID {
	r.t.Helper()
	c.Schema = r.Schema
	h, err := hook.NewWebhook(c)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := pgx.BeginFunc(r.t.Context(), r.Pool, func(tx pgx.Tx) error { return h.OnTermination(r.t.Context(), tx, o) }); err != nil {
		r.t.Fatal(err)
	}
	list, err := r.store.List(r.t.Context(), operator.Filter{RunID: o.RunID})
	if err != nil || len(list) != 1 {
		r.t.Fatalf("%d messages of run %q, %v; want 1", len(list), o.RunID, err)
	}
	return list[0].ID
}

// byRun returns the requests by their run ids.
func byRun(requests []request) map[string]request {
	got := map[string]request{}
	for _, r := range requests {
		got[r.runID] = r
	}
	return got
}

// succeeded is the outcome of a succeeded run whose message goes to a URL, with more headers.
func succeeded(runID, url, result string, headers map[string]string) outbox.RunOutcome {
	all := map[string]string{hook.DefaultURLHeader: url}
	maps.Copy(all, headers)
	return outbox.RunOutcome{RunID: runID, Status: outbox.Succeeded, Result: []byte(result), Headers: all}
}
