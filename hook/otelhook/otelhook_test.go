package otelhook_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-abbacb8b/epilogue/hook/otelhook"
	"github.com/seed-abbacb8b/epilogue/internal/header"
)

func TestTheHeadersAreThoseThatOpenTelemetryWrites(t *testing.T) {
	t.Parallel()
	state, err := trace.ParseTraceState("acme=1,rojo=00f067aa0ba902b7")
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]trace.SpanContextConfig{
		"sampled":     {TraceID: trace.TraceID{1, 0xff}, SpanID: trace.SpanID{2, 0xab}, TraceFlags: trace.FlagsSampled, TraceState: state},
		"not sampled": {TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}},
		"none":        {},
	} {
		ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(config))
		theirs := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, theirs)
		parent, state := otelhook.Traceparent(ctx), otelhook.Tracestate(ctx)
		if parent != theirs["traceparent"] || state != theirs["tracestate"] {
			t.Errorf("%s: traceparent %q and tracestate %q, want %v", name, parent, state, theirs)
		}
		if err := header.CheckTraceparent(parent); (err == nil) != (parent != "") {
			t.Errorf("%s: the error of the check is %v; only an empty value should have one", name, err)
		}
		if err := header.CheckTracestate(state); (err == nil) != (state != "") {
			t.Errorf("%s: the error of the check is %v; only an empty value should have one", name, err)
		}
	}
	if otelhook.Traceparent(context.Background())+otelhook.Tracestate(context.Background()) != "" {
		t.Error("a context without a span gives a header, want none")
	}
}

// A service links this package together with the hook, and chooses its SDK itself.
func TestOnlyTheAPIOfOpenTelemetryIsLinked(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if !strings.Contains(path, "go.opentelemetry.io/otel") && !strings.HasPrefix(path, "github.com/cespare/xxhash") && !strings.HasSuffix(path, "/otelhook") {
			t.Errorf("%s is linked, want only the API of OpenTelemetry", path)
		}
		if strings.Contains(path, "/sdk") && !strings.Contains(path, "auto/sdk") {
			t.Errorf("%s is linked, want only the API of OpenTelemetry", path)
		}
	}
}
