package linksampler_test

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-abbacb8b/epilogue/worker/linksampler"
)

func TestASpanWithoutAParentIsSampledLikeTheSpanItIsLinkedTo(t *testing.T) {
	t.Parallel()
	sampled := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled})
	not := sampled.WithTraceFlags(0)
	for name, c := range map[string]struct {
		others sdktrace.Sampler
		parent trace.SpanContext
		linked []trace.SpanContext
		want   bool
	}{
		"linked to one that is sampled":     {sdktrace.NeverSample(), trace.SpanContext{}, []trace.SpanContext{not, sampled}, true},
		"linked to one that is not":         {sdktrace.AlwaysSample(), trace.SpanContext{}, []trace.SpanContext{not}, false},
		"no link, the other says yes":       {sdktrace.AlwaysSample(), trace.SpanContext{}, nil, true},
		"no link, the other says no":        {sdktrace.NeverSample(), trace.SpanContext{}, nil, false},
		"a parent, whatever is linked: no":  {sdktrace.ParentBased(sdktrace.AlwaysSample()), not, []trace.SpanContext{sampled}, false},
		"a parent, whatever is linked: yes": {sdktrace.ParentBased(sdktrace.NeverSample()), sampled, []trace.SpanContext{not}, true},
	} {
		provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(linksampler.New(c.others)))
		var links []trace.Link
		for _, to := range c.linked {
			links = append(links, trace.Link{SpanContext: to})
		}
		_, span := provider.Tracer("").Start(trace.ContextWithRemoteSpanContext(t.Context(), c.parent), "x", trace.WithLinks(links...))
		if got := span.SpanContext().IsSampled(); got != c.want {
			t.Errorf("%s: sampled %v, want %v", name, got, c.want)
		}
	}
}
