// Package linksampler samples a span without a parent if one of the spans that it links to is sampled.
//
// A retry of a delivery has a trace of its own, with a link to the writer's span. An ordinary sampler would decide about it
// by chance again, and most retries of a sampled trace would be missing. So wrap the sampler:
//
//	sdktrace.NewTracerProvider(sdktrace.WithSampler(linksampler.New(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.01)))), …)
//
// It stands apart from package worker because it links OpenTelemetry's SDK.
package linksampler

import (
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

type sampler struct{ others sdktrace.Sampler }

// New returns a sampler that asks the given one about spans that have a parent, or no links.
func New(others sdktrace.Sampler) sdktrace.Sampler { return sampler{others} }

func (s sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if len(p.Links) == 0 || trace.SpanContextFromContext(p.ParentContext).IsValid() {
		return s.others.ShouldSample(p)
	}
	for _, link := range p.Links {
		if link.SpanContext.IsSampled() {
			return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
		}
	}
	return sdktrace.SamplingResult{Decision: sdktrace.Drop}
}

func (s sampler) Description() string { return "LinkBased{" + s.others.Description() + "}" }
