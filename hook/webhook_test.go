package hook_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestARunWithoutADestinationWritesNothing(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{})
	for _, headers := range []map[string]string{nil, {}, {"callback_url": ""}, {"Callback_URL": receiver}, {"other": receiver}} {
		o := testdb.Outcome("run", "")
		o.Headers = headers
		if all := end(t, db, h, o); len(all) != 0 {
			t.Errorf("%v: %d messages, want none", headers, len(all))
		}
		var batch pgx.Batch
		if queued, err := h.Queue(t.Context(), &batch, o); queued || err != nil || batch.Len() != 0 {
			t.Errorf("%v: Queue returns %t, %v, and the batch has %d statements; want false, nil and none", headers, queued, err, batch.Len())
		}
	}
}

func TestTheMessageHoldsTheRunsOutcome(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{})
	text := func(s string) *string { return &s }
	for name, c := range map[string]struct {
		outcome outbox.RunOutcome
		result  []byte  // the body of a succeeded run
		err     *string // the body of any other
	}{
		"succeeded": {outbox.RunOutcome{Status: outbox.Succeeded, Result: []byte("\x00raw\xff")}, []byte("\x00raw\xff"), nil},
		"empty":     {outbox.RunOutcome{Status: outbox.Succeeded}, []byte{}, nil},
		"failed":    {outbox.RunOutcome{Status: outbox.Failed, Error: "no luck: ü"}, nil, text("no luck: ü")},
		"no error":  {outbox.RunOutcome{Status: outbox.Failed}, nil, text("")},
		"cancelled": {outbox.RunOutcome{Status: outbox.Cancelled, Error: "too old"}, nil, text("too old")},
		"no reason": {outbox.RunOutcome{Status: outbox.Cancelled}, nil, text("")},
	} {
		o := c.outcome
		o.RunID, o.FinalStep, o.Headers = name, 7, map[string]string{"callback_url": receiver, "tenant": "a"}
		d := endOne(t, db, h, o)
		if d.State != outbox.StatePending || d.Status != o.Status || d.FinalStep != 7 || d.URL != receiver ||
			d.Headers["tenant"] != "a" || d.Headers["callback_url"] != receiver || d.Options != nil {
			t.Errorf("%s: the message is %+v; want the outcome %+v", name, d, o)
		}
		if (d.Result == nil) != (c.result == nil) || string(d.Result) != string(c.result) {
			t.Errorf("%s: the result is %q, want %q", name, d.Result, c.result)
		}
		if (d.Error == nil) != (c.err == nil) || d.Error != nil && *d.Error != *c.err {
			t.Errorf("%s: the error is %v, want %v", name, d.Error, c.err)
		}
	}
}

func TestAnInvalidURLDoesNotKeepARunFromEnding(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{ForwardHeaders: []string{"*"}})
	for _, url := range []string{
		"relative", "ftp://a", "https://u:secret@a", "https://", "https://a\x00", "\xff", "https://a%FF", strings.Repeat("x", 3000),
		"https://" + strings.Repeat("ȺȾ", 900), "https://[fe80::1%25eth0]/", "https://a:99999",
	} {
		o := testdb.Outcome("run", url)
		o.Headers["NUL \x00 \xff"] = "\x00"
		o.RunID = outbox.NewID().String()
		if d := endOne(t, db, h, o); d.State != outbox.StateDead || *d.DeadReason != "invalid" || !strings.HasPrefix(*d.DeadError, "url: ") {
			t.Errorf("%.40q: the message is %+v; want it dead as invalid, for its URL", url, d.MessageStatus)
		}
	}
}

func TestTheURLHeaderIsConfigurable(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{URLHeader: "notify"})
	o := testdb.Outcome("run", "https://not-this.example")
	o.Headers["notify"] = receiver
	if d := endOne(t, db, h, o); d.URL != receiver {
		t.Errorf("the message's URL is %s, want %s", d.URL, receiver)
	}
}

func TestARunWithoutAURLGoesToTheDefaultURL(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	const fallback = "https://default.example/all"
	h := newHook(t, db, hook.WebhookConfig{DefaultURL: fallback})
	for runID, c := range map[string]struct{ named, want string }{
		"none": {"", fallback}, "one": {receiver, receiver}, "a bad one": {"relative", "relative"},
	} {
		if d := endOne(t, db, h, testdb.Outcome(runID, c.named)); d.URL != c.want {
			t.Errorf("%s goes to %s, want %s", runID, d.URL, c.want)
		}
	}
	empty := testdb.Outcome("an empty one", "")
	empty.Headers = map[string]string{hook.DefaultURLHeader: ""}
	if d := endOne(t, db, h, empty); d.URL != fallback {
		t.Errorf("a run whose header is empty goes to %s, want %s", d.URL, fallback)
	}
}

func TestOnlyHeadersThatAPatternMatchesAreForwarded(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	headers := map[string]string{
		"callback_url": receiver, "X-Tenant": "a", "x-trace": "b", "Y": "c", "X": "d", "forbidden name": "e", "Callback_URL": "f",
	}
	for patterns, want := range map[string][]string{
		"":                   nil,
		"X-Tenant":           {"X-Tenant"},
		"x-tenant":           {"X-Tenant"},
		"X-*":                {"X-Tenant", "x-trace"},
		"X*":                 {"X", "X-Tenant", "x-trace"}, // the star also matches nothing
		"X-Tenant*":          {"X-Tenant"},
		"X-Tenants*":         nil,
		"Y X-Trace Y":        {"Y", "x-trace"},
		"*":                  {"Callback_URL", "X", "X-Tenant", "Y", "forbidden name", "x-trace"},
		"* callback_url c*":  {"Callback_URL", "X", "X-Tenant", "Y", "forbidden name", "x-trace"},
		"callback_url not-*": {"Callback_URL"},
	} {
		h := newHook(t, db, hook.WebhookConfig{ForwardHeaders: strings.Fields(patterns)})
		o := testdb.Outcome(outbox.NewID().String(), "")
		o.Headers = headers
		d := endOne(t, db, h, o)
		var options struct{ Forward []string }
		if d.Options != nil {
			must(t, json.Unmarshal(d.Options, &options))
		}
		if !slices.Equal(options.Forward, want) {
			t.Errorf("%q forwards %q, want %q", patterns, options.Forward, want)
		}
		if len(d.Headers) != len(headers) {
			t.Errorf("%q: the message's headers are %v; want all of %v", patterns, d.Headers, headers)
		}
	}
}

// A run's headers may hold one that receivers trust. Such a header is forwarded only by a pattern that is its whole name.
func TestSensitiveHeadersAreForwardedByNameOnly(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	headers := map[string]string{"callback_url": receiver, "Authorization": "Bearer t", "svix-id": "1", "X-Forwarded-For": "::1", "X-Tenant": "acme"}
	for patterns, want := range map[string][]string{
		"*": {"X-Tenant"}, "X-*": {"X-Tenant"}, "* authorization": {"Authorization", "X-Tenant"}, "svix-* X-Forwarded-For": {"X-Forwarded-For", "svix-id"},
	} {
		o := outcomeWith(outbox.NewID().String(), headers)
		if got := optionsOf(t, db, hook.WebhookConfig{ForwardHeaders: strings.Fields(patterns)}, o).Forward; !slices.Equal(got, want) {
			t.Errorf("%q forwards %q, want %q", patterns, got, want)
		}
	}
}

func TestTheTimeoutIsInTheOptions(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{Options: outbox.Options{Timeout: 2500 * time.Millisecond}})
	d := endOne(t, db, h, testdb.Outcome("run", receiver))
	var options map[string]any
	must(t, json.Unmarshal(d.Options, &options))
	if len(options) != 1 || options["timeout_ms"] != 2500.0 {
		t.Errorf("the options are %s; want timeout_ms 2500 only", d.Options)
	}
}

func TestWithADedupeKeyARunHasOneMessage(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{DedupeKey: func(o outbox.RunOutcome) string { return o.Headers["key"] }})
	o := testdb.Outcome("run", receiver)
	o.Headers["key"] = "k"
	endOne(t, db, h, o)
	endOne(t, db, h, o) // there is still one message
	o.Headers["key"] = ""
	if all := end(t, db, h, o); len(all) != 2 {
		t.Errorf("without a key there are %d messages, want 2", len(all))
	}
}

func TestAMessageWithALargeResultIsDead(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{ResultBytesMax: 5})
	o := testdb.Outcome("run", receiver)
	o.Result = []byte("123456")
	if d := endOne(t, db, h, o); d.State != outbox.StateDead || *d.DeadError != "result: 6 bytes, the limit is 5" {
		t.Errorf("the message is %+v; want it dead, for the size of its result", d.MessageStatus)
	}
}

func TestAnInvalidOutcomeWritesNothingAndLeavesTheTransactionUsable(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{})
	headers := map[string]string{"callback_url": receiver}
	tx := begin(t, db.Pool)
	for name, o := range map[string]outbox.RunOutcome{
		"no run id":            {Status: outbox.Succeeded, Headers: headers},
		"an unknown status":    {RunID: "r", Status: "done", Headers: headers},
		"failed with a result": {RunID: "r", Status: outbox.Failed, Result: []byte("x"), Headers: headers},
		"succeeded with error": {RunID: "r", Status: outbox.Succeeded, Error: "x", Headers: headers},
		"without destination":  {Status: outbox.Succeeded}, // the fault is reported even if the run has no URL
	} {
		if err := h.OnTermination(t.Context(), tx, o); !errors.Is(err, outbox.ErrInvalidOutcome) {
			t.Errorf("%s: OnTermination returns %v, want ErrInvalidOutcome", name, err)
		}
		var batch pgx.Batch
		if queued, err := h.Queue(t.Context(), &batch, o); queued || !errors.Is(err, outbox.ErrInvalidOutcome) || batch.Len() != 0 {
			t.Errorf("%s: Queue returns %t, %v, and queued %d statements; want false, ErrInvalidOutcome and none", name, queued, err, batch.Len())
		}
	}
	must(t, h.OnTermination(t.Context(), tx, testdb.Outcome("run", receiver)))
	must(t, tx.Commit(t.Context()))
	if n := count(t, db, "message"); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}

func TestQueueWritesWhatOnTerminationWrites(t *testing.T) {
	t.Parallel()
	direct, queued := testdb.New(t), testdb.New(t)
	config := hook.WebhookConfig{
		Options: outbox.Options{Timeout: time.Second}, ForwardHeaders: []string{"*"}, DedupeKey: func(o outbox.RunOutcome) string { return o.RunID },
	}
	outcomes := []outbox.RunOutcome{
		testdb.Outcome("run", receiver), testdb.Outcome("run", receiver), testdb.Outcome("dead", "relative"), testdb.Outcome("silent", ""),
		{RunID: "failed", Status: outbox.Failed, Error: "e\x00", Headers: map[string]string{"callback_url": receiver, "k": "v"}},
	}
	var batch pgx.Batch
	expected := 0
	h := newHook(t, queued, config)
	for _, o := range outcomes {
		end(t, direct, newHook(t, direct, config), o)
		wrote, err := h.Queue(t.Context(), &batch, o)
		must(t, err)
		if wrote {
			expected++
		}
	}
	if batch.Len() != expected || expected != 4 {
		t.Errorf("the batch has %d statements, and Queue returned true %d times; want 4", batch.Len(), expected)
	}
	tx := begin(t, queued.Pool)
	must(t, tx.SendBatch(t.Context(), &batch).Close())
	must(t, tx.Commit(t.Context()))
	if a, b := rowsOf(t, direct), rowsOf(t, queued); !slices.Equal(a, b) {
		t.Errorf("Queue wrote %q\nwant the same as OnTermination: %q", b, a)
	}
}

// rowsOf lists the messages and their states, without their ids and times.
func rowsOf(t *testing.T, db *testdb.DB) []string {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), `SELECT (to_jsonb(m) - 'id' - 'created_at')::text || ' ' || s.state || ' ' || coalesce(s.dead_error, '')
FROM `+db.Schema+`.message m JOIN `+db.Schema+`.status s USING (id) ORDER BY 1`)
	must(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return list
}
