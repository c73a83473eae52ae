package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/worker/linksampler"
)

// tracingScenario: what traces cost. The messages name no writer's span, which is the most expensive case: the sampler is called for
// each.
func tracingScenario() scenario {
	return scenario{
		name:  "tracing",
		about: "the drain of a backlog for one endpoint, with traces sampled at 1 % and without",
		contenders: []contender{
			{name: "without", about: "no TracerProvider", run: drainTo(1, drainEpilogue)},
			{name: "with", about: "a span for one attempt in a hundred, sent to a collector by OTLP over HTTP", run: drainTo(1, drainTraced)},
		},
		metrics: drainMetrics(),
		budgets: []report.Budget{{Metric: "rate", Of: "with", Against: "without", AtLeast: 0.97}},
	}
}

// drainTraced is drainEpilogue with traces, as the program has them.
func drainTraced(ctx context.Context, t *trial, size drainSize) (report.Sample, error) {
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer collector.Close()
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(collector.URL))
	if err != nil {
		return nil, err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(linksampler.New(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(0.01)))))
	defer func() { _ = provider.Shutdown(context.WithoutCancel(ctx)) }()
	config := drainConfig(t.DB.Schema)
	config.TracerProvider = provider
	return drainWith(ctx, t, size, config)
}
