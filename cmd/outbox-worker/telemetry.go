package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	toprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// telemetry exports the metrics of the worker: at /metrics of the admin address for Prometheus and, when the standard variables
// of OpenTelemetry ask for it, by OTLP over HTTP.
type telemetry struct {
	provider *sdk.MeterProvider       // nil when OTEL_SDK_DISABLED is true
	tracing  *sdktrace.TracerProvider // nil when nothing asks for traces
	handler  http.Handler
}

// Bounds. A scrape reads what is in memory; several at once would be a misconfiguration.
const (
	scrapesMax               = 8
	scrapeTimeout            = 5 * time.Second
	telemetryShutdownTimeout = adminShutdownTimeout
)

// openTelemetry makes the provider. It opens no connection: when the collector is away, the log says so, and nothing waits.
func (p *program) openTelemetry(ctx context.Context, log *slog.Logger) (*telemetry, error) {
	asks, err := askedOfOTLP(p.env)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	t := &telemetry{handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: scrapesMax, Timeout: scrapeTimeout,
	})}
	if asks.nothing {
		return t, nil
	}
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("metrics or traces cannot be exported", "error", err) }))
	scraped, err := toprometheus.New(toprometheus.WithRegisterer(registry), toprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, err
	}
	options := []sdk.Option{sdk.WithReader(scraped)}
	if asks.otlp {
		exporter, err := otlpmetrichttp.New(ctx)
		if err != nil {
			return nil, usagef("OTLP: %v; see the variables OTEL_EXPORTER_OTLP_…", err)
		}
		options = append(options, sdk.WithReader(sdk.NewPeriodicReader(exporter)))
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "outbox-worker"), attribute.String("service.version", buildVersion().Version)), resource.WithFromEnv())
	if err != nil {
		return nil, usagef("OTEL_RESOURCE_ATTRIBUTES: %v", err)
	}
	if asks.traces {
		if t.tracing, err = newTracing(ctx, p.env, about); err != nil {
			return nil, err
		}
	}
	t.provider = sdk.NewMeterProvider(append(options, sdk.WithResource(about))...)
	return t, nil
}

// meters is the provider as worker.Config takes it: nil rather than an interface that holds nil.
func (t *telemetry) meters() metric.MeterProvider {
	if t.provider == nil {
		return nil
	}
	return t.provider
}

// tracers does the same for traces.
func (t *telemetry) tracers() trace.TracerProvider {
	if t.tracing == nil {
		return nil
	}
	return t.tracing
}

// close sends the last metrics, but does not wait long.
func (t *telemetry) close() {
	ctx, cancel := context.WithTimeout(context.Background(), telemetryShutdownTimeout)
	defer cancel()
	var ends []func()
	if t.provider != nil { // the error handler has logged it
		ends = append(ends, func() { _ = t.provider.Shutdown(ctx) })
	}
	if t.tracing != nil {
		ends = append(ends, func() { _ = t.tracing.Shutdown(ctx) })
	}
	atOnce(ends...)
}
