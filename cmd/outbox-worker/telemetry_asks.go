package main

import (
	"slices"
	"strings"
)

// asks is what the environment wants of OpenTelemetry.
type asks struct {
	nothing bool // neither metrics nor traces
	otlp    bool // metrics, besides /metrics
	traces  bool
}

// The variables of OpenTelemetry's specification that decide here; the exporters read the others themselves.
const (
	otelDisabled        = "OTEL_SDK_DISABLED"
	otelExporter        = "OTEL_METRICS_EXPORTER"
	otelTracesExporter  = "OTEL_TRACES_EXPORTER"
	otelEndpoint        = "OTEL_EXPORTER_OTLP_ENDPOINT"
	otelMetricsEndpoint = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
	otelTracesEndpoint  = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	otelProtocol        = "OTEL_EXPORTER_OTLP_PROTOCOL"
	otelMetricsProtocol = "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"
	otelTracesProtocol  = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	otlpOverHTTP        = "http/protobuf"
)

// telemetrySignal are the variables of metrics, or of traces, and the exporters that are known besides OTLP and none.
type telemetrySignal struct {
	exporter, endpoint, protocol string
	others                       []string
	hint                         string
}

var (
	metricsSignal = telemetrySignal{otelExporter, otelMetricsEndpoint, otelMetricsProtocol, []string{"prometheus"}, " (/metrics is served in any case)"}
	tracesSignal  = telemetrySignal{otelTracesExporter, otelTracesEndpoint, otelTracesProtocol, nil, ""}
)

// askedOfOTLP reads what the variables want. By the specification, OTLP is the default of the exporters. Here OTLP needs an
// endpoint, so that a worker without a collector does not look for one.
func askedOfOTLP(env map[string]string) (a asks, err error) {
	if strings.EqualFold(strings.TrimSpace(env[otelDisabled]), "true") {
		return asks{nothing: true}, nil
	}
	if a.otlp, err = metricsSignal.asked(env); err != nil {
		return asks{}, err
	}
	if a.traces, err = tracesSignal.asked(env); err != nil {
		return asks{}, err
	}
	return a, nil
}

// asked says whether a signal is to be sent by OTLP.
func (s telemetrySignal) asked(env map[string]string) (bool, error) {
	value := func(name string) string { return strings.TrimSpace(env[name]) }
	exporters := strings.FieldsFunc(value(s.exporter), func(r rune) bool { return r == ',' || r == ' ' })
	known := append(append([]string{"otlp"}, s.others...), "none")
	for _, name := range exporters {
		if !slices.Contains(known, name) {
			return false, usagef("%s holds %.64q; want one of %s%s", s.exporter, name, strings.Join(known, ", "), s.hint)
		}
	}
	otlp := slices.Contains(exporters, "otlp") || len(exporters) == 0 && value(otelEndpoint)+value(s.endpoint) != ""
	for _, name := range []string{s.protocol, otelProtocol} {
		protocol := value(name)
		if protocol == "" {
			continue
		}
		if otlp && protocol != otlpOverHTTP {
			return false, usagef("%s is %.64q; the worker speaks %s only: set that, and name the collector's port for HTTP (4318 by default)", name, protocol, otlpOverHTTP)
		}
		break // the variable of the signal alone comes first
	}
	return otlp, nil
}
