package hook_test

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/keyname"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// optionsOf ends a run that leaves one message, and returns the options in that message's row.
func optionsOf(t *testing.T, db *testdb.DB, c hook.WebhookConfig, o outbox.RunOutcome) (options outbox.Options) {
	t.Helper()
	d := endOne(t, db, newHook(t, db, c), o)
	text := one[*string](t, db.Pool, "SELECT options::text FROM "+db.Schema+".message WHERE id = $1", d.ID)
	if text != nil {
		must(t, json.Unmarshal([]byte(*text), &options))
	}
	return options
}

// outcomeWith is the outcome of a succeeded run with more headers.
func outcomeWith(runID string, headers map[string]string) outbox.RunOutcome {
	o := testdb.Outcome(runID, receiver)
	for key, value := range headers {
		o.Headers[key] = value
	}
	return o
}

func TestEveryFaultOfTheRequestsOptionsIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	const key = "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQ="
	_, err := hook.NewWebhook(hook.WebhookConfig{
		DefaultURL: "ftp://receiver.example", ForwardHeaders: []string{"not fine"},
		Options: outbox.Options{
			Timeout: -1, Method: "GET", Format: "xml", Source: "a b", ContentType: "a;b", SigningKey: key,
			Headers: map[string]string{"webhook-signature": "v1,x", "X-Bad": "a\nb"},
		},
	})
	if err == nil {
		t.Fatal("NewWebhook returns no error; want one with all faults")
	}
	for _, want := range []string{
		"DefaultURL: ", "Timeout is -1ns", `Method is "GET"`, `Format is "xml"`, `Source is "a b"`, `ContentType is "a;b"`, "SigningKey: ",
		`header "webhook-signature" is set by the worker only`, `header "X-Bad"`, "ForwardHeaders: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v; want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), key) {
		t.Errorf("SigningKey is a key in place of a key's name, and the error shows it: %v", err)
	}
}

func TestTheOptionsOfTheConfigurationAreWrittenIntoTheRow(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	c := hook.WebhookConfig{
		Options: outbox.Options{
			Timeout: 2 * time.Second, Method: "PUT", Format: outbox.FormatCloudEvents, Source: "urn:a", ContentType: "text/x-a", SigningKey: "own", SecretHeaders: "crm",
			Headers: map[string]string{"X-Static": "s"},
		},
		ForwardHeaders: []string{"X-*"}, Traceparent: func(context.Context) string { return traceparent },
	}
	o := outcomeWith("run-1", map[string]string{"X-B": "b", "x-a": "a", "Y": "y"})
	got := optionsOf(t, db, c, o)
	slices.Sort(got.Forward)
	if got.Timeout != c.Options.Timeout || got.Method != "PUT" || got.Format != outbox.FormatCloudEvents || got.Source != "urn:a" || got.ContentType != "text/x-a" ||
		got.SigningKey != "own" || got.SecretHeaders != "crm" || len(got.Headers) != 1 || got.Headers["X-Static"] != "s" || !slices.Equal(got.Forward, []string{"X-B", "x-a"}) || got.Traceparent != traceparent {
		t.Errorf("the row's options are %+v; want those of %+v", got, c.Options)
	}
	if text := one[*string](t, db.Pool, "SELECT options::text FROM "+db.Schema+".message WHERE id = $1", endOne(t, db, newHook(t, db, hook.WebhookConfig{}), outcomeWith("run-2", nil)).ID); text != nil {
		t.Errorf("a hook without options writes %s; want NULL", *text)
	}
}

func TestAHookCopiesTheHeadersOfItsConfiguration(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	headers := map[string]string{"X-Static": "s"}
	h := newHook(t, db, hook.WebhookConfig{Options: outbox.Options{Headers: headers}})
	headers["X-Static"], headers["Webhook-Signature"] = "changed", "v1,forged"
	d := endOne(t, db, h, outcomeWith("run-1", nil))
	text := one[string](t, db.Pool, "SELECT options->>'headers' FROM "+db.Schema+".message WHERE id = $1", d.ID)
	if strings.Contains(text, "changed") || strings.Contains(text, "forged") {
		t.Errorf("after a change of the caller's map the row has the headers %s; want the old ones", text)
	}
}

// TestASigningKeyIsChosenPerOutcome: a name that no key set can have becomes one that no worker knows. Then the message is
// not signed with another tenant's key, and the run ends all the same.
func TestASigningKeyIsChosenPerOutcome(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	c := hook.WebhookConfig{Options: outbox.Options{SigningKey: "own"}, SigningKeyOf: func(o outbox.RunOutcome) string { return o.Headers["tenant"] }}
	unknown := regexp.MustCompile(`^invalid-[0-9a-f]{16}$`)
	seen := map[string]string{}
	for _, tenant := range []string{"", "acme", "Acme.2_b-C", "../own", "own ", " own", "own\n", "own\x00", "a b", "ä", ".", strings.Repeat("a", 65), strings.Repeat("a", 70_000), "\xff", "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQ="} {
		got := optionsOf(t, db, c, outcomeWith("tenant-"+strings.ToValidUTF8(strings.ReplaceAll(tenant[:min(len(tenant), 70)], "\x00", "0"), "?"), map[string]string{"tenant": tenant})).SigningKey
		switch {
		case tenant == "" && got != "own", keyname.Check(tenant) == nil && got != tenant:
			t.Errorf("%.80q: the signing key is %q; want the same name, or the hook's own for an empty one", tenant, got)
		case tenant != "" && keyname.Check(tenant) != nil && (!unknown.MatchString(got) || keyname.Check(got) != nil):
			t.Errorf("%.80q: the signing key is %q; want invalid- and a hash", tenant, got)
		}
		if other, again := seen[got]; again {
			t.Errorf("%.80q and %.80q have the same signing key %q; want two different ones", tenant, other, got)
		}
		seen[got] = tenant
	}
}

type spanKey struct{}

// TestTheWritersSpanIsWrittenIntoTheRow: it comes from the context of the call. An invalid one is left out, because it must
// not keep a run from ending.
func TestTheWritersSpanIsWrittenIntoTheRow(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{Traceparent: func(ctx context.Context) string {
		text, _ := ctx.Value(spanKey{}).(string)
		return text
	}})
	for span, want := range map[string]string{
		traceparent: traceparent, "": "", "00-x": "", strings.ToUpper(traceparent): "", traceparent + "\r\nX: forged": "", "\x00": "", "\xff": "", strings.Repeat("0", 100_000): "",
	} {
		tx := begin(t, db.Pool)
		must(t, h.OnTermination(context.WithValue(t.Context(), spanKey{}, span), tx, outcomeWith("run-1", nil)))
		var got *string
		must(t, tx.QueryRow(t.Context(), "SELECT options->>'traceparent' FROM "+db.Schema+".message").Scan(&got))
		must(t, tx.Rollback(t.Context()))
		if want == "" && got != nil || want != "" && (got == nil || *got != want) {
			t.Errorf("%.60q: the row's traceparent is %v, want %q", span, got, want)
		}
	}
}

// TestTracestateGoesWithTheWritersSpan: it is never written without a traceparent.
func TestTracestateGoesWithTheWritersSpan(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for _, c := range []struct{ parent, state, want string }{
		{traceparent, "acme=1", "acme=1"}, {traceparent, "", ""}, {traceparent, "acme", ""}, {traceparent, "a=b\r\nX: forged", ""}, {"", "acme=1", ""},
	} {
		got := optionsOf(t, db, hook.WebhookConfig{
			Traceparent: func(context.Context) string { return c.parent }, Tracestate: func(context.Context) string { return c.state }, Options: outbox.Options{Method: "PUT"},
		}, outcomeWith("run "+c.parent+c.state, nil))
		if got.Traceparent != c.parent || got.Tracestate != c.want {
			t.Errorf("%+v: the row has traceparent %q and tracestate %q", c, got.Traceparent, got.Tracestate)
		}
	}
}

// TestADeadMessageKeepsItsOptions: an operator can replay it to a URL that works.
func TestADeadMessageKeepsItsOptions(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	o := outcomeWith("run-1", map[string]string{"callback_url": "relative"})
	got := optionsOf(t, db, hook.WebhookConfig{Options: outbox.Options{Method: "PUT", SigningKey: "own"}}, o)
	if d := messagesOf(t, db, "run-1")[0]; d.State != outbox.StateDead || got.Method != "PUT" || got.SigningKey != "own" {
		t.Errorf("the message is %s with the options %+v; want it dead, with the hook's options", d.State, got)
	}
}
