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
	// Hook is told of each run's end, in the transaction that settles it. hook.NoopTerminalHook when nil.
	Hook hook.TerminalHook

	// CheckHeaders refuses a submission by its headers; hook.WebhookTerminalHook has one to be put here. Nothing is
	// refused but what this package cannot keep when nil.
	CheckHeaders func(headers map[string]string) error

	// Schema that holds the table riverstep_run; outbox.DefaultSchema when empty. River's tables are where the client
	// says.
	Schema string

	// Queue of the steps' jobs and of the sweep's; river.QueueDefault when empty. The client must work it.
	Queue string

	// BegunFirst has runs that have begun finished before others begin: every step but the first goes one of River's
	// priorities ahead, from 2 to 1, say. A run of priority 1 has none ahead of it. Without it, a backlog of runs ends
	// all at last, for each step queues behind the first steps of all the others.
	BegunFirst bool

	// Attempts is how often a step is tried, unless its RunSpec says otherwise. 5 when 0; at most AttemptsMax.
	Attempts int

	// Timeout of one attempt of a step. The client's JobTimeout (1 min by River's default) when 0. There is no step
	// without one, for River would not rescue it.
	Timeout time.Duration

	// SettleTimeout bounds a transaction of riverstep's own with its repetitions, Submit and Cancel too, the runner's own
	// writes and the hook included. It is also the server's bound of each statement in it and of a client gone silent. 15 s
	// when 0. Each wait for a lock ends after a second, or a third of it where that is less, and the transaction is tried
	// again. It does not count into Timeout: a verdict in the last moment is still settled.
	SettleTimeout time.Duration

	// InputBytesMax bounds a run's input and every payload of Continue. 1 MiB when 0; at most 16 MiB. A larger input is
	// refused, a larger payload fails its run.
	InputBytesMax int

	// HeadersBytesMax bounds a run's headers, as JSON. outbox.HeadersBytesMax (64 KiB) when 0, and at most.
	HeadersBytesMax int

	// SweepInterval is how often runs are looked for whose job ended without a worker. 1 min when 0; from 100 ms.
	SweepInterval time.Duration

	// Retention is how long an ended run can be asked about. 168 h when 0; from 1 s.
	Retention time.Duration

	// Wake is called after each commit that ended a run; outbox.Waker has one to be put here. Nobody is woken when nil.
	Wake func()

	// MeterProvider gets the metrics of steps, through OpenTelemetry's API: how long runners and settlements take, how they
	// end, and which transactions are made again. Nothing is measured when nil.
	MeterProvider metric.MeterProvider

	// Logger receives what happens; slog.Default() when nil.
	Logger *slog.Logger
}

// Bounds and defaults.
const (
	AttemptsMax       = 1000
	inputBytesLimit   = 1 << 20
	inputBytesMaximum = 16 << 20

	// attemptsSpare is how many attempts River is given beyond the step's: in them a run is ended whose last attempt did
	// not report. Each would have to crash for the sweep to be needed.
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

// validate reports every fault at once, of a configuration whose defaults are filled in.
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
