package worker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// poison are rows that no writer of ours makes: their options and headers are JSON of the wrong shape, or their URL is
// none.
var poison = []struct{ url, headers, options string }{
	{"", `{}`, `{"timeout_ms": "soon"}`},
	{"", `{}`, `{"timeout_ms": 1e300}`},
	{"", `{}`, `{"timeout_ms": {}}`},
	{"", `{}`, `{"forward": {"a": 1}}`},
	{"", `{}`, `{"forward": [1, 2]}`},
	{"", `{"X-A": 5}`, `{"forward": ["X-A"]}`},
	{"", `{"X-A": {"deep": []}}`, `{"forward": ["X-A"]}`},
	{"http://[::1", `{}`, `{}`},
	{"http://%zz", `{}`, `{}`},
	{"http://", `{}`, `{}`},
	{"ftp://a.test", `{}`, `{}`},
	{"not a url\x7f", `{}`, `{}`},
}

// TestAPoisonRowEndsDeadAndHarmsNobodyElse, not even on its own endpoint and in its own claim.
func TestAPoisonRowEndsDeadAndHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	var ids, healthy []outbox.ID
	for i, p := range poison {
		id := outbox.NewID()
		url := p.url
		if url == "" {
			url = to.URL
		}
		r.exec(`WITH m AS (
    INSERT INTO outbox.message (id, run_id, status, result, headers, final_step, url, endpoint, options)
    VALUES ($1, $2, 'succeeded', '{}', $3::text::jsonb, 0, $4, $5, $6::text::jsonb) RETURNING id, endpoint)
INSERT INTO outbox.due (message_id, endpoint) SELECT id, endpoint FROM m`, id, fmt.Sprint("poison-", i), p.headers, url, to.URL, p.options)
		ids, healthy = append(ids, id), append(healthy, r.writeTo(to.URL, fmt.Sprint("healthy-", i)))
	}
	// A due row without a message has nothing to be delivered, and must not keep others from it.
	r.exec(`INSERT INTO outbox.due (message_id, endpoint, due_at) SELECT gen_random_uuid(), $1, '2000-01-01' FROM generate_series(1, 10)`, to.URL)
	r.run(r.config())
	for _, id := range healthy {
		r.awaitState(id, outbox.StateDelivered)
	}
	r.await("the poison is dead", func() bool { return r.count(`SELECT count(*) FROM outbox.dead`) == len(poison) })
	for i, id := range ids {
		var reason, fault string
		var attempts int
		sql := inSchema(`SELECT reason, error, (SELECT count(*) FROM outbox.attempt a WHERE a.message_id = d.message_id)
FROM outbox.dead d WHERE message_id = $1`, r.Schema)
		if err := r.Pool.QueryRow(t.Context(), sql, id).Scan(&reason, &fault, &attempts); err != nil {
			t.Fatal(err)
		}
		if fault == "" || attempts == 0 {
			t.Errorf("%+v died without a word: %q after %d attempts", poison[i], fault, attempts)
		}
		if poison[i].url == "" && (reason != "refused" || attempts != 1 || !strings.Contains(fault, "cannot be read")) {
			t.Errorf("%+v: %s after %d attempts: %s", poison[i], reason, attempts, fault)
		}
	}
	if n := len(to.requests()); n != len(healthy) {
		t.Errorf("%d requests, want %d", n, len(healthy))
	}
}
