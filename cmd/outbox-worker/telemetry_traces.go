package main

import (
	"context"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/seed-abbacb8b/epilogue/worker/linksampler"
)

// newTracing makes the exporter of the attempts' spans, by OTLP over HTTP. Spans that the collector does not take in time are dropped.
func newTracing(ctx context.Context, env map[string]string, about *resource.Resource) (*sdktrace.TracerProvider, error) {
	sampler, err := tracesSampler(env)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, usagef("OTLP: %v; see the variables OTEL_EXPORTER_OTLP_…", err)
	}
	return sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about), sdktrace.WithSampler(linksampler.New(sampler))), nil
}

const (
	otelSampler    = "OTEL_TRACES_SAMPLER"
	otelSamplerArg = "OTEL_TRACES_SAMPLER_ARG"
)

// tracesSampler is the sampler that the standard variables name. The SDK reads them too, but does not return the sampler, which
// must be wrapped.
func tracesSampler(env map[string]string) (sdktrace.Sampler, error) {
	name, text := strings.ToLower(strings.TrimSpace(env[otelSampler])), strings.TrimSpace(env[otelSamplerArg])
	root, parents := strings.CutPrefix(name, "parentbased_")
	var sampler sdktrace.Sampler
	switch root {
	case "":
		sampler, parents = sdktrace.AlwaysSample(), true
	case "always_on":
		sampler = sdktrace.AlwaysSample()
	case "always_off":
		sampler = sdktrace.NeverSample()
	case "traceidratio":
		ratio := 1.0
		if text != "" {
			var err error
			if ratio, err = strconv.ParseFloat(text, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
				return nil, usagef("%s is %.64q; want a fraction from 0 to 1, like 0.01", otelSamplerArg, text)
			}
		}
		sampler = sdktrace.TraceIDRatioBased(ratio)
	default:
		return nil, usagef("%s is %.64q; want always_on, always_off, traceidratio, or one of these with parentbased_ before it", otelSampler, name)
	}
	if parents {
		return sdktrace.ParentBased(sampler), nil
	}
	return sampler, nil
}
