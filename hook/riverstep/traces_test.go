package riverstep_test

import (
	"context"
	"testing"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/otelhook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
)

// A River middleware, such as rivercontrib/otelriver, begins a span for each step. The message of the run's outcome continues it.
func TestTheSpanOfRiversMiddlewareReachesTheMessage(t *testing.T) {
	t.Parallel()
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	ends := map[string]riverstep.Verdict{"succeeds": riverstep.Succeed(nil), "fails": riverstep.Fail("no")}
	r := newRig(t, riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		return ends[s.RunID], nil
	}), func(c *riverstep.Config, rc *river.Config) {
		webhook, err := hook.NewWebhook(hook.WebhookConfig{Schema: c.Schema, Traceparent: otelhook.Traceparent, Tracestate: otelhook.Tracestate})
		must(t, err)
		c.Hook = webhook
		rc.Middleware = append(rc.Middleware, river.WorkerMiddlewareFunc(func(ctx context.Context, _ *rivertype.JobRow, work func(context.Context) error) error {
			return work(trace.ContextWithSpanContext(ctx, span))
		}))
	})
	r.start()
	for run := range ends {
		r.submit(riverstep.RunSpec{ID: run, Headers: map[string]string{"callback_url": "https://a.example"}})
		r.wait(run)
		got := one[string](t, r.db.Pool, r.in("SELECT options->>'traceparent' FROM outbox.message WHERE run_id = $1"), run)
		if want := otelhook.Traceparent(trace.ContextWithSpanContext(t.Context(), span)); got != want {
			t.Errorf("%s: the message's traceparent is %q, want %q", run, got, want)
		}
	}
}
