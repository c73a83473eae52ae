package delivery

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/internal/httpmethod"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// span is the trace of one attempt: a span of kind CLIENT by OpenTelemetry's conventions for HTTP, and the context that the
// request carries. The first attempt continues the trace of the writer's span. A retry may begin days later, so it has a trace of its
// own, with a link to the writer's span.
//
// The writer decides what is sampled. When its span was not sampled, the attempt only gets a context of its own, without calling the
// tracer; that costs no more than the header's text.
type span struct {
	recorded      trace.Span // nil when nothing of it is kept
	parent, state string     // traceparent and tracestate; "" for none
}

// clientKind is everything that a span begins with. The conventions want the attributes there too, for samplers. But most spans are
// not sampled, and would pay for attributes that nobody reads.
var clientKind = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}

// begin begins the span of an attempt. Without a tracer, the request carries the writer's context unchanged.
func begin(tracer trace.Tracer, m Message, o outbox.Options) span {
	writer, known := writerOf(o)
	switch {
	case tracer == nil:
		return passedOn(o)
	case known && !writer.IsSampled() && m.Attempt > 1:
		return span{parent: traceparent(newTraceID(), newSpanID(), 0)}
	case known && !writer.IsSampled():
		return span{parent: traceparent(writer.TraceID(), newSpanID(), writer.TraceFlags()), state: checkedState(o)}
	}
	ctx, options := context.Background(), clientKind
	switch {
	case known && m.Attempt > 1:
		options = append(slices.Clip(options), trace.WithLinks(trace.Link{SpanContext: writer}))
	case known:
		state, _ := trace.ParseTraceState(o.Tracestate) // an invalid one is left out
		ctx = trace.ContextWithRemoteSpanContext(ctx, writer.WithTraceState(state))
	}
	name, _ := methodOf(o)
	_, began := tracer.Start(ctx, name, options...)
	return spanOf(began, o)
}

// spanOf is a span that a tracer has begun. A tracer that does nothing (package noop) begins none.
func spanOf(began trace.Span, o outbox.Options) (x span) {
	said := began.SpanContext()
	if !said.IsValid() {
		return passedOn(o)
	}
	x.parent, x.state = traceparent(said.TraceID(), said.SpanID(), said.TraceFlags()), said.TraceState().String()
	if began.IsRecording() {
		x.recorded = began
	}
	return x
}

// passedOn is the writer's own context, for a worker without traces.
func passedOn(o outbox.Options) (x span) {
	if o.Traceparent != "" && header.CheckTraceparent(o.Traceparent) == nil {
		x.parent, x.state = o.Traceparent, checkedState(o)
	}
	return x
}

// inject puts the attempt's context into the request.
func (x span) inject(own *ownHeaders) {
	if x.parent == "" {
		return
	}
	own.set("Traceparent", x.parent)
	if x.state != "" {
		own.set("Tracestate", x.state)
	}
}

// end records how the attempt ended. If it was no attempt, its span is never ended, so nobody exports it.
//
// The span names only the origin of the URL: chat services carry their token in the path. The answer's error quotes no URL either.
func (s *Sender) end(x span, m Message, o outbox.Options, a Answer) {
	if x.recorded == nil || a.WaitsFor != "" {
		return
	}
	_, method := methodOf(o)
	attributes := append(make([]attribute.KeyValue, 0, 12),
		attribute.String("http.request.method", method), attribute.String("outbox.message.id", m.ID.String()),
		attribute.String("outbox.run.id", m.RunID), attribute.Int("outbox.attempt", m.Attempt), attribute.String("outbox.attempt.class", a.Class))
	if to, err := s.targets.normal(m.URL); err == nil {
		attributes = append(attributes, server(to.endpoint)...)
	}
	if m.Attempt > 1 {
		attributes = append(attributes, attribute.Int("http.request.resend_count", m.Attempt-1))
	}
	if a.StatusCode != 0 {
		attributes = append(attributes, attribute.Int("http.response.status_code", a.StatusCode), attribute.String("network.protocol.version", a.protocol))
	}
	switch a.Class {
	case ClassDelivered:
	case ClassStatus: // the status itself says what is wrong
		attributes = append(attributes, attribute.String("error.type", strconv.Itoa(a.StatusCode)))
		x.recorded.SetStatus(codes.Error, "")
	default:
		attributes = append(attributes, attribute.String("error.type", a.Class))
		x.recorded.SetStatus(codes.Error, a.Err)
	}
	x.recorded.SetAttributes(attributes...)
	x.recorded.End()
}

// server returns the attributes of an origin, in which a default port is left out.
func server(origin string) []attribute.KeyValue {
	u, err := url.Parse(origin)
	if err != nil {
		return nil
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		port = map[string]int{"http": 80, "https": 443}[u.Scheme]
	}
	return []attribute.KeyValue{
		attribute.String("url.full", origin), attribute.String("server.address", u.Hostname()), attribute.Int("server.port", port),
	}
}

// methodOf returns a span's name and method by the conventions, which have a fixed value for an unknown method.
func methodOf(o outbox.Options) (name, method string) {
	switch {
	case o.Method == "":
		return "POST", "POST"
	case httpmethod.Valid(o.Method):
		return o.Method, o.Method
	}
	return "HTTP", "_OTHER"
}

// writerOf parses the writer's span (W3C Trace Context, section 3.2). A later version is parsed as if it were this one.
func writerOf(o outbox.Options) (writer trace.SpanContext, ok bool) {
	text := o.Traceparent
	if text == "" || header.CheckTraceparent(text) != nil || strings.HasPrefix(text, "ff") {
		return writer, false
	}
	id, err := trace.TraceIDFromHex(text[3:35])
	if err != nil {
		return writer, false
	}
	parent, err := trace.SpanIDFromHex(text[36:52])
	if err != nil {
		return writer, false
	}
	flags, _ := strconv.ParseUint(text[53:55], 16, 8)
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: parent, TraceFlags: trace.TraceFlags(flags), Remote: true}), true
}

func checkedState(o outbox.Options) string {
	if o.Tracestate != "" && header.CheckTracestate(o.Tracestate) != nil {
		return ""
	}
	return o.Tracestate
}

// traceparent writes the form that writerOf parses.
func traceparent(id trace.TraceID, span trace.SpanID, flags trace.TraceFlags) string {
	var text [55]byte
	copy(text[:], "00-")
	hex.Encode(text[3:], id[:])
	text[35] = '-'
	hex.Encode(text[36:], span[:])
	text[52] = '-'
	hex.Encode(text[53:], []byte{byte(flags)})
	return string(text[:])
}

func newTraceID() (id trace.TraceID) {
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()|1) // all zeros would be none
	return id
}

func newSpanID() (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}
