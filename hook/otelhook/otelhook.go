// Package otelhook carries OpenTelemetry's current span into the messages of a hook, so that their deliveries continue its
// trace:
//
//	hook.WebhookConfig{Traceparent: otelhook.Traceparent, Tracestate: otelhook.Tracestate}
//
// The span comes from the context of the hook's call. The worker makes a span of each attempt when it has a
// TracerProvider; when it has none, its requests name the writer's span. The package links only the API.
package otelhook

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

// Traceparent is the current span in the form of W3C Trace Context, "" for none. A span that is not sampled is returned too: then
// its deliveries are not sampled either.
func Traceparent(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return ""
	}
	id, parent := span.TraceID(), span.SpanID()
	var text [55]byte
	copy(text[:], "00-")
	hex.Encode(text[3:], id[:])
	text[35] = '-'
	hex.Encode(text[36:], parent[:])
	text[52] = '-'
	hex.Encode(text[53:], []byte{byte(span.TraceFlags())})
	return string(text[:])
}

// Tracestate belongs to [Traceparent].
func Tracestate(ctx context.Context) string {
	return trace.SpanContextFromContext(ctx).TraceState().String()
}
