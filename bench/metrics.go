package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	toprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
)

// metricsScenario: what metrics cost. Both contenders drain the same; one is measured, and scraped each second.
func metricsScenario() scenario {
	return scenario{
		name:  "metrics",
		about: "the drain of a backlog for one endpoint, with metrics and without",
		contenders: []contender{
			{name: "without", about: "no MeterProvider", run: drainTo(1, drainEpilogue)},
			{name: "with", about: "metrics for Prometheus, scraped each second", run: drainTo(1, drainMeasured)},
		},
		metrics: drainMetrics(),
		budgets: []report.Budget{{Metric: "rate", Of: "with", Against: "without", AtLeast: 0.97}},
	}
}

// drainMeasured is drainEpilogue with metrics, as the program has them.
func drainMeasured(ctx context.Context, t *trial, size drainSize) (report.Sample, error) {
	registry := prometheus.NewRegistry()
	exporter, err := toprometheus.New(toprometheus.WithRegisterer(registry), toprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, err
	}
	provider := sdk.NewMeterProvider(sdk.WithReader(exporter))
	defer func() { _ = provider.Shutdown(context.WithoutCancel(ctx)) }()
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()
	scraping, stop := context.WithCancel(ctx)
	defer stop()
	go scrape(scraping, server.URL)
	return drainMeasuredBy(ctx, t, size, provider)
}

// scrape asks for metrics each second until ctx ends.
func scrape(ctx context.Context, url string) {
	for ctx.Err() == nil {
		if response, err := http.Get(url); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// drainEpilogue drains with this project's worker, which is changed only by its configuration.
func drainEpilogue(ctx context.Context, t *trial, size drainSize) (report.Sample, error) {
	return drainMeasuredBy(ctx, t, size, nil)
}

func drainMeasuredBy(ctx context.Context, t *trial, size drainSize, provider metric.MeterProvider) (report.Sample, error) {
	config := drainConfig(t.DB.Schema)
	config.MeterProvider = provider
	return drainWith(ctx, t, size, config)
}
