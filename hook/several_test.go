package hook_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

const second = "https://second.example/hook"

func ofRun(o outbox.RunOutcome) string { return o.RunID }

func TestEachURLOfARunGetsAMessageInOneStatement(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{
		URLs:         func(o outbox.RunOutcome) []string { return strings.Split(o.Headers["urls"], " ") },
		TenantHeader: "tenant", Options: outbox.Options{Delay: 1000},
	})
	o := outcomeWith("Lauf für zwei", map[string]string{"urls": receiver + "  " + second + " relative " + second, "tenant": "acme"})
	var batch pgx.Batch
	queued, err := h.Queue(t.Context(), &batch, o)
	must(t, err)
	if !queued || batch.Len() != 1 {
		t.Errorf("Queue returns %t, and the batch has %d statements; want true and 1", queued, batch.Len())
	}
	must(t, pgx.BeginFunc(t.Context(), db.Pool, func(tx pgx.Tx) error { return tx.SendBatch(t.Context(), &batch).Close() }))
	receipts := receiptsOf(t, db, h, o)
	const query = `SELECT string_agg(m.url || ' ' || m.tenant || ' ' || coalesce(d.endpoint, x.reason) || ' ' || convert_from(m.result, 'UTF8'), ', ' ORDER BY m.url COLLATE "C", m.id)
FROM %[1]s.message m LEFT JOIN %[1]s.due d ON d.message_id = m.id LEFT JOIN %[1]s.dead x ON x.message_id = m.id`
	got := one[string](t, db.Pool, fmt.Sprintf(query, db.Schema))
	twice := func(s string) string { return s + ", " + s }
	want := strings.Join([]string{
		twice(receiver + ` acme https://receiver.example acme {"ok":true}`), twice(second + ` acme https://second.example acme {"ok":true}`),
		twice("relative acme invalid " + `{"ok":true}`),
	}, ", ")
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	fates := make([]string, len(receipts))
	for i, r := range receipts {
		fates[i] = r.URL + " " + string(r.Fate)
	}
	if want := []string{receiver + " written", second + " written", "relative dead"}; !slices.Equal(fates, want) {
		t.Errorf("the receipts are %q, want %q", fates, want)
	}
}

func TestWithoutURLsOfItsOwnARunGoesWhereItsHeaderSays(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{URLs: func(outbox.RunOutcome) []string { return []string{""} }})
	if d := endOne(t, db, h, testdb.Outcome("run", receiver)); d.URL != receiver {
		t.Errorf("the message's URL is %s, want %s", d.URL, receiver)
	}
}

func TestADedupeKeyPerURLWritesOneMessageToEachURL(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	config := hook.WebhookConfig{DedupeKey: ofRun, DedupeScope: hook.DedupeURL}
	config.URLs = func(o outbox.RunOutcome) []string { return []string{receiver, second} }
	h := newHook(t, db, config)
	first := receiptsOf(t, db, h, testdb.Outcome("run", ""))
	config.URLs = func(o outbox.RunOutcome) []string {
		return []string{"HTTPS://Second.example/hook", "https://third.example", receiver}
	}
	again := receiptsOf(t, db, newHook(t, db, config), testdb.Outcome("run", ""))
	if again[0].Fate != outbox.FateDuplicate || again[0].ID != first[1].ID || again[1].Fate != outbox.FateWritten ||
		again[2].Fate != outbox.FateDuplicate || again[2].ID != first[0].ID {
		t.Errorf("the receipts are %+v; want a duplicate, a written one, and a duplicate", again)
	}
	if n := count(t, db, "due"); n != 3 {
		t.Errorf("%d messages are due, want 3", n)
	}
}

func TestADedupeKeyPerHookLetsTwoHooksWriteForOneRun(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	named := func(name, url string) *hook.WebhookTerminalHook {
		return newHook(t, db, hook.WebhookConfig{DedupeKey: ofRun, DedupeScope: hook.DedupeHook, Name: name, DefaultURL: url})
	}
	both := hook.Multi(named("a", receiver), named("b", second))
	for range 2 {
		if all := end(t, db, both, testdb.Outcome("run", "")); len(all) != 2 {
			t.Errorf("%d messages, want 2", len(all))
		}
	}
}

func TestHooksWhoseKeysCollideAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	keyed := func(url string) *hook.WebhookTerminalHook {
		return newHook(t, db, hook.WebhookConfig{DedupeKey: ofRun, DefaultURL: url})
	}
	tx := begin(t, db.Pool)
	nested := hook.Multi(keyed(receiver), hook.Multi(nil, keyed(second)))
	o := testdb.Outcome("run", "")
	o.Headers = nil
	if err := nested.OnTermination(t.Context(), tx, o); !errors.Is(err, hook.ErrDedupeCollision) {
		t.Errorf("OnTermination returns %v, want ErrDedupeCollision", err)
	}
	same := hook.Multi(keyed(receiver), keyed(receiver))
	must(t, same.OnTermination(t.Context(), tx, o))
	must(t, tx.Commit(t.Context()))
	if n := count(t, db, "message"); n != 1 {
		t.Errorf("%d messages, want one: with one URL the key does not collide", n)
	}
}

func TestAScopeThatWouldLoseMessagesIsRefused(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]hook.WebhookConfig{
		"Name is empty":               {DedupeScope: hook.DedupeHook},
		`DedupeScope is "tenant"`:     {DedupeScope: "tenant"},
		`DedupeScope must be "url"`:   {DedupeKey: ofRun, URLs: func(outbox.RunOutcome) []string { return nil }},
		`must be "url": with one key`: {DedupeKey: ofRun, URLs: func(outbox.RunOutcome) []string { return nil }, DedupeScope: hook.DedupeHook, Name: "a"},
	} {
		if _, err := hook.NewWebhook(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: NewWebhook returns %v; want an error that says %q", c, err, want)
		}
	}
}

func TestMoreURLsThanOneRunCanHaveAreTheCallersError(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{URLs: func(outbox.RunOutcome) (urls []string) {
		for i := range outbox.DestinationsMax + 1 {
			urls = append(urls, fmt.Sprint(receiver, "/", i))
		}
		return urls
	}})
	if err := h.OnTermination(t.Context(), begin(t, db.Pool), testdb.Outcome("run", "")); !errors.Is(err, outbox.ErrInvalidOutcome) {
		t.Errorf("OnTermination returns %v, want ErrInvalidOutcome", err)
	}
	if err := h.CheckOutcome(testdb.Outcome("run", "")); err == nil || !strings.Contains(err.Error(), "the limit is 100") {
		t.Errorf("CheckOutcome returns %v; want an error that names the limit of 100", err)
	}
}
