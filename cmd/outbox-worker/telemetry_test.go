package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// scraped waits until /metrics contains each text, and returns it.
func scraped(t *testing.T, admin string, texts ...string) (metrics string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		_, metrics = get(t, "http://"+admin+"/metrics")
		missing := ""
		for _, text := range texts {
			if !strings.Contains(metrics, text) {
				missing = text
			}
		}
		if missing == "" {
			return metrics
		}
		if time.Now().After(deadline) {
			t.Fatalf("/metrics does not contain %q:\n%s", missing, metrics)
		}
		time.Sleep(20 * time.Millisecond) // no event tells when a metric has changed
	}
}

func TestMetricsAreServedForPrometheus(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	receiver := beginReceiver(t)
	_, admin := beginWorker(t, environment(db))
	id := written(t, db, outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url + "/hook"})
	receiver.line(id.String())
	scraped(t, admin, `outbox_attempts_total{class="delivered",outbox="`+db.Schema+`",status_class="2xx"} 1`,
		`outbox_settled_total{outbox="`+db.Schema+`",result="delivered"} 1`, `outbox_settlement_duration_seconds_count{outbox="`+db.Schema+`"} 1`,
		`target_info{`, `service_name="outbox-worker"`, "go_goroutines", "process_resident_memory_bytes")
}

func TestMetricsGoToACollectorByOTLP(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	receiver := beginReceiver(t)
	id := written(t, db, outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url + "/hook"})
	arrived := make(chan *collector.ExportMetricsServiceRequest, 1000)
	to := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent collector.ExportMetricsServiceRequest
		if err == nil && r.URL.Path == "/v1/metrics" && proto.Unmarshal(body, &sent) == nil {
			arrived <- &sent
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(to.Close)
	process(t, db, append(environment(db), "OTEL_EXPORTER_OTLP_ENDPOINT="+to.URL, "OTEL_METRIC_EXPORT_INTERVAL=100", "OTEL_SERVICE_NAME=ours"), "run")
	receiver.line(id.String())
	for {
		select {
		case sent := <-arrived:
			if text := sent.String(); strings.Contains(text, "outbox.settled") && strings.Contains(text, `"ours"`) {
				return
			}
		case <-time.After(patience):
			t.Fatalf("no metric of a settled message arrived within %v", patience)
		}
	}
}

func TestOTLPOverAnythingButHTTPIsAnError(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	invoke(t, append(environment(db), "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"), "run").
		wants(t, exitUsage, `OTEL_EXPORTER_OTLP_PROTOCOL is "grpc"`, "http/protobuf only", "4318")
	invoke(t, append(environment(db), "OTEL_METRICS_EXPORTER=console"), "run").wants(t, exitUsage, `OTEL_METRICS_EXPORTER holds "console"`)
	invoke(t, append(environment(db), "OTEL_TRACES_EXPORTER=zipkin"), "run").wants(t, exitUsage, `OTEL_TRACES_EXPORTER holds "zipkin"`)
	invoke(t, append(environment(db), "OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc"), "run").wants(t, exitUsage, `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is "grpc"`)
	invoke(t, append(environment(db), "OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=sometimes"), "run").wants(t, exitUsage, `OTEL_TRACES_SAMPLER is "sometimes"`)
	invoke(t, append(environment(db), "OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=2"), "run").
		wants(t, exitUsage, `OTEL_TRACES_SAMPLER_ARG is "2"`)
}

func TestTheStandardVariablesTurnOTLPOn(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]asks{
		"":                                     {},
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://c": {otlp: true, traces: true},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c":                    {traces: true},
		"OTEL_TRACES_EXPORTER=otlp":                                      {traces: true},
		"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://c": {otlp: true},
		"OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf OTEL_EXPORTER_OTLP_PROTOCOL=grpc": {traces: true},
		"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c":                                                                {otlp: true},
		"OTEL_METRICS_EXPORTER=otlp":                                                                                    {otlp: true},
		"OTEL_METRICS_EXPORTER=prometheus,otlp":                                                                         {otlp: true},
		"OTEL_METRICS_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://c":                                               {traces: true},
		"OTEL_METRICS_EXPORTER=prometheus OTEL_EXPORTER_OTLP_ENDPOINT=http://c":                                         {traces: true},
		"OTEL_SDK_DISABLED=true OTEL_METRICS_EXPORTER=otlp":                                                             {nothing: true},
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc":                                                                              {}, // turns nothing on by itself
		"OTEL_METRICS_EXPORTER=otlp OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/protobuf": {otlp: true},
	} {
		if got, err := askedOfOTLP(variablesOf(strings.Fields(text))); err != nil || got != want {
			t.Errorf("%q turns on %+v, %v; want %+v", text, got, err, want)
		}
	}
}
