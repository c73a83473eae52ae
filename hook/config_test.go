package hook_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestEveryFaultOfAConfigurationIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := hook.NewWebhook(hook.WebhookConfig{
		Schema: "No", DefaultURL: "relative", Options: outbox.Options{Timeout: time.Microsecond, Traceparent: "00-x", Tracestate: "a=b", Forward: []string{"a"}}, ResultBytesMax: -1,
		ForwardHeaders: []string{"fine", "not fine", ""},
	})
	if err == nil {
		t.Fatal("NewWebhook returns no error; want one with all faults")
	}
	for _, want := range []string{
		`"No"`, "DefaultURL: url: relative", "Options.Timeout is 1µs; want 1ms or more", "Options.Forward is set; want ForwardHeaders", "Options.Traceparent is set", "Options.Tracestate is set", "ResultBytesMax is -1",
		`ForwardHeaders: header "not fine"`, "ForwardHeaders: header name is empty",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v; want %q in it", err, want)
		}
	}
	if !errors.Is(err, outbox.ErrInvalidSchema) || !strings.HasPrefix(err.Error(), "webhook hook: ") {
		t.Errorf("the error is %v; want ErrInvalidSchema, and the prefix \"webhook hook: \"", err)
	}
}

func TestUsualConfigurationsAreAccepted(t *testing.T) {
	t.Parallel()
	for _, c := range []hook.WebhookConfig{
		{},
		{Schema: "events", URLHeader: "Any Thing", DefaultURL: receiver, Options: outbox.Options{Timeout: time.Millisecond}, ResultBytesMax: outbox.ResultBytesKept},
		{ForwardHeaders: []string{"*", "X-*", "x_tenant"}},
	} {
		if _, err := hook.NewWebhook(c); err != nil {
			t.Errorf("%+v: NewWebhook returns %v; want no error", c, err)
		}
	}
}

func TestAHookKeepsTheConfigurationThatItWasMadeWith(t *testing.T) {
	t.Parallel()
	patterns := []string{"a"}
	h, err := hook.NewWebhook(hook.WebhookConfig{ForwardHeaders: patterns})
	must(t, err)
	patterns[0] = "*"
	if err := h.CheckHeaders(map[string]string{"not a name": ""}); err != nil {
		t.Errorf("after a change of the caller's slice, CheckHeaders returns %v; want no error", err)
	}
}
