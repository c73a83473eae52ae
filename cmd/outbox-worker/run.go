package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/worker"
)

func (p *program) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "deliver messages until told to stop",
		Long: `Delivers messages until SIGINT or SIGTERM, then stops gracefully: it claims nothing more, lets requests in flight
finish for most of OUTBOX_SHUTDOWN_TIMEOUT, releases the other messages and records the answers. It has ended 2 s
after that time at the latest, whatever the database does. A second signal ends it at once.

On SIGHUP it reads the files of keys, headers and certificates again: OUTBOX_SIGNING_KEYS_FILE,
OUTBOX_SECRET_HEADERS_FILE, OUTBOX_CLIENT_CERT_FILE with its key, and OUTBOX_CA_FILE. The log says for each that it is
in force, or why not; then the old one stays in force.

Any number of workers can run on one schema. A worker waits for a database that is away. It serves /healthz, /readyz,
/metrics and /.well-known/jwks.json at OUTBOX_ADMIN_ADDR. It ends with status 4 on a schema that was not migrated, or
that no longer works with this version.

PUT /log-level, from this machine, changes the level of the log: curl -X PUT -d debug localhost:9464/log-level

/metrics is for Prometheus. When OTEL_EXPORTER_OTLP_ENDPOINT is set, metrics and traces go to a collector, by OTLP over
HTTP and as the other variables OTEL_… of OpenTelemetry say. OTEL_METRICS_EXPORTER and OTEL_TRACES_EXPORTER, otlp or
none, choose between them. A message whose writer named its span is sampled as that was, others as OTEL_TRACES_SAMPLER
says.

OUTBOX_EVENTS_URL gets events: a message died, a circuit breaker opened, an endpoint was paused, a worker is missing.
docs/events.md shows what it gets.

Messages are signed with OUTBOX_SIGNING_KEYS and OUTBOX_SIGNING_KEYS_FILE ('outbox-worker keys --help'). The file is
read again when it changes; if the new one is wrong, the log says so and the old keys stay in force.`,
		Example: `  OUTBOX_DATABASE_URL=postgres://app:PASSWORD@localhost:5432/app outbox-worker run
  OUTBOX_ALLOW_HTTP=true OUTBOX_ALLOWED_CIDRS=127.0.0.0/8 outbox-worker run   # to a receiver on this machine`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.work(cmd.Context()) },
	}
}

// work runs a worker and its admin server until ctx ends. It does not need the database to be there: the worker waits
// for it.
func (p *program) work(ctx context.Context) error {
	c, err := p.load()
	if err != nil {
		return err
	}
	s := c.settings.inForce()
	level := new(slog.LevelVar)
	level.Set(s.LogLevel.slog())
	log := newLogger(p.stderr, s, level)
	admin, err := listenAdmin(ctx, s.AdminAddr)
	if err != nil {
		return err
	}
	telemetry, err := p.openTelemetry(ctx, log)
	if err != nil {
		admin.close()
		return err
	}
	defer atOnce(admin.close, telemetry.close)
	keys, err := s.openKeys(log)
	if err != nil {
		return err
	}
	pool, err := p.connect(context.WithoutCancel(ctx), s, workerConnections()) // a graceful stop still needs it
	if err != nil {
		return err
	}
	config := c.settings.worker(log)
	config.DeniedAddrs, config.MeterProvider, config.TracerProvider = admin.addrs(), telemetry.meters(), telemetry.tracers()
	if s.signs() { // otherwise the interface would hold an empty ring and not be nil
		config.Keys = keys
	}
	w, err := worker.New(pool, config)
	if err != nil {
		return usagef("%s", inVariables(err)) // New touches no database: what it finds is the configuration's, as a missing file
	}
	stopping := context.AfterFunc(ctx, func() {
		log.Info("asked to stop", "because", context.Cause(ctx), "within", s.ShutdownTimeout)
	})
	defer stopping()
	rereads := onHangup(func() { reread(ctx, log, keys, w) })
	defer rereads()
	admin.serve(ctx, asked{ready: w.Ready, jwks: keys.JWKS, metrics: telemetry.handler, level: logLevelHandler(level, log)}, log)

	db := pool.Config().ConnConfig
	log.Info("outbox-worker runs", "version", buildVersion().Version, "host", db.Host, "port", db.Port, "database", db.Database,
		"user", db.User, "schema", s.Schema, "connections", pool.Config().MaxConns, "admin", admin.String())
	return w.Run(ctx)
}

// atOnce ends several parts at the same time: each has a bound, and together they take no longer than the longest.
func atOnce(ends ...func()) {
	var all sync.WaitGroup
	for _, end := range ends {
		all.Go(end)
	}
	all.Wait()
}
