package delivery

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/seed-abbacb8b/epilogue/internal/fieldfault"
	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// Config configures a [Sender]. The worker sets and validates every field: there are no defaults here.
type Config struct {
	// Timeout bounds one attempt, from the lookup of the host to the last byte that is read of the answer. A message may
	// ask for less.
	Timeout time.Duration

	// LookupTimeout, ConnectTimeout, TLSTimeout and HeaderTimeout bound the phases of an attempt: the lookup of the
	// host, the connection to its addresses, the TLS handshake, and the wait for the answer's headers once the request is
	// sent. A HeaderTimeout that is not shorter than Timeout has no effect.
	LookupTimeout, ConnectTimeout, TLSTimeout, HeaderTimeout time.Duration

	// MaxInFlight and EndpointMaxInFlight are how many calls of Send the caller makes at once, in all and per endpoint.
	// They size the pool of idle connections. EndpointMaxInFlight also bounds the connections to one endpoint.
	MaxInFlight, EndpointMaxInFlight int

	// AllowHTTP allows http:// URLs. Without it they are blocked.
	AllowHTTP bool

	// AllowedCIDRs are networks that may be dialled although they are not public. Link-local addresses, multicast and the
	// metadata services of clouds stay blocked whatever is listed.
	AllowedCIDRs []netip.Prefix

	// AllowedPorts are the only ports that may be dialled; any port when empty.
	AllowedPorts []uint16

	// DeniedAddrs are blocked whatever AllowedCIDRs says: the addresses that this process itself listens on. An unspecified
	// address stands for every address of this host.
	DeniedAddrs []netip.AddrPort

	// Services are hosts and ports that the worker depends on, the database for one. They are blocked whatever AllowedCIDRs
	// says, and so is the proxy.
	Services []Service

	// ProxyURL is the egress proxy: http or https (CONNECT), or socks5, with user and password if the proxy wants them.
	// None when empty, whatever the environment says.
	ProxyURL string

	// CAFile holds certificates in PEM that are trusted in addition to the system's roots. None when empty.
	CAFile string

	// ClientCertFile and ClientKeyFile hold, in PEM, the certificate and the key that are shown to those endpoints of
	// ClientCertOrigins that ask for one. They are read again when they change. None when ClientCertFile is empty.
	ClientCertFile, ClientKeyFile string
	ClientCertOrigins             []string

	// SecretHeadersFile holds sets of secret headers, each with the origins that it may be sent to (parseHeaderSets). It is read
	// again when it changes. None when empty: a message that names a set waits.
	SecretHeadersFile string

	// EventsURL is where events go, and nothing else: whatever address it has is dialled. None when empty: events wait.
	EventsURL string

	// Keys are the key sets that messages are signed with. When nil, a message that names no key set is sent unsigned,
	// and one that names a key set waits.
	Keys Keyring

	// UserAgent is the User-Agent header of every request.
	UserAgent string

	// Instruments make the metrics; nothing is counted when nil.
	Instruments *instruments.Maker

	// Tracer begins the span of each attempt. When nil, each request carries the writer's context.
	Tracer trace.Tracer

	// Resolver looks hosts up; net.DefaultResolver when nil.
	Resolver *net.Resolver

	// DialControl is called after the guard, for each connection to an endpoint; none when nil.
	DialControl func(network, address string, c syscall.RawConn) error

	// TLSConfig is the base of the configuration of handshakes with endpoints; none when nil.
	TLSConfig *tls.Config
}

// Keyring holds named key sets.
type Keyring interface {
	// Keys returns the key set of that name, or the default one for "". ok is false when there is no such key set.
	Keys(name string) (keys webhook.Keys, ok bool)
}

// The pool keeps idle connections for more endpoints than are in use at once, because a new connection costs more than a
// request. An idle connection takes about 20 KiB.
const (
	idleConnsPerRequest = 4
	idleConnsMin        = 1024
	idleConnTimeout     = 90 * time.Second
)

// Sender makes attempts. Its methods may be called by several goroutines at once. Create it with [New].
type Sender struct {
	transport *http.Transport // used without an http.Client, so it follows no redirect and keeps no cookie
	fresh     *http.Transport // the same without keep-alive: each of its requests has a connection of its own
	timeout   time.Duration
	allowHTTP bool
	userAgent string
	keys      Keyring
	tls       *clientTLS
	secrets   *headerSets // nil without any
	targets   *targets
	metrics   *metrics
	tracer    trace.Tracer // nil without tracing
	events    *eventSender // nil without a URL for events
}

// New returns a Sender, or an error that begins with the field of the configuration that is wrong. It reads the
// certificate files and opens no connection.
func New(c Config) (*Sender, error) {
	d, err := newDialer(c)
	if err != nil {
		return nil, err
	}
	secrets, err := openHeaderSets(c.SecretHeadersFile)
	if err != nil {
		return nil, fieldfault.Wrap("SecretHeadersFile", err)
	}
	fresh := newTransport(c, d)
	fresh.DisableKeepAlives = true
	s := &Sender{
		transport: newTransport(c, d), fresh: fresh, timeout: c.Timeout, allowHTTP: c.AllowHTTP, userAgent: c.UserAgent, keys: c.Keys, tls: d.tls,
		secrets: secrets, targets: &targets{}, metrics: d.metrics, tracer: c.Tracer,
	}
	if s.events, err = newEventSender(c, d, s); err != nil {
		return nil, fieldfault.Wrap("EventsURL", err)
	}
	return s, nil
}

func newTransport(c Config, d *dialer) *http.Transport {
	t := &http.Transport{
		Proxy:                  nil, // a proxy of the environment would dial addresses that the guard blocks
		DialContext:            d.dial,
		DialTLSContext:         d.dialTLS,
		ForceAttemptHTTP2:      true,
		HTTP2:                  http2Config(c),
		MaxIdleConns:           max(idleConnsPerRequest*c.MaxInFlight, idleConnsMin),
		MaxIdleConnsPerHost:    c.EndpointMaxInFlight,
		MaxConnsPerHost:        c.EndpointMaxInFlight, // without it, a dial that was no longer needed would be an extra connection
		IdleConnTimeout:        idleConnTimeout,
		MaxResponseHeaderBytes: responseHeaderBytes,
		DisableCompression:     true,
	}
	if c.HeaderTimeout < c.Timeout { // otherwise Timeout ends the attempt, and is the one to be named
		t.ResponseHeaderTimeout = c.HeaderTimeout
	}
	return t
}

// http2Config bounds what HTTP/2 adds. A connection carries all requests to its endpoint: without pings, one whose other end
// has vanished is used again and again, and every request on it times out. The transport would buffer 4 MiB of each answer,
// whether or not anybody reads it.
func http2Config(c Config) *http.HTTP2Config {
	return &http.HTTP2Config{
		SendPingTimeout: c.Timeout, PingTimeout: max(c.Timeout/3, 10*time.Millisecond),
		MaxReceiveBufferPerStream: responseBytesRead, MaxReceiveBufferPerConnection: 4 * responseBytesRead,
	}
}

// Close closes the idle connections. Call it after the last Send has returned.
func (s *Sender) Close() {
	s.transport.CloseIdleConnections()
	s.fresh.CloseIdleConnections()
	s.events.close()
}

// Reread reads the files of certificates and headers again, and returns the result for each. Open connections stay as they
// are.
func (s *Sender) Reread() []Reread {
	files := s.tls.reread()
	if s.secrets != nil {
		files = append(files, Reread{"SecretHeadersFile", s.secrets.reread()})
	}
	return files
}

// Send makes one attempt and returns how it ended.
//
// When ctx ends before the attempt does, the attempt is torn down. Unless its class is then ClassDelivered or ClassStatus,
// the answer says nothing about the endpoint, and the caller must not record it.
func (s *Sender) Send(ctx context.Context, m Message) Answer {
	a := Answer{StartedAt: time.Now()}
	p, err := decode(m)
	in := begin(s.tracer, m, p.options)
	defer func() { s.end(in, m, p.options, a) }()
	if err != nil {
		a.Class, a.Err = ClassBlocked, shortText(err.Error())
		return a
	}
	timeout := s.timeout
	if p.options.Timeout > 0 {
		timeout = min(timeout, p.options.Timeout)
	}
	t := newTrip(ctx, timeout)
	defer t.stop()
	t.metrics = s.metrics
	if m.Event {
		s.events.attemptEvent(t, m, p, in, &a)
	} else {
		s.attempt(t, m, p, in, &a)
	}
	a.Duration = time.Since(a.StartedAt)
	return a
}

// attempt builds the request, sends it and reads the answer into a.
func (s *Sender) attempt(t *trip, m Message, p parts, in span, a *Answer) {
	if !s.allowHTTP && isHTTP(m.URL) {
		a.Class, a.Err = ClassBlocked, errHTTP.Error()
		return
	}
	req, note, err := s.request(t.traced(), m, p, in, a.StartedAt)
	a.Note = note
	if err != nil {
		a.unsent(err)
		return
	}
	resp, err := s.roundTrip(t, req)
	if err != nil {
		a.fail(t, err)
		return
	}
	a.read(t, resp)
	_ = resp.Body.Close()
	t.conn.answered(t.use, resp.Header)
}

// unsent says why no request could be made: the worker itself lacks something, or the message itself is at fault.
func (a *Answer) unsent(err error) {
	var (
		noKey     unknownKeyError
		noHeaders unknownHeadersError
	)
	if errors.As(err, &noKey) || errors.As(err, &noHeaders) {
		a.WaitsFor = shortText(err.Error())
		return
	}
	a.Class, a.Err = ClassBlocked, shortText(err.Error())
}

// newDialer assembles what the Sender connects with.
func newDialer(c Config) (*dialer, error) {
	toEndpoints, err := newClientTLS(c)
	if err != nil {
		return nil, err
	}
	through, err := newProxy(c.ProxyURL, c.ConnectTimeout, toEndpoints.roots)
	if err != nil {
		return nil, fieldfault.Wrap("ProxyURL", err)
	}
	resolver := c.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	services := slices.Clone(c.Services)
	if s, ok := serviceOf(c.ProxyURL); ok {
		services = append(services, s)
	}
	allowed := newGuard(c.AllowedCIDRs, c.DeniedAddrs, c.AllowedPorts)
	allowed.reserved = newReserved(resolver, services)
	return &dialer{
		resolver: resolver, guard: allowed, more: c.DialControl, proxy: through, tls: toEndpoints,
		lookupTimeout: c.LookupTimeout, connectTimeout: c.ConnectTimeout, tlsTimeout: c.TLSTimeout,
		metrics: newMetrics(c.Instruments),
	}, nil
}
