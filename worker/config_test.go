package worker

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

func TestTheZeroConfigurationIsValid(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	if err := (Config{}).WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
}

func fraction(f float64) *float64 { return &f }

// faults are configurations with one fault each, by the field that the error must begin with.
var faults = []struct {
	field  string
	change func(*Config)
}{
	{"Schema", func(c *Config) { c.Schema = "Outbox" }},
	{"Schema", func(c *Config) { c.Schema = "public" }},
	{"Schema", func(c *Config) { c.Schema = "a; DROP TABLE b" }},
	{"Name", func(c *Config) { c.Name = strings.Repeat("x", 65) }},
	{"PollInterval", func(c *Config) { c.PollInterval = 9 * time.Millisecond }},
	{"PollInterval", func(c *Config) { c.PollInterval = -1 }},
	{"Lease", func(c *Config) { c.Lease = LeaseMax + 1 }},
	{"DeliveryTimeout", func(c *Config) { c.DeliveryTimeout = 9 * time.Millisecond }},
	{"DeliveryTimeout", func(c *Config) { c.DeliveryTimeout = -time.Second }},
	{"Lease", func(c *Config) { c.Lease = 15*time.Second + LeaseMargin - 1 }},            // of the default timeout
	{"Lease", func(c *Config) { c.DeliveryTimeout = 30*time.Second - LeaseMargin + 1 }},  // of the default lease
	{"Lease", func(c *Config) { c.Lease, c.DeliveryTimeout = time.Minute, time.Minute }}, // of neither
	{"Lease", func(c *Config) { c.Lease = -time.Hour }},
	{"MaxInFlight", func(c *Config) { c.MaxInFlight = -1 }},
	{"MaxInFlight", func(c *Config) { c.MaxInFlight = 10_001 }},
	{"EndpointMaxInFlight", func(c *Config) { c.EndpointMaxInFlight = -1 }},
	{"EndpointMaxInFlight", func(c *Config) { c.EndpointMaxInFlight = 257 }}, // more than MaxInFlight's default
	{"EndpointMaxInFlight", func(c *Config) { c.MaxInFlight, c.EndpointMaxInFlight = 8, 9 }},
	{"RetrySchedule", func(c *Config) { c.RetrySchedule = []time.Duration{time.Second, -1} }},
	{"RetrySchedule", func(c *Config) { c.RetrySchedule = []time.Duration{30*24*time.Hour + 1} }},
	{"RetrySchedule", func(c *Config) { c.RetrySchedule = make([]time.Duration, 101) }},
	{"RetryJitter", func(c *Config) { c.RetryJitter = fraction(-0.1) }},
	{"RetryJitter", func(c *Config) { c.RetryJitter = fraction(1.1) }},
	{"RetryStatuses", func(c *Config) { c.RetryStatuses = []int{503, 204} }},
	{"RetryStatuses", func(c *Config) { c.RetryStatuses = []int{410} }},
	{"OpenAfter", func(c *Config) { c.OpenAfter = -1 }},
	{"OpenFor", func(c *Config) { c.OpenFor = 9 * time.Millisecond }},
	{"OpenForMax", func(c *Config) { c.OpenForMax = -1 }},
	{"LookupTimeout", func(c *Config) { c.LookupTimeout = -1 }},
	{"ConnectTimeout", func(c *Config) { c.ConnectTimeout = -1 }},
	{"TLSTimeout", func(c *Config) { c.TLSTimeout = -1 }},
	{"HeaderTimeout", func(c *Config) { c.HeaderTimeout = -1 }},
	{"ClientCertFile", func(c *Config) { c.ClientKeyFile = "key.pem" }},
	{"ClientCertOrigins", func(c *Config) { c.ClientCertOrigins = []string{"https://a.example"} }},
	{"ProxyURL", func(c *Config) { c.ProxyURL = "ftp://proxy.test" }},
	{"RetryAfterMax", func(c *Config) { c.RetryAfterMax = -1 }},
	{"Retention", func(c *Config) { c.Retention = time.Second - 1 }},
	{"DeadRetention", func(c *Config) { c.DeadRetention = time.Second - 1 }},
	{"MetricsEndpoints", func(c *Config) { c.MetricsEndpoints = []string{"https://a.example/hook"} }},
	{"MetricsEndpoints", func(c *Config) { c.MetricsEndpoints = []string{"https://a.example", "https://a.example"} }},
	{"MetricsEndpoints", func(c *Config) { c.MetricsEndpoints = []string{"a.example"} }},
	{"MetricsEndpoints", func(c *Config) { c.MetricsEndpoints = endpointsNamed(MetricsEndpointsMax + 1) }},
	{"ShutdownTimeout", func(c *Config) { c.ShutdownTimeout = -1 }},
}

func endpointsNamed(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("https://e%d.example", i))
	}
	return list
}

func TestEveryFaultOfTheConfigurationIsNamedByItsField(t *testing.T) {
	t.Parallel()
	for i, f := range faults {
		var c Config
		f.change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), f.field) {
			t.Errorf("case %d: Validate returns %[3]v; want an error that begins with %[2]s", i, f.field, err)
		}
	}
}

func TestAFieldThatIsFaultyByItselfIsOneFault(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{MaxInFlight: -1}, {DeliveryTimeout: -1}, {OpenFor: -1}} {
		var faults FieldFaults
		if err := c.Validate(); !errors.As(err, &faults) || len(faults) != 1 {
			t.Errorf("Validate returns %v, want one fault", err)
		}
	}
}

func TestAConfigurationAtItsBoundsIsValid(t *testing.T) {
	t.Parallel()
	for i, c := range []Config{
		{PollInterval: 10 * time.Millisecond, DeliveryTimeout: 10 * time.Millisecond, Lease: 10*time.Millisecond + LeaseMargin},
		{MaxInFlight: 1},
		{MaxBytesInFlight: 1 << 20},
		{MaxInFlight: 8, EndpointMaxInFlight: 8},
		{MaxInFlight: 10_000, EndpointMaxInFlight: 10_000},
		{RetrySchedule: []time.Duration{}, RetryJitter: fraction(0)},
		{RetrySchedule: []time.Duration{0, 30 * 24 * time.Hour}, RetryJitter: fraction(1)},
		{RetrySchedule: make([]time.Duration, 100)},
		{Retention: time.Second, DeadRetention: time.Second, RetryAfterMax: 1, ShutdownTimeout: 1},
		{MetricsEndpoints: endpointsNamed(MetricsEndpointsMax)},
		{Name: strings.Repeat("x", 64), Schema: strings.Repeat("x", 46)},
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("case %d: Validate returns %v, want no error", i, err)
		}
	}
}

func TestAllFaultsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	c, fields := Config{}, map[string]bool{}
	for _, f := range faults {
		f.change(&c)
		fields[f.field] = true
	}
	r := newRig(t)
	pool := r.NewPool(t, func(p *pgxpool.Config) { p.MaxConns = ConnsMin - 1 })
	_, err := New(pool, c)
	if err == nil {
		t.Fatal("New returns no error, want one with all faults")
	}
	for field := range fields {
		if !strings.Contains(err.Error(), field+" ") && !strings.Contains(err.Error(), field+":") {
			t.Errorf("the error does not name %s: %v", field, err)
		}
	}
	if !strings.Contains(err.Error(), "MaxConns is 5; want 6 or more (pool_max_conns in a connection string sets it)") {
		t.Errorf("the error does not name the fault of the pool: %v", err)
	}
}

func TestNoTwoWorkersShareAName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "host", strings.Repeat("x", 64)} {
		a, b := uniqueName(name), uniqueName(name)
		if a == b || !strings.HasPrefix(a, name) || len(a) > 64+len("/01234567") {
			t.Errorf("%q became %q and %q; want two names that begin with it and are not too long", name, a, b)
		}
	}
}
