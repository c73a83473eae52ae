package main

import (
	"log/slog"
	"reflect"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker"
)

// envPrefix begins the name of every variable.
const envPrefix = "OUTBOX_"

// settings is the only list of variables: go-envconfig, the texts of faults and the command config use it. A field with the
// name of one in worker.Config sets that one; the defaults and bounds are those of the worker and are not repeated here. In the
// tag, default describes an unset variable where the default of the worker has no value to show.
type settings struct {
	DatabaseURL databaseURL `env:"DATABASE_URL" default:"none: it must be set" help:"where the outbox lives: postgres://USER:PASSWORD@HOST:5432/DATABASE, or key=value settings; pool_max_conns in it bounds the worker's connections"`
	Schema      string      `env:"SCHEMA" help:"schema of the outbox's tables, and of River's beside them"`
	Pooler      pooler      `env:"POOLER" default:"auto" help:"what is between the worker and the database: none; session or transaction, for a pooler in that mode (with transaction, no setting outlives a transaction); auto detects a pooler, and treats it as one in transaction mode"`
	Name        string      `env:"NAME" default:"the host's name" help:"name of this process in leases, attempts and logs; a random suffix is added"`

	PollInterval        time.Duration `env:"POLL_INTERVAL" help:"how often an idle worker scans for due messages when no wake arrives; from 10ms"`
	Lease               time.Duration `env:"LEASE" help:"how long a claimed message belongs to this worker, and so how long it waits after a crash; at least OUTBOX_DELIVERY_TIMEOUT + 5s, at most 24h"`
	DeliveryTimeout     time.Duration `env:"DELIVERY_TIMEOUT" help:"bound of one request, from the lookup of its host to the last byte read; from 10ms"`
	LookupTimeout       time.Duration `env:"LOOKUP_TIMEOUT" help:"bound of the lookup of a request's host; from 10ms"`
	ConnectTimeout      time.Duration `env:"CONNECT_TIMEOUT" help:"bound of the connection to its addresses; from 10ms"`
	TLSTimeout          time.Duration `env:"TLS_TIMEOUT" help:"bound of the TLS handshake; from 10ms"`
	HeaderTimeout       time.Duration `env:"HEADER_TIMEOUT" help:"bound of the wait for the first byte of the answer; as OUTBOX_DELIVERY_TIMEOUT by default"`
	MaxInFlight         int           `env:"MAX_IN_FLIGHT" help:"requests in flight at once in this process; 1 to 10000"`
	EndpointMaxInFlight int           `env:"ENDPOINT_MAX_IN_FLIGHT" help:"the same per endpoint; at most OUTBOX_MAX_IN_FLIGHT, which is the default where that is less"`
	MaxBytesInFlight    int           `env:"MAX_BYTES_IN_FLIGHT" help:"bytes of bodies over 64 KiB that are held at once; a message whose body finds no room waits, which is no attempt; from 1048576"`

	RetrySchedule schedule      `env:"RETRY_SCHEDULE" help:"waits after failed attempts, separated by commas; there is one more attempt than there are waits; none: a single attempt"`
	RetryJitter   *float64      `env:"RETRY_JITTER,noinit" help:"spread of each wait in both directions, as a fraction; 0 to 1"`
	RetryAfterMax time.Duration `env:"RETRY_AFTER_MAX" help:"the longest Retry-After of an endpoint that is respected"`

	RetryStatuses statuses `env:"RETRY_STATUSES" help:"statuses that are tried again, separated by commas, ranges like 500-599; none: no status is; never 2xx and 410"`

	OpenAfter  int           `env:"OPEN_AFTER" help:"failures in a row that open a circuit breaker: nothing is sent there for a while, and no attempt is counted; 1 to 1000000"`
	OpenFor    time.Duration `env:"OPEN_FOR" help:"how long, the first time; twice as long each time, until the answer to a single message closes it"`
	OpenForMax time.Duration `env:"OPEN_FOR_MAX" help:"the longest"`

	AllowHTTP      bool     `env:"ALLOW_HTTP" help:"deliver to http:// URLs too; without it they are refused for good"`
	AllowedCIDRs   networks `env:"ALLOWED_CIDRS" default:"none" help:"networks to allow besides the public ones, separated by commas, like 10.0.0.0/8; link-local stays blocked"`
	AllowedPorts   ports    `env:"ALLOWED_PORTS" default:"any" help:"the only ports that are delivered to, separated by commas"`
	ProxyURL       proxyURL `env:"PROXY_URL" default:"none" help:"egress proxy: http://, https:// (CONNECT) or socks5://, with USER:PASSWORD@ if it needs them; where it connects to cannot be checked here"`
	CAFile         string   `env:"CA_FILE" default:"none" help:"certificates, in PEM, that are trusted besides the system's; read again on SIGHUP"`
	ClientCertFile string   `env:"CLIENT_CERT_FILE" default:"none" help:"certificate, in PEM, shown to those of OUTBOX_CLIENT_CERT_ORIGINS that ask for one; read again when it changes"`
	ClientKeyFile  string   `env:"CLIENT_KEY_FILE" default:"none" help:"its key, in PEM"`

	ClientCertOrigins origins `env:"CLIENT_CERT_ORIGINS" default:"none" help:"the only origins that the client certificate is shown to, separated by commas, as https://HOST"`
	SecretHeadersFile string  `env:"SECRET_HEADERS_FILE" default:"none" help:"a file of header sets that messages name: [NAME], then lines of origin = https://HOST, the only ones that it is sent to, and of HEADER: VALUE; read again when it changes; a secret"`

	SigningKeys     signingKeys `env:"SIGNING_KEYS" default:"none" help:"keys to sign with: name=key[,key…] for each set, with white space or ; between; the set called default signs messages that name none; a secret"`
	SigningKeysFile keyFile     `env:"SIGNING_KEYS_FILE" default:"none" help:"a file of further sets, a line for each: name = key [key…]; # begins a comment; read again when it changes"`

	EventsURL eventsURL `env:"EVENTS_URL" default:"none" help:"where an operator gets events, as messages of the outbox: a message died, a circuit breaker opened or closed, an endpoint was paused or resumed, something was set aside, a worker is missing (docs/events.md); always signed, with the key set called events or else the default one; it may be http and have any address, whatever other URLs may; the same for all workers; may hold a secret"`

	Retention       time.Duration `env:"RETENTION" help:"how long a delivered message is kept, from its writing; from 1s"`
	DeadRetention   time.Duration `env:"DEAD_RETENTION" help:"how long a dead message is kept, from its death; from 1s"`
	SampleInterval  time.Duration `env:"SAMPLE_INTERVAL" help:"how often one of the workers measures the outbox, for /metrics, status and check; from 1s"`
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" help:"how long a stop takes after SIGTERM, whatever the database does, and at most 2 s more; requests in flight may go on for three quarters of it (all but 5 s, when it is longer than 20 s); the others are released, not counted as attempts. Kubernetes kills after 30 s (terminationGracePeriodSeconds)"`

	AdminAddr        adminAddr `env:"ADMIN_ADDR,default=127.0.0.1:9464" help:"where /healthz, /readyz, /metrics and /.well-known/jwks.json are answered, as HOST:PORT; off: nowhere"`
	MetricsEndpoints origins   `env:"METRICS_ENDPOINTS" default:"none" help:"endpoints whose attempts are also measured separately, with the label endpoint, separated by commas, as https://HOST[:PORT]; at most 50"`
	LogLevel         logLevel  `env:"LOG_LEVEL,default=info" help:"debug, info, warn or error"`
	LogDeliveries    bool      `env:"LOG_DELIVERIES" help:"a line for each attempt; without it, deliveries are logged at the level debug, and a repeated fault once a minute with a count"`
	LogFormat        logFormat `env:"LOG_FORMAT,default=text" help:"text or json; logs go to stderr"`

	ReceiveKeys verifyingKeys `env:"RECEIVE_KEYS" default:"none" help:"for the command receive: keys (whsec_… or whpk_…), separated by commas; one of them must have signed each request; a secret"`
}

// worker returns the worker's share.
func (s settings) worker(logger *slog.Logger) worker.Config {
	var c worker.Config
	copyNamed(&c, s)
	c.Logger = logger
	return c
}

// inForce returns the settings with the worker's defaults filled in.
func (s settings) inForce() settings {
	copyNamed(&s, s.worker(nil).WithDefaults())
	return s
}

// copyNamed copies the fields of the struct from into the fields of the same name of the struct to.
func copyNamed(to, from any) {
	target, source := reflect.ValueOf(to).Elem(), reflect.ValueOf(from)
	for i := range target.NumField() {
		field := target.Type().Field(i)
		if value := source.FieldByName(field.Name); value.IsValid() {
			target.Field(i).Set(value.Convert(field.Type))
		}
	}
}

// variable is one row of what the command config shows.
type variable struct {
	Name    string `json:"name"`
	Meaning string `json:"meaning"`
	Default string `json:"default"`
	Value   string `json:"value"` // in force, secrets redacted; nothing when faulty
	Set     bool   `json:"set"`
	Fault   string `json:"fault,omitempty"`
}

// variables lists every variable with the value in force.
func (c loaded) variables() []variable {
	force, defaults := reflect.ValueOf(c.settings.inForce()), reflect.ValueOf(defaultSettings())
	var list []variable
	for i, f := range reflect.VisibleFields(force.Type()) {
		v := variable{
			Name: variableName(f), Meaning: f.Tag.Get("help"), Default: f.Tag.Get("default"),
			Value: valueText(force.Field(i)),
		}
		_, v.Set = c.given[v.Name]
		if v.Default == "" {
			v.Default = valueText(defaults.Field(i))
		}
		for _, fault := range c.faults {
			if fault.variable == v.Name {
				v.Fault, v.Value = fault.text, ""
			}
		}
		list = append(list, v)
	}
	return list
}

// defaultSettings are the settings of an empty environment.
func defaultSettings() settings { return loadSettings(nil).settings.inForce() }
