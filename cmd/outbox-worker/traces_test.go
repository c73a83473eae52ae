package main

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	v1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// collected starts a collector of traces. It returns its URL and the spans that arrive.
func collected(t *testing.T) (url string, spans chan *v1.Span) {
	t.Helper()
	spans = make(chan *v1.Span, 1000)
	to := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent collector.ExportTraceServiceRequest
		if err == nil && r.URL.Path == "/v1/traces" && proto.Unmarshal(body, &sent) == nil {
			for _, resource := range sent.GetResourceSpans() {
				for _, scope := range resource.GetScopeSpans() {
					for _, span := range scope.GetSpans() {
						spans <- span
					}
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(to.Close)
	return to.URL, spans
}

func TestTracesGoToACollectorByOTLP(t *testing.T) {
	t.Parallel()
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	db := testdb.New(t)
	receiver := beginReceiver(t)
	to, spans := collected(t)
	m := outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url + "/hook"}
	m.Options.Traceparent = "00-" + trace + "-" + span + "-01"
	id := written(t, db, m)
	// Only the writer's decision makes the span sampled.
	process(t, db, append(environment(db), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+to+"/v1/traces", "OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_TRACES_SAMPLER=parentbased_always_off"), "run")
	receiver.line(id.String())
	select {
	case got := <-spans:
		if hex.EncodeToString(got.GetTraceId()) != trace || hex.EncodeToString(got.GetParentSpanId()) != span || got.GetKind() != v1.Span_SPAN_KIND_CLIENT {
			t.Errorf("the span is %v, want a client's span below that of the writer", got)
		}
	case <-time.After(patience):
		t.Fatalf("no span arrived within %v", patience)
	}
}

// When the worker stops, it sends the spans that it has not sent yet.
func TestTheLastSpansAreSentAtTheStop(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	receiver := beginReceiver(t)
	to, spans := collected(t)
	id := written(t, db, outbox.Message{Outcome: testdb.Outcome("run-1", receiver.url), URL: receiver.url})
	worker, _ := process(t, db, append(environment(db), "OTEL_TRACES_EXPORTER=otlp", "OTEL_METRICS_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT="+to, "OTEL_BSP_SCHEDULE_DELAY=3600000"), "run")
	receiver.line(id.String())
	if err := worker.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-spans:
	case <-time.After(patience):
		t.Fatalf("no span arrived within %v", patience)
	}
}
