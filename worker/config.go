package worker

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed-abbacb8b/epilogue/internal/fieldfault"
	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/session"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/webhook"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// Config configures a [Worker]. The zero value is usable: every field says what its zero means.
type Config struct {
	// Schema of the outbox and of River's tables; outbox.DefaultSchema when empty.
	Schema string

	// Name of this process in leases, attempts and logs; the host's name when empty. A random suffix is added, because
	// two running workers may not share a name.
	Name string

	// Pooler says what stands between this process and Postgres: "none", "session" or "transaction" (a pooler in that
	// mode), or "auto", which detects a pooler and assumes transaction mode for it. "auto" when empty. Behind
	// "transaction" no setting outlives a transaction, and wakes are not heard.
	Pooler string

	// PollInterval is how often an idle worker looks for due messages when no wake arrives. 1 s when 0; from 10 ms.
	PollInterval time.Duration

	// Lease is how long a claimed message belongs to this worker; after a crash it is due again when the lease ends.
	// 30 s when 0. It must outlive a request and the recording of its answer: at least DeliveryTimeout + LeaseMargin, and
	// at most LeaseMax.
	Lease time.Duration

	// DeliveryTimeout bounds one request, from the lookup of its host to the last byte read of its answer. 15 s when
	// 0; from 10 ms. A message may ask for less.
	DeliveryTimeout time.Duration

	// MaxInFlight bounds the requests in flight in this process. 256 when 0.
	MaxInFlight int

	// EndpointMaxInFlight bounds them per endpoint. 64 when 0, or MaxInFlight if that is less; at most MaxInFlight.
	EndpointMaxInFlight int

	// MaxBytesInFlight bounds the bodies over 64 KiB that are held at once, in bytes. A message whose body finds no room waits
	// a second, which is no attempt. 64 MiB when 0; from 1 MiB. A body that is larger than that is sent alone.
	MaxBytesInFlight int

	// RetrySchedule is the wait after each failed attempt; there is one more attempt than there are waits. DefaultRetrySchedule
	// when nil; an empty one that is not nil means a single attempt. Each wait is at most 30 days.
	RetrySchedule []time.Duration

	// RetryJitter spreads each wait by this fraction in both directions: 0.2 is ±20 %. DefaultRetryJitter
	// when nil; from 0 to 1.
	RetryJitter *float64

	// RetryAfterMax caps what a URL can ask for with Retry-After. 1 h when 0.
	RetryAfterMax time.Duration

	// OpenAfter is how many failures in a row open a circuit breaker: of an origin that cannot be reached, or of a URL that
	// answers 5xx (for a URL, three requests without an answer are enough). Nothing is sent there for OpenFor, twice as long each
	// time up to OpenForMax, ±20 %; then a single message probes it. The messages wait without attempts. 10, 5 s and
	// 5 min when 0. All workers share the circuit breakers, so they should share these values too.
	OpenAfter           int
	OpenFor, OpenForMax time.Duration

	// LookupTimeout, ConnectTimeout, TLSTimeout and HeaderTimeout bound the phases of a request: the lookup of the
	// host, the connection to its addresses, the TLS handshake, and the wait for the first byte of the answer once the
	// request is sent. 5 s, 5 s, 5 s and DeliveryTimeout when 0. DeliveryTimeout bounds them all together.
	LookupTimeout, ConnectTimeout, TLSTimeout, HeaderTimeout time.Duration

	// RetryStatuses are the statuses of an answer that are tried again; DefaultRetryStatuses when nil. An empty one
	// that is not nil means none. 2xx and 410 cannot be among them.
	RetryStatuses []int

	// AllowHTTP lets messages go to http:// URLs. Without it they are refused for good.
	AllowHTTP bool

	// AllowedCIDRs allows networks that are blocked by default: everything that is not public unicast. Link-local
	// addresses, where clouds keep their metadata, stay blocked whatever is listed.
	AllowedCIDRs []netip.Prefix

	// AllowedPorts restricts the ports of endpoints; any when empty.
	AllowedPorts []uint16

	// DeniedAddrs are blocked whatever AllowedCIDRs says: the addresses that this process itself listens on. The database's and
	// the proxy's host and port are always blocked and need not be named here.
	DeniedAddrs []netip.AddrPort

	// ProxyURL is an egress proxy, http, https (CONNECT) or socks5, with user and password if it needs them. None when
	// empty, whatever the environment says. This process resolves the host, checks its address and gives the address
	// to the proxy; where the proxy then connects to cannot be checked. A fault of the proxy is not an attempt. CAFile
	// verifies an https proxy too.
	ProxyURL string

	// CAFile holds certificates, in PEM, that are trusted besides the system's roots. It is read again when
	// Worker.RereadCertificates is called. None when empty.
	CAFile string

	// ClientCertFile and ClientKeyFile hold the certificate and key, in PEM, that the worker shows to those endpoints of
	// ClientCertOrigins that ask for one (mTLS). They are read again when they change. None when empty; both or neither.
	ClientCertFile, ClientKeyFile string

	// ClientCertOrigins are the origins that the client certificate is shown to, as https://HOST[:PORT]: it would tell any
	// other endpoint who the worker is. At least one with a certificate, and none without.
	ClientCertOrigins []string

	// SecretHeadersFile holds sets of headers for receivers that need an API key, under the names that messages give
	// (outbox.Options.SecretHeaders). A set begins with [NAME]. Below it, lines of origin = https://HOST[:PORT] say
	// where it may be sent, and lines of NAME: VALUE are its headers. # begins a comment line. The file is read again when it changes;
	// a faulty change has no effect. When empty, messages that name a set wait.
	SecretHeadersFile string

	// Keys are the key sets that messages are signed with. When nil, messages that name no key set are sent unsigned,
	// and those that name one wait.
	Keys Keyring

	// EventsURL is where an operator gets events: a message died, a circuit breaker opened or closed, an endpoint was
	// paused or resumed, something was set aside, a worker is missing. An event is a message of this outbox, noted in the
	// transaction that causes it, delivered at least once and always signed: with the key set called events, or else with the
	// default one. An endpoint gets at most one event of a kind in five minutes, with a count. No row holds the URL. It may
	// be http, and have any address, whatever AllowHTTP, AllowedCIDRs and AllowedPorts say; that is true for events only. ProxyURL
	// applies to it, too. All workers of an outbox should share it. It needs Keys, and tables of version 9. None when empty: then
	// nothing is noted, and events that wait are not sent. docs/events.md shows what is sent.
	EventsURL string

	// OnEvent is called with each event that this worker causes, once it is recorded, and with each single death: deaths are
	// never combined. Operators' commands are not among the events. Calls come one at a time, on a goroutine of their own. At most 1024 wait;
	// further ones are dropped and counted (outbox_dropped_total). A panic is logged, and the calls go on. A stop waits 1 s
	// for the remaining calls. A transaction whose answer was lost causes no call. None when nil.
	OnEvent func(Event)

	// OnAttempt is called after each attempt, before its result is recorded, in the same way as OnEvent and with a queue of its own.
	// It is not called for attempts to send events. None when nil.
	OnAttempt func(Attempt)

	// Retention is how long a delivered message and its attempts are kept, counted from its writing. 168 h when 0;
	// from 1 s.
	Retention time.Duration

	// DeadRetention is how long a dead message is kept, counted from its death. 720 h when 0; from 1 s.
	DeadRetention time.Duration

	// SampleInterval is how often one of the workers measures the state of the outbox: a row of outbox.sample, which metrics
	// and status show, and which is kept for 30 days. 30 s when 0; from 1 s. All workers should share it.
	SampleInterval time.Duration

	// ShutdownTimeout is how long a stop takes at most, whatever the database does; up to 2 s more are for closing connections.
	// A quarter of it, 5 s at most, is kept for recording answers: requests in flight may go on for the rest. Then they
	// are torn down and their messages released at once, not counted as attempts. 20 s when 0: requests have 15 s, the default
	// of DeliveryTimeout, and everything ends within the 30 s that Kubernetes gives by default.
	ShutdownTimeout time.Duration

	// Logger receives what happens; slog.Default() when nil. A fault that repeats is logged at once, and then
	// once a minute with a count.
	Logger *slog.Logger

	// LogDeliveries logs each attempt, at the level info or higher. When false, deliveries are logged at the level
	// debug, and faults as described at Logger.
	LogDeliveries bool

	// MeterProvider gets the worker's metrics, through OpenTelemetry's API; DESIGN.md (Metrics) lists them.
	// Nothing is measured when nil. The callbacks of the metrics end with Run.
	MeterProvider metric.MeterProvider

	// TracerProvider gets a span for each attempt, through OpenTelemetry's API. traceparent and tracestate of each request then name
	// that span (hook.WebhookConfig.Traceparent). The first attempt continues the writer's trace; a retry has
	// a trace of its own, with a link to the writer's span. A message whose writer's span was not sampled has no spans.
	// Wrap the provider's sampler in linksampler.New, so that retries are sampled as their writers were. When nil, there are
	// no spans, and each request names the writer's span.
	TracerProvider trace.TracerProvider

	// MetricsEndpoints are the endpoints, as https://HOST[:PORT], whose attempts are also measured separately, with the label
	// endpoint; MetricsEndpointsMax at most, because each has series of its own. No other label names an endpoint. None when empty.
	MetricsEndpoints []string

	// UserAgent of the requests; "Epilogue" when empty.
	UserAgent string

	// Resolver looks up the hosts of endpoints; the process's own when nil. Each address that it returns is still checked.
	Resolver *net.Resolver

	// DialControl is called for each connection to an endpoint, as net.Dialer.Control: after the guard has allowed its address and
	// before it is connected. It can bind the connection to an interface, or refuse it. It cannot allow what the guard refuses.
	// Its error ends the attempt. Not called for a proxy's connection. None when nil.
	DialControl func(network, address string, c syscall.RawConn) error

	// TLSConfig is the base of the handshakes with endpoints: roots, versions, curves, further verification. The worker itself sets
	// ServerName, NextProtos, the session cache, the client certificate, and MinVersion to at least TLS 1.2. With RootCAs
	// in it, CAFile must be empty; InsecureSkipVerify without VerifyConnection is refused. Not changed after New. The worker's own
	// when nil.
	TLSConfig *tls.Config

	instruments *instruments.Maker // of MeterProvider

	drainTurn  time.Duration // see the constant
	eventEvery time.Duration // see the constant
}

// LeaseMargin is how much longer than a request's timeout a lease must be, for the time before the request and after its answer.
const LeaseMargin = 5 * time.Second

// LeaseMax is the longest lease. A lease with more than twice that left belongs to no worker, and its row is claimed.
const LeaseMax = postgres.LeaseMax

// DefaultRetryJitter is ±20 %.
const DefaultRetryJitter = 0.2

// DefaultRetrySchedule returns the waits of ten attempts over about 75 hours (design, default retry policy).
func DefaultRetrySchedule() []time.Duration {
	return []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// DefaultRetryStatuses returns 408, 425, 429 and 500 to 599 (design, default retry policy).
func DefaultRetryStatuses() []int {
	statuses := []int{http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests}
	for status := 500; status <= 599; status++ {
		statuses = append(statuses, status)
	}
	return statuses
}

// Keyring holds named key sets.
type Keyring interface {
	// Keys returns the named set, or the default one for "". ok is false when there is no such set: a message that
	// names it waits; one that names none is sent unsigned if there is no default set.
	Keys(name string) (keys webhook.Keys, ok bool)
}

// WithDefaults returns the configuration with every zero replaced by its default.
func (c Config) WithDefaults() Config {
	orDuration := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	if c.Schema == "" {
		c.Schema = outbox.DefaultSchema
	}
	orDuration(&c.PollInterval, time.Second)
	orDuration(&c.Lease, 30*time.Second)
	orDuration(&c.DeliveryTimeout, 15*time.Second)
	if c.OpenAfter == 0 {
		c.OpenAfter = 10
	}
	orDuration(&c.OpenFor, 5*time.Second)
	orDuration(&c.OpenForMax, 5*time.Minute)
	orDuration(&c.LookupTimeout, 5*time.Second)
	orDuration(&c.ConnectTimeout, 5*time.Second)
	orDuration(&c.TLSTimeout, 5*time.Second)
	orDuration(&c.HeaderTimeout, c.DeliveryTimeout)
	orDuration(&c.RetryAfterMax, time.Hour)
	orDuration(&c.Retention, 7*24*time.Hour)
	orDuration(&c.DeadRetention, 30*24*time.Hour)
	orDuration(&c.SampleInterval, 30*time.Second)
	orDuration(&c.ShutdownTimeout, 20*time.Second)
	orDuration(&c.drainTurn, drainTurn)
	orDuration(&c.eventEvery, eventEvery)
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 256
	}
	if c.EndpointMaxInFlight == 0 {
		c.EndpointMaxInFlight = min(64, max(c.MaxInFlight, 1))
	}
	if c.MaxBytesInFlight == 0 {
		c.MaxBytesInFlight = 64 << 20
	}
	if c.RetrySchedule == nil {
		c.RetrySchedule = DefaultRetrySchedule()
	}
	if c.RetryStatuses == nil {
		c.RetryStatuses = DefaultRetryStatuses()
	}
	if c.RetryJitter == nil {
		jitter := DefaultRetryJitter
		c.RetryJitter = &jitter
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.UserAgent == "" {
		c.UserAgent = "Epilogue"
	}
	return c
}

// FieldFault is what is wrong with one field of a [Config].
type FieldFault = fieldfault.Fault

// FieldFaults is the error of [Config.Validate]: every fault of the configuration. errors.As finds it in an error of [New] too,
// where the field MaxConns is that of the pool's configuration.
type FieldFaults = fieldfault.Faults

// Validate reports every fault of the configuration at once, as [FieldFaults], the zero values taken for their defaults. A
// relation of two fields is not checked when one of them is faulty by itself.
func (c Config) Validate() error { return c.faults().Err() }

func (c Config) faults() FieldFaults {
	given := c
	c = c.WithDefaults()
	var faults FieldFaults
	check := faults.Check
	faults.Add("Schema", outbox.CheckSchema(c.Schema))
	check(c.Pooler == "" || slices.Contains(session.Poolers, session.Pooler(c.Pooler)), "Pooler", "is %.20q; want one of %v", c.Pooler, session.Poolers)
	check(len(c.Name) <= 64, "Name", "has %d bytes; want at most 64", len(c.Name))
	check(c.PollInterval >= 10*time.Millisecond, "PollInterval", "is %v; want 10ms or more", c.PollInterval)
	check(c.DeliveryTimeout >= 10*time.Millisecond, "DeliveryTimeout", "is %v; want 10ms or more", c.DeliveryTimeout)
	check(c.Lease >= c.DeliveryTimeout+LeaseMargin, "Lease", "is %v; want at least %s (%v) + %v, so that it outlives a request",
		c.Lease, fieldfault.Name("DeliveryTimeout"), c.DeliveryTimeout, LeaseMargin)
	check(c.Lease <= LeaseMax, "Lease", "is %v; want at most %v", c.Lease, LeaseMax)
	if check(c.MaxInFlight >= 1 && c.MaxInFlight <= 10_000, "MaxInFlight", "is %d; want 1 to 10000", c.MaxInFlight) {
		check(c.EndpointMaxInFlight >= 1 && c.EndpointMaxInFlight <= c.MaxInFlight, "EndpointMaxInFlight", "is %d; want 1 to %s (%d)",
			c.EndpointMaxInFlight, fieldfault.Name("MaxInFlight"), c.MaxInFlight)
	}
	check(c.MaxBytesInFlight >= 1<<20, "MaxBytesInFlight", "is %d; want 1048576 or more", c.MaxBytesInFlight)
	check(*c.RetryJitter >= 0 && *c.RetryJitter <= 1, "RetryJitter", "is %v; want 0 to 1", *c.RetryJitter)
	check(len(c.RetrySchedule) <= 100, "RetrySchedule", "has %d waits; want at most 100", len(c.RetrySchedule))
	check(!slices.ContainsFunc(c.RetrySchedule, func(d time.Duration) bool { return d < 0 || d > 30*24*time.Hour }),
		"RetrySchedule", "is %v; want waits from 0 to 720h", c.RetrySchedule)
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"LookupTimeout", c.LookupTimeout}, {"ConnectTimeout", c.ConnectTimeout}, {"TLSTimeout", c.TLSTimeout}, {"HeaderTimeout", c.HeaderTimeout}} {
		checked := t.name == "HeaderTimeout" && given.HeaderTimeout == 0 // it is DeliveryTimeout then
		check(checked || t.d >= 10*time.Millisecond, t.name, "is %v; want 10ms or more", t.d)
	}
	for _, status := range c.RetryStatuses {
		check(status >= 300 && status <= 599 && status != http.StatusGone, "RetryStatuses", "holds %d; want 300 to 599, and not 410", status)
	}
	if t := c.TLSConfig; t != nil {
		check(!t.InsecureSkipVerify || t.VerifyConnection != nil, "TLSConfig", "has InsecureSkipVerify and no VerifyConnection; then anybody can answer for an endpoint")
		check(t.RootCAs == nil || c.CAFile == "", "TLSConfig", "has RootCAs, and %s is set too; put the certificates of the file into the pool", fieldfault.Name("CAFile"))
	}
	check((c.ClientCertFile == "") == (c.ClientKeyFile == ""), "ClientCertFile", "and %s belong together; one is empty", fieldfault.Name("ClientKeyFile"))
	check((c.ClientCertFile == "") == (len(c.ClientCertOrigins) == 0), "ClientCertOrigins", "are the origins that %s is shown to; one of the two is empty", fieldfault.Name("ClientCertFile"))
	faults.Add("ProxyURL", delivery.CheckProxyURL(c.ProxyURL))
	if c.EventsURL != "" {
		_, err := outbox.CheckURL(c.EventsURL)
		faults.Add("EventsURL", err)
		check(c.Keys != nil, "EventsURL", "is set and %s is not; events are always signed", fieldfault.Name("Keys"))
	}
	check(c.OpenAfter >= 1 && c.OpenAfter <= 1_000_000, "OpenAfter", "is %d; want 1 to 1000000", c.OpenAfter)
	check(c.OpenFor >= 10*time.Millisecond, "OpenFor", "is %v; want 10ms or more", c.OpenFor)
	check(c.OpenForMax >= c.OpenFor, "OpenForMax", "is %v; want at least %s (%v)", c.OpenForMax, fieldfault.Name("OpenFor"), c.OpenFor)
	check(c.RetryAfterMax > 0, "RetryAfterMax", "is %v; want more than 0", c.RetryAfterMax)
	check(c.Retention >= time.Second, "Retention", "is %v; want 1s or more", c.Retention)
	check(c.DeadRetention >= time.Second, "DeadRetention", "is %v; want 1s or more", c.DeadRetention)
	check(c.SampleInterval >= time.Second, "SampleInterval", "is %v; want 1s or more", c.SampleInterval)
	faults.Add("MetricsEndpoints", checkMetricsEndpoints(c.MetricsEndpoints))
	check(c.ShutdownTimeout > 0, "ShutdownTimeout", "is %v; want more than 0", c.ShutdownTimeout)
	return faults
}
