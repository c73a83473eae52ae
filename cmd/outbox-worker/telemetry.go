package main

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
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
)

// telemetry is what becomes of the worker's metrics. /metrics of the admin address has them for Prometheus. When the
// standard variables of OpenTelemetry ask for it, they are sent by OTLP over HTTP, too.
type telemetry struct {
	provider *sdk.MeterProvider // nil when OTEL_SDK_DISABLED is true
	handler  http.Handler
}

// Bounds. A scrape reads what is in memory; several at once would be a misconfiguration.
const (
	scrapesMax               = 8
	scrapeTimeout            = 5 * time.Second
	telemetryShutdownTimeout = adminShutdownTimeout
)

// openTelemetry makes the provider. It connects to nobody: a collector that is away is told of in the log, and nothing
// waits for it.
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
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("metrics cannot be exported", "error", err) }))
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

// close sends a last time what there is, but does not wait for long.
func (t *telemetry) close() {
	if t.provider == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), telemetryShutdownTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what fails is in the log, by the error handler
}

// asks is what the environment asks of OpenTelemetry.
type asks struct {
	nothing bool // no metrics at all
	otlp    bool // besides /metrics
}

// The variables of OpenTelemetry's specification that decide here; the exporter reads the others itself.
const (
	otelDisabled        = "OTEL_SDK_DISABLED"
	otelExporter        = "OTEL_METRICS_EXPORTER"
	otelEndpoint        = "OTEL_EXPORTER_OTLP_ENDPOINT"
	otelMetricsEndpoint = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
	otelProtocol        = "OTEL_EXPORTER_OTLP_PROTOCOL"
	otelMetricsProtocol = "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"
	otlpOverHTTP        = "http/protobuf"
)

// askedOfOTLP reads what the variables ask for. By the specification, OTLP is the default of OTEL_METRICS_EXPORTER. Here it
// takes an endpoint, so that a worker without a collector does not look for one.
func askedOfOTLP(env map[string]string) (asks, error) {
	value := func(name string) string { return strings.TrimSpace(env[name]) }
	if strings.EqualFold(value(otelDisabled), "true") {
		return asks{nothing: true}, nil
	}
	exporters := strings.FieldsFunc(value(otelExporter), func(r rune) bool { return r == ',' || r == ' ' })
	known := []string{"otlp", "prometheus", "none"}
	for _, name := range exporters {
		if !slices.Contains(known, name) {
			return asks{}, usagef("%s holds %.64q; want one of %s (/metrics is served in any case)", otelExporter, name, strings.Join(known, ", "))
		}
	}
	otlp := slices.Contains(exporters, "otlp") || len(exporters) == 0 && value(otelEndpoint)+value(otelMetricsEndpoint) != ""
	for _, name := range []string{otelMetricsProtocol, otelProtocol} {
		protocol := value(name)
		if protocol == "" {
			continue
		}
		if otlp && protocol != otlpOverHTTP {
			return asks{}, usagef("%s is %.64q; the worker speaks %s only: set that, and name the collector's port for HTTP (4318 by default)", name, protocol, otlpOverHTTP)
		}
		break // the variable of metrics alone comes first
	}
	return asks{otlp: otlp}, nil
}
