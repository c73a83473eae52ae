package riverstep

import (
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/metric"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/fieldfault"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Config configures [Steps]. The zero value is usable: every field says what its zero means.
type Config struct {
	// Hook is called at the end of each run, in the transaction that settles it. hook.NoopTerminalHook when nil.
	Hook hook.TerminalHook

	// CheckHeaders refuses a submission by its headers; use that of hook.WebhookTerminalHook. When nil, only what this package
	// cannot store is refused.
	CheckHeaders func(headers map[string]string) error

	// Schema that holds the table riverstep_run; outbox.DefaultSchema when empty. River's tables are where the client
	// says.
	Schema string

	// Queue of the steps' jobs and of the sweep's; river.QueueDefault when empty. The client must work it.
	Queue string

	// BegunFirst finishes runs that have begun before others begin: every step but the first has a River priority that is one
	// higher, for example 1 instead of 2. A run of priority 1 stays at 1. Without BegunFirst, each step of a backlog of runs
	// queues behind the first steps of all the others, so that all runs end late.
	BegunFirst bool

	// Attempts is how often a step is tried, unless its RunSpec says otherwise. 5 when 0; at most AttemptsMax.
	Attempts int

	// Timeout of one attempt of a step. The JobTimeout of the client (1 min by default in River) when 0. Every step has a
	// timeout, because River rescues no job without one.
	Timeout time.Duration

	// SettleTimeout bounds each transaction of riverstep itself, with its repetitions, the writes of the runner and the hook;
	// Submit and Cancel too. The server uses the same bound for each statement in it and for a client that has gone silent. 15
	// s when 0. Each wait for a lock ends after a second, or a third of SettleTimeout where that is less; then the transaction
	// is tried again. It is not part of Timeout: a verdict in the last moment is still settled.
	SettleTimeout time.Duration

	// InputBytesMax bounds a run's input and every payload of Continue. 1 MiB when 0; at most 16 MiB. A larger input is
	// refused, a larger payload fails its run.
	InputBytesMax int

	// HeadersBytesMax bounds a run's headers, as JSON. outbox.HeadersBytesMax (64 KiB) when 0, and at most.
	HeadersBytesMax int

	// SweepInterval is how often the sweep searches for runs whose job ended without a worker. 1 min when 0; from 100 ms.
	SweepInterval time.Duration

	// Retention is how long the status of an ended run can be read. 168 h when 0; from 1 s.
	Retention time.Duration

	// Wake is called after each commit that ended a run; use that of outbox.Waker. Not called when nil.
	Wake func()

	// MeterProvider gets the metrics of steps, through the API of OpenTelemetry: how long runners and settlements take, how
	// they end, and which transactions are repeated. Nothing is measured when nil.
	MeterProvider metric.MeterProvider

	// Logger receives what happens; slog.Default() when nil.
	Logger *slog.Logger
}

// Bounds and defaults.
const (
	AttemptsMax       = 1000
	inputBytesLimit   = 1 << 20
	inputBytesMaximum = 16 << 20

	// attemptsSpare is how many attempts River gets beyond those of the step. They end a run whose last attempt did not report
	// its end. Only if all of them crash is the sweep needed.
	attemptsSpare = 5
)

func (c Config) withDefaults() Config {
	if c.Hook == nil {
		c.Hook = hook.NoopTerminalHook{}
	}
	if c.CheckHeaders == nil {
		c.CheckHeaders = func(map[string]string) error { return nil }
	}
	if c.Schema == "" {
		c.Schema = outbox.DefaultSchema
	}
	if c.Queue == "" {
		c.Queue = river.QueueDefault
	}
	setDefault(&c.Attempts, 5)
	setDefault(&c.SettleTimeout, 15*time.Second)
	setDefault(&c.InputBytesMax, inputBytesLimit)
	setDefault(&c.HeadersBytesMax, outbox.HeadersBytesMax)
	setDefault(&c.SweepInterval, time.Minute)
	setDefault(&c.Retention, 168*time.Hour)
	if c.Wake == nil {
		c.Wake = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// validate reports every fault of a configuration with its defaults filled in.
func (c Config) validate() error {
	var faults fieldfault.Faults
	check := faults.Check
	faults.Add("Schema", outbox.CheckSchema(c.Schema))
	check(c.Attempts >= 1 && c.Attempts <= AttemptsMax, "Attempts", "is %d; want 1 to %d, or 0 for 5", c.Attempts, AttemptsMax)
	check(c.Timeout >= 0, "Timeout", "is %v; want more than 0, or 0 for the client's", c.Timeout)
	check(c.SettleTimeout > 0, "SettleTimeout", "is %v; want more than 0", c.SettleTimeout)
	check(c.InputBytesMax > 0 && c.InputBytesMax <= inputBytesMaximum, "InputBytesMax", "is %d; want 1 to %d, or 0 for %d",
		c.InputBytesMax, inputBytesMaximum, inputBytesLimit)
	check(c.HeadersBytesMax > 0 && c.HeadersBytesMax <= outbox.HeadersBytesMax, "HeadersBytesMax", "is %d; want 1 to %d, or 0 for %d",
		c.HeadersBytesMax, outbox.HeadersBytesMax, outbox.HeadersBytesMax)
	check(c.SweepInterval >= 100*time.Millisecond, "SweepInterval", "is %v; want 100ms or more", c.SweepInterval)
	check(c.Retention >= time.Second, "Retention", "is %v; want 1s or more", c.Retention)
	return faults.Err()
}
