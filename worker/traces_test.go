package worker

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/otelhook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/linksampler"
)

// traced is a process that traces: the service, the worker or the receiver.
type traced struct {
	provider *sdktrace.TracerProvider
	exported *tracetest.InMemoryExporter
}

func newTraced(roots sdktrace.Sampler) *traced {
	exported := tracetest.NewInMemoryExporter()
	sampler := linksampler.New(sdktrace.ParentBased(roots))
	return &traced{sdktrace.NewTracerProvider(sdktrace.WithSyncer(exported), sdktrace.WithSampler(sampler)), exported}
}

func (p *traced) start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	return p.provider.Tracer("test").Start(ctx, name, options...)
}

// awaitSpans waits until n spans were exported.
func (r *rig) awaitSpans(p *traced, n int) (spans tracetest.SpanStubs) {
	r.t.Helper()
	r.await("the spans are exported", func() bool { spans = p.exported.GetSpans(); return len(spans) >= n })
	if len(spans) != n {
		r.t.Fatalf("%d spans, want %d: %v", len(spans), n, spans)
	}
	return spans
}

// tracedReceiver continues the trace of each request with a span of its own, and then answers.
func tracedReceiver(t *testing.T, p *traced, answer func(http.ResponseWriter)) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := propagation.TraceContext{}.Extract(req.Context(), propagation.HeaderCarrier(req.Header))
		_, span := p.start(ctx, "receive", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		answer(w)
	}))
	t.Cleanup(s.Close)
	return s
}

// endTraced ends a run within a span of the service, with a hook that writes the span's context, and returns the span.
func (r *rig) endTraced(p *traced, url string) (writer trace.Span) {
	r.t.Helper()
	h, err := hook.NewWebhook(hook.WebhookConfig{Schema: r.Schema, Traceparent: otelhook.Traceparent, Tracestate: otelhook.Tracestate})
	if err != nil {
		r.t.Fatal(err)
	}
	state, _ := trace.ParseTraceState("acme=1")
	upstream := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{7, 0xfe}, SpanID: trace.SpanID{8}, TraceFlags: trace.FlagsSampled, TraceState: state})
	if p == nil {
		upstream = upstream.WithTraceFlags(0)
		p = newTraced(sdktrace.AlwaysSample())
	}
	ctx, writer := p.start(trace.ContextWithRemoteSpanContext(r.t.Context(), upstream), "end the run")
	defer writer.End()
	err = pgx.BeginFunc(ctx, r.Pool, func(tx pgx.Tx) error { return h.OnTermination(ctx, tx, testdb.Outcome("run-1", url)) })
	if err != nil {
		r.t.Fatal(err)
	}
	return writer
}

// attributesOf are a span's attributes as text.
func attributesOf(s tracetest.SpanStub) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

func TestTheWritersAttemptsAndReceiversSpansAreOneTree(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	service, ours, theirs := newTraced(sdktrace.AlwaysSample()), newTraced(sdktrace.NeverSample()), newTraced(sdktrace.NeverSample())
	to := tracedReceiver(t, theirs, func(http.ResponseWriter) {})
	writer := r.endTraced(service, to.URL+"/hook?a=b").SpanContext()
	c := r.config()
	c.TracerProvider = ours.provider
	r.run(c)
	attempt, received := r.awaitSpans(ours, 1)[0], r.awaitSpans(theirs, 1)[0]
	if attempt.Parent.SpanID() != writer.SpanID() || attempt.SpanContext.TraceID() != writer.TraceID() || !attempt.Parent.IsRemote() {
		t.Errorf("the attempt's parent is %v, want the writer's span %v", attempt.Parent, writer)
	}
	if received.Parent.SpanID() != attempt.SpanContext.SpanID() || received.SpanContext.TraceID() != writer.TraceID() {
		t.Errorf("the receiver's parent is %v, want the attempt's span %v", received.Parent, attempt.SpanContext)
	}
	if got := received.Parent.TraceState().String(); got != "acme=1" {
		t.Errorf("the receiver's tracestate is %q, want acme=1", got)
	}
	if attempt.SpanKind != trace.SpanKindClient || attempt.Name != "POST" || attempt.Status.Code != codes.Unset || len(attempt.Links) != 0 {
		t.Errorf("the attempt's span is %v %s, %v, %v; want a client's POST, unset, without links", attempt.SpanKind, attempt.Name, attempt.Status, attempt.Links)
	}
	port := to.URL[strings.LastIndex(to.URL, ":")+1:]
	got := attributesOf(attempt)
	for name, want := range map[string]string{
		"http.request.method": "POST", "http.response.status_code": "200", "network.protocol.version": "1.1", "outbox.attempt": "1",
		"server.address": "127.0.0.1", "server.port": port, "url.full": "http://127.0.0.1:" + port,
		"outbox.run.id": "run-1", "outbox.attempt.class": "delivered",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"error.type", "http.request.resend_count"} {
		if _, ok := got[name]; ok {
			t.Errorf("the span has the attribute %s, want it absent", name)
		}
	}
}

func TestARetryHasATraceOfItsOwnWithALinkToTheWriter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	service, ours, theirs := newTraced(sdktrace.AlwaysSample()), newTraced(sdktrace.NeverSample()), newTraced(sdktrace.NeverSample())
	var before atomic.Bool
	to := tracedReceiver(t, theirs, func(w http.ResponseWriter) {
		if !before.Swap(true) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	writer := r.endTraced(service, to.URL).SpanContext()
	c := r.config()
	c.TracerProvider = ours.provider
	r.run(c)
	spans, received := r.awaitSpans(ours, 2), r.awaitSpans(theirs, 2)
	first, retry := spans[0], spans[1]
	if got := attributesOf(first); first.Parent.SpanID() != writer.SpanID() || first.Status.Code != codes.Error || got["error.type"] != "503" {
		t.Errorf("the first attempt's span has parent %v, %v, %v; want the writer's span as parent, and the error 503", first.Parent, first.Status, got)
	}
	if retry.Parent.IsValid() || retry.SpanContext.TraceID() == writer.TraceID() {
		t.Errorf("the retry is in trace %s with the parent %v, want a trace of its own without a parent", retry.SpanContext.TraceID(), retry.Parent)
	}
	if len(retry.Links) != 1 || retry.Links[0].SpanContext.SpanID() != writer.SpanID() || retry.Links[0].SpanContext.TraceID() != writer.TraceID() {
		t.Errorf("the retry is linked to %v, want %v", retry.Links, writer)
	}
	if got := attributesOf(retry); got["http.request.resend_count"] != "1" || got["outbox.attempt"] != "2" {
		t.Errorf("the retry has the attributes %v, want resend_count 1 and attempt 2", got)
	}
	if received[1].Parent.SpanID() != retry.SpanContext.SpanID() || received[1].Parent.TraceState().Len() != 0 {
		t.Errorf("the receiver got the span context %v of the retry, want %v without a tracestate", received[1].Parent, retry.SpanContext)
	}
}

// When the writer's span was not sampled, the attempts have no spans. Each request has a span context of its own all the same.
func TestWithoutASampledWriterAttemptsHaveNoSpans(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ours := newTraced(sdktrace.AlwaysSample())
	to := newReceiver(t, func(w http.ResponseWriter, _ request) { w.WriteHeader(http.StatusServiceUnavailable) })
	writer := r.endTraced(nil, to.URL).SpanContext()
	c := r.config()
	c.TracerProvider = ours.provider
	r.run(c)
	r.await("the message was tried three times", func() bool { return len(to.requests()) == 3 })
	seen := map[string]bool{writer.SpanID().String(): true}
	for i, got := range to.requests() {
		ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.HeaderCarrier(got.header))
		span := trace.SpanContextFromContext(ctx)
		if !span.IsValid() || span.IsSampled() || seen[span.SpanID().String()] {
			t.Errorf("attempt %d has the span context %v, want a new one that is not sampled", i+1, span)
		}
		seen[span.SpanID().String()] = true
		if (span.TraceID() == writer.TraceID()) != (i == 0) || (span.TraceState().String() == "acme=1") != (i == 0) {
			t.Errorf("attempt %d is in trace %s (%v), want the writer's trace %s for the first attempt only", i+1, span.TraceID(), span.TraceState(), writer.TraceID())
		}
	}
	if spans := ours.exported.GetSpans(); len(spans) != 0 {
		t.Errorf("the spans are %v, want none", spans)
	}
}

func TestWithoutATracerTheRequestHasTheWritersSpanContext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	writer := r.endTraced(newTraced(sdktrace.AlwaysSample()), to.URL)
	r.run(r.config())
	r.await("the message arrives", func() bool { return len(to.requests()) == 1 })
	got := to.requests()[0].header
	if want := otelhook.Traceparent(trace.ContextWithSpan(t.Context(), writer)); got.Get("traceparent") != want || got.Get("tracestate") != "acme=1" {
		t.Errorf("traceparent %q and tracestate %q, want %q and acme=1", got.Get("traceparent"), got.Get("tracestate"), want)
	}
}

// The URLs of chat services have a token in their path. Whoever reads traces must not see it.
func TestNoTokenOfAURLIsInASpan(t *testing.T) {
	t.Parallel()
	const token = "T0ken4711"
	r := newRig(t)
	ours := newTraced(sdktrace.AlwaysSample())
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		switch {
		case strings.HasSuffix(req.path, "/redirects"):
			w.Header().Set("Location", "http://127.0.0.1/"+token)
			w.WriteHeader(http.StatusFound)
		case strings.HasSuffix(req.path, "/echoes"):
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte("no such thing: " + req.path))
		case strings.HasSuffix(req.path, "/garbage"):
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = conn.Write([]byte("HTTP/1.1 " + req.path + "\r\n\r\n"))
			_ = conn.Close()
		}
	})
	c := r.config()
	c.TracerProvider, c.RetrySchedule = ours.provider, []time.Duration{}
	urls := []string{
		to.URL + "/" + token, to.URL + "/" + token + "/redirects", to.URL + "/" + token + "/echoes", to.URL + "/" + token + "/garbage",
		"http://nowhere.invalid/" + token, "http://127.0.0.1:1/" + token + "?" + token, "http://169.254.169.254/" + token,
	}
	for _, url := range urls {
		r.write(outbox.Message{Outcome: testdb.Outcome("run", url), URL: url})
	}
	r.run(c)
	classes := map[string]bool{}
	for _, s := range r.awaitSpans(ours, len(urls)) {
		classes[attributesOf(s)["outbox.attempt.class"]] = true
		texts := []attribute.KeyValue{attribute.String("name", s.Name), attribute.String("status", s.Status.Description), attribute.String("tracestate", s.SpanContext.TraceState().String())}
		for _, event := range s.Events {
			texts = append(append(texts, attribute.String("event", event.Name)), event.Attributes...)
		}
		for _, text := range append(texts, s.Attributes...) {
			if strings.Contains(text.Value.String(), token) {
				t.Errorf("%s is %q, want no token in it", text.Key, text.Value.String())
			}
		}
	}
	for _, class := range []string{"delivered", "status", "protocol", "dns", "connect", "blocked"} {
		if !classes[class] {
			t.Errorf("no attempt is of class %s, want one of each", class)
		}
	}
}

// A message that waits for a key is claimed again and again. Nothing is sent, so there is no span.
func TestAMessageThatWaitsHasNoSpan(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ours := newTraced(sdktrace.AlwaysSample())
	to := newReceiver(t, nil)
	waits := r.write(outbox.Message{Outcome: testdb.Outcome("waits", to.URL), URL: to.URL, Options: outbox.Options{SigningKey: "nobody"}})
	c := r.config()
	c.TracerProvider = ours.provider
	r.run(c)
	r.await("the message waits", func() bool { return text(r.state(waits).WaitsFor) != "" })
	r.awaitSettled(r.writeTo(to.URL, "run"))
	if spans := r.awaitSpans(ours, 1); attributesOf(spans[0])["outbox.run.id"] != "run" {
		t.Errorf("the span has the attributes %v, want that of the other run", spans[0].Attributes)
	}
}
