package hook_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestCheckHeadersNamesEveryFault(t *testing.T) {
	t.Parallel()
	h, err := hook.NewWebhook(hook.WebhookConfig{URLHeader: "notify", ForwardHeaders: []string{"X*"}})
	must(t, err)
	err = h.CheckHeaders(map[string]string{
		"notify": "https://u:secret@a.example", "X bad": "v", "X-good": "line\nbreak", "Y bad": "not forwarded",
		"long": strings.Repeat("x", outbox.HeadersBytesMax),
	})
	if err == nil {
		t.Fatal("CheckHeaders returns no error; want one with all faults")
	}
	for _, want := range []string{`header "notify": url: holds a user name`, `header "X bad": byte 1 of the name`,
		`header "X-good": byte 4 of the value`, "headers: ", "the limit is 65536"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v; want %q in it", err, want)
		}
	}
	for _, not := range []string{"secret", "Y bad"} {
		if strings.Contains(err.Error(), not) {
			t.Errorf("the error is %v; want no %q in it", err, not)
		}
	}
}

// CheckHeaders accepts headers at submit time exactly when OnTermination can deliver with them at the end of the run.
func TestCheckHeadersAgreesWithOnTermination(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for name, patterns := range map[string][]string{"nothing forwarded": nil, "all forwarded": {"*"}, "some forwarded": {"k*"}} {
		db := testdb.New(t)
		h := newHook(t, db, hook.WebhookConfig{ForwardHeaders: patterns})
		var batch pgx.Batch
		asked := map[string]map[string]string{} // the headers by the run id
		for i := range 300 {
			o := testdb.Outcome(fmt.Sprint("run ", i), "")
			o.Headers = randomHeaders(random)
			asked[o.RunID] = o.Headers
			_, err := h.Queue(t.Context(), &batch, o)
			must(t, err)
		}
		tx := begin(t, db.Pool)
		must(t, tx.SendBatch(t.Context(), &batch).Close())
		must(t, tx.Commit(t.Context()))
		states := statesOf(t, db)
		seen := map[string]int{}
		for runID, headers := range asked {
			err := h.CheckHeaders(headers)
			want := err == nil // the message is due or there is none, and no header is left out of its request
			got := states[runID] != outbox.StateDead && !leavesOut(headers, patterns)
			if want != got {
				t.Errorf("%s: %.200q: CheckHeaders returns %v, and the message's state is %q", name, headers, err, states[runID])
			}
			seen[fmt.Sprintf("%s %t", states[runID], err == nil)]++
		}
		if seen["dead false"] == 0 || seen["pending true"] == 0 || seen[" true"] == 0 {
			t.Errorf("%s: the random headers gave the cases %v; want dead and refused, pending and accepted, none and accepted", name, seen)
		}
	}
}

// leavesOut reports whether the request would lack a header that the patterns forward.
func leavesOut(headers map[string]string, patterns []string) bool {
	if headers["callback_url"] == "" || len(patterns) == 0 {
		return false
	}
	for key, value := range headers {
		named := key != "callback_url" && (patterns[0] == "*" || strings.HasPrefix(strings.ToLower(key), "k"))
		if named && header.Check(key, value) != nil {
			return true
		}
	}
	return false
}

func randomHeaders(random *rand.Rand) map[string]string {
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	headers := map[string]string{}
	switch random.IntN(4) {
	case 0: // no URL
	case 1:
		headers["callback_url"] = pick("relative", "ftp://a", "https://u@a", "https://a:0", "https://a%FF", "https://a/\x00", "https://a/\xff",
			"https://[::1%251]", "https://"+strings.Repeat("a", 254), "https://a/"+strings.Repeat("x", 2040))
	default:
		headers["callback_url"] = pick("https://a.example", "http://[::1]:1/", "https://ü.example/?q#f", "https://a/"+strings.Repeat("x", 2000))
	}
	for range random.IntN(3) {
		key := pick("k", "K-x", "x", "k k", "kü", "k\x00", "\xff", "", "Host") + pick("", "1", "2")
		headers[key] = pick("v", "", "tab\t", "line\n", "\x00", "\xff", strings.Repeat("x", 30_000), strings.Repeat("ü<", 9_000))
	}
	return headers
}

func statesOf(t *testing.T, db *testdb.DB) map[string]outbox.State {
	t.Helper()
	s, err := operator.NewStore(db.Pool, db.Schema)
	must(t, err)
	list, err := s.List(t.Context(), operator.Filter{Limit: 1000})
	must(t, err)
	states := map[string]outbox.State{}
	for _, m := range list {
		states[m.RunID] = m.State
	}
	return states
}
