package delivery

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The code that runs for each message must cost almost nothing if nobody reads its traces.
func TestAnAttemptThatIsNotSampledCostsTheTextOfItsHeader(t *testing.T) {
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample())).Tracer("")
	m := Message{ID: outbox.NewID(), Attempt: 1}
	unsampled := outbox.Options{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}
	for name, c := range map[string]struct {
		allocations float64
		make        func()
	}{
		"no tracer":   {0, func() { begin(nil, m, outbox.Options{}) }},
		"not sampled": {1, func() { begin(tracer, m, unsampled) }},
	} {
		if got := testing.AllocsPerRun(100, c.make); got > c.allocations {
			t.Errorf("%s: %v allocations, want %v", name, got, c.allocations)
		}
	}
}

// A row can be written by hand, and the context of a service may hold an invalid span.
func TestAnInvalidTraceContextOfAWriterIsLeftOut(t *testing.T) {
	t.Parallel()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())).Tracer("")
	for _, parent := range []string{
		"", "x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\n",
	} {
		o := outbox.Options{Traceparent: parent, Tracestate: "acme=1"}
		if _, ok := writerOf(o); ok {
			t.Errorf("%q is accepted as the context of a writer, want not", parent)
		}
		for _, attempt := range []int{1, 2} {
			x := begin(tracer, Message{Attempt: attempt}, o)
			if said, ok := writerOf(outbox.Options{Traceparent: x.parent}); !ok || said.IsSampled() || x.state != "" || x.recorded != nil {
				t.Errorf("%q: attempt %d sends traceparent %q and tracestate %q, want a new unsampled context without a state", parent, attempt, x.parent, x.state)
			}
		}
	}
	if x := begin(noop.NewTracerProvider().Tracer(""), Message{}, outbox.Options{}); x.parent != "" {
		t.Errorf("a no-op tracer without the context of a writer sends %q, want none", x.parent)
	}
	sampled := outbox.Options{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	for _, attempt := range []int{1, 2} {
		if x := begin(noop.NewTracerProvider().Tracer(""), Message{Attempt: attempt}, sampled); x.parent != sampled.Traceparent {
			t.Errorf("attempt %d with a no-op tracer sends %q, want %q", attempt, x.parent, sampled.Traceparent)
		}
	}
	if x := begin(nil, Message{}, outbox.Options{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Tracestate: "a=b\r\nX-Injected: 1"}); x.state != "" {
		t.Errorf("tracestate is %q, want none", x.state)
	}
}
