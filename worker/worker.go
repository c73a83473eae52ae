package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/session"
	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
	"github.com/seed-abbacb8b/epilogue/worker/internal/database"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
	"github.com/seed-abbacb8b/epilogue/worker/internal/outage"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/recording"
	"github.com/seed-abbacb8b/epilogue/worker/internal/recurring"
	"github.com/seed-abbacb8b/epilogue/worker/internal/roster"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// ConnsMin is how many connections the caller's pool must allow. A worker never opens more than the pool's MaxConns, the
// listener for wakes included. The others serve the claim loop, the scan loop, the recorder and River.
const ConnsMin = 6

// Worker drains one outbox. Create it with [New].
type Worker struct {
	config    Config
	name      string
	caller    *pgxpool.Config // of the caller's pool; the worker's own pool copies it
	sender    *delivery.Sender
	attempts  attempter // the same; tests stop it in the middle of an attempt
	scheduler *schedule.Scheduler

	ran, up    atomic.Bool
	stopping   context.Context // its end: no new claims
	stopClaims context.CancelFunc

	// What Run makes.
	pool     *database.Pool
	db       *postgres.DB
	pooled   bool // behind a pooler in transaction mode, or one of an unknown mode
	outage   *outage.Outage
	loops    *loops
	senders  *senders
	tearDown context.CancelFunc // ends the requests in flight
	recorder *recording.Recorder
	mover    *mover
	listener *database.Listener
	roster   *roster.Roster
	client   *river.Client[pgx.Tx]
	samples  samples
	teller   *teller
}

// New returns a worker, or every fault of the configuration at once. It touches no database. The worker never uses or closes
// the caller's pool. It opens its own with the same configuration; see [ConnsMin] for its size. The sessions of its pool have
// settings of their own, whatever the database, the role or the URL says.
func New(pool *pgxpool.Pool, config Config) (*Worker, error) {
	if pool == nil {
		return nil, errors.New("worker: the pool is nil; did pgxpool.New fail?")
	}
	faults := config.faults()
	most := pool.Config().MaxConns
	faults.Check(most >= ConnsMin, "MaxConns", "is %d; want %d or more (pool_max_conns in a connection string sets it)", most, ConnsMin)
	if err := faults.Err(); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	c := config.WithDefaults()
	c.instruments = instruments.New(c.MeterProvider, module+"/worker", c.Schema)
	sender, err := delivery.New(deliveryConfig(c, databaseServices(pool.Config())))
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	w := &Worker{
		config: c, name: uniqueName(c.Name), caller: pool.Config(), sender: sender, attempts: sender,
		scheduler: schedule.New(scheduleConfig(c), time.Now()),
	}
	w.config.Logger = c.Logger.With("worker", w.name)
	w.stopping, w.stopClaims = context.WithCancel(context.Background())
	return w, nil
}

// assemble makes the parts, in the order in which a message passes them.
func (w *Worker) assemble() (err error) {
	c := w.config
	if w.pool, err = database.Open(w.caller, c.Pooler, c.Logger, c.instruments); err != nil {
		return err
	}
	w.db = postgres.Direct(w.pool.Pool)
	w.outage = outage.New(c.Logger, c.PollInterval, outage.Faults{Failed: w.pool.Failed, Advice: database.Advice})
	w.teller = newTeller(w)
	blame := schedule.NewBlame(c.OpenAfter)
	w.recorder = w.newRecorder(blame)
	w.mover = newMover(postgres.NewMover(w.db, c.Schema), blame, c, w.outage.Part("messages that are set aside"))
	sending, tearDown := context.WithCancel(context.Background())
	w.tearDown = tearDown
	w.senders = &senders{
		ctx: database.For(sending, database.CauseLoad), bodies: postgres.NewBodies(postgres.NewLoader(w.db, c.Schema), c.MaxBytesInFlight, loadTimeout), delivery: w.attempts,
		policy: policyOf(c), blame: blame, mover: w.mover, scheduler: w.scheduler, results: w.recorder.In(), logger: c.Logger,
		next: make(chan *postgres.Message), stopped: w.stopping.Done(),
		metrics: newAttemptMetrics(c.instruments, c.MetricsEndpoints), faults: recurring.New(c.Logger), every: c.LogDeliveries,
		onAttempt: w.teller.onAttempt,
	}
	w.loops = &loops{
		scheduler: w.scheduler, senders: w.senders, stopping: w.stopping, clocks: &database.Clocks{Logger: c.Logger}, pool: w.pool,
		claimer: postgres.NewClaimer(w.db, postgres.ClaimerConfig{
			Schema: c.Schema, Worker: w.name, Lease: c.Lease, OpenAfter: c.OpenAfter, Instruments: c.instruments,
			Events: postgres.Events{Telling: w.teller.telling, Untold: w.teller.untold},
		}),
		scanner: postgres.NewScanner(w.db, c.Schema, c.instruments),
		claims:  w.outage.Part("claims"), scans: w.outage.Part("scans"), inserts: w.outage.Part("drain jobs"),
		aside: asideLog{logger: c.Logger}, teller: w.teller,
	}
	pruner := postgres.NewPruner(w.db, postgres.PrunerConfig{Schema: c.Schema, Delivered: c.Retention, Dead: c.DeadRetention})
	sampler := postgres.NewSampler(w.db, samplerConfig(c, w.name))
	if w.samples.store, err = operator.NewStore(w.pool.Pool, c.Schema); err != nil {
		return err // of the schema's name, which was checked
	}
	if w.client, err = newRiverClient(w.pool.Pool, c, jobs{w.loops, pruner, sampler}, w.outage.Lasts); err != nil {
		w.pool.Close()
		return fmt.Errorf("river: %w", err)
	}
	w.loops.client = w.client
	w.roster = roster.New(rosterConfig(w))
	w.db.DeadOwners(w.roster.Dead)
	w.listener = &database.Listener{
		Pool: w.pool, Channel: outbox.WakeChannel(c.Schema), Wake: func() { w.scheduler.Woken(time.Now()) }, Lock: w.roster,
	}
	w.watch(c.instruments)
	if err := c.instruments.Err(); err != nil { // of a name or a unit of ours: the provider refuses it
		c.Logger.Warn("some metrics cannot be measured", "error", err)
	}
	return nil
}

// newRecorder makes the recorder, which reports what it changed.
func (w *Worker) newRecorder(blame *schedule.Blame) *recording.Recorder {
	c := w.config
	recorder := recording.New(postgres.NewRecorder(w.db, postgres.RecorderConfig{
		Schema: c.Schema, Worker: w.name, OpenAfter: c.OpenAfter, OpenFor: c.OpenFor, OpenForMax: c.OpenForMax,
		Events:      postgres.Events{Telling: w.teller.telling, Died: w.teller.died, Untold: w.teller.untold},
		Instruments: c.instruments,
	}), w.outage.Part("records"), c.Logger, c.MaxInFlight, c.instruments)
	recorder.Changed = func(x postgres.EndpointChange) {
		if x.What == postgres.EndpointClosed {
			blame.Closed(x.Endpoint)
		}
		w.teller.changed(x)
	}
	return recorder
}

// uniqueName returns a name that no other worker has, nor this process had before a restart.
func uniqueName(name string) string {
	if name == "" {
		name, _ = os.Hostname()
	}
	var suffix [4]byte
	_, _ = rand.Read(suffix[:]) // never fails
	return fmt.Sprintf("%.64s/%s", name, hex.EncodeToString(suffix[:]))
}

// Name returns the name under which this worker holds leases.
func (w *Worker) Name() string { return w.name }

// RereadCertificates reads those of CAFile, ClientCertFile, ClientKeyFile and SecretHeadersFile again that are configured. For each
// field (the certificate's for the pair) it returns nil, or why the new content is not used. Open connections stay
// as they are.
func (w *Worker) RereadCertificates() (files []Reread) {
	for _, file := range w.sender.Reread() {
		files = append(files, Reread(file))
	}
	return files
}

// Reread is a file of the configuration that was read again.
type Reread struct {
	Name string // the field of Config
	Err  error  // why its new content is not used; then the old one stays in force
}

// Run works until ctx ends, then stops gracefully: no new claims, requests in flight end within most of ShutdownTimeout,
// the rest is released. It then returns nil, 2 s after ShutdownTimeout at the latest, whatever the database does.
//
// It waits while the database is away, at the start and later. It returns an error for a schema it cannot work on
// (migrations.ErrNotMigrated, migrations.ErrNewer) and for a database that refuses it (a wrong password, no such
// database). It can be called once.
func (w *Worker) Run(ctx context.Context) error {
	if w.ran.Swap(true) {
		return errors.New("worker: Run was called before; make a new Worker")
	}
	defer w.stopClaims()
	defer w.sender.Close()
	defer w.config.instruments.Close()
	if err := w.assemble(); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	defer w.pool.Close()
	defer w.tearDown()
	defer w.senders.faults.Close()
	w.teller.start()
	defer w.teller.stop(w.stopping) // after a start that failed, or a stop that left something behind
	if err := w.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("worker: %w", err)
	}
	w.up.Store(true)
	w.config.Logger.InfoContext(ctx, "working", "schema", w.config.Schema, "max_in_flight", w.config.MaxInFlight,
		"endpoint_max_in_flight", w.config.EndpointMaxInFlight, "lease", w.config.Lease)
	w.work(ctx)
	return nil
}

// start waits for the database, checks the schema and starts River.
func (w *Worker) start(ctx context.Context) error {
	database := w.outage.Part("start")
	for {
		err := migrations.Check(ctx, w.pool.Pool, migrations.Config{Schema: w.config.Schema})
		if err == nil {
			w.pooled, err = session.Pooled(ctx, w.pool.Pool, session.Pooler(w.config.Pooler))
		}
		if w.pooled {
			w.db.Pooled()
		}
		if err == nil {
			err = w.teller.prepare(ctx)
		}
		if err == nil {
			err = w.startRiver(ctx)
		}
		if err == nil {
			database.Worked()
			return nil
		}
		if isFinal(err) {
			return err
		}
		if err := database.Wait(ctx, err); err != nil {
			return err
		}
	}
}

// startRiver starts River. Only the start itself, which queries the database, ends with ctx.
func (w *Worker) startRiver(ctx context.Context) error {
	starting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	started := context.AfterFunc(ctx, cancel)
	err := w.client.Start(starting)
	if !started() {
		return ctx.Err()
	}
	return err
}

// isFinal reports an error that waiting does not change: the check of the schema failed, or the login or the database was refused.
func isFinal(err error) bool {
	for _, final := range []error{migrations.ErrNotMigrated, migrations.ErrNewer, migrations.ErrEncoding} {
		if errors.Is(err, final) {
			return true
		}
	}
	code := sqlstate.Of(err)
	return strings.HasPrefix(code, "28") || code == "3D000" || code == "42501"
}

// work runs the loops until ctx ends, and then stops them.
func (w *Worker) work(ctx context.Context) {
	var background sync.WaitGroup
	background.Go(func() { w.loops.scan(ctx) })
	background.Go(func() { w.tellReady(ctx) })
	background.Go(func() { w.mover.run(database.For(ctx, database.CauseMove)) })
	background.Go(func() { w.teller.run(ctx) })
	if w.config.MeterProvider != nil {
		background.Go(func() { w.samples.read(ctx, w.config.SampleInterval) })
	}
	if w.pooled { // a LISTEN would stay on the server's session, which the pooler gives to others
		w.config.Logger.InfoContext(ctx, "a pooler stands before the database: wakes are not heard, and new messages are found by polling",
			"poll_interval", w.config.PollInterval)
	} else {
		background.Go(func() { w.listener.Run(ctx) })
	}
	recorded := make(chan struct{})
	record, stopRecord := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRecord()
	go func() {
		defer close(recorded)
		w.recorder.Run(database.For(record, database.CauseRecord))
	}()
	<-ctx.Done()
	w.up.Store(false)
	w.stop(&background, stopRecord, recorded)
}

// A stop has ended ShutdownTimeout + 2 s after it began, whatever the database does. The requests in flight have most of the
// time. A part of it, stopRecordMin at least, is kept for recording their answers. After that, unrecorded answers are dropped,
// and what still runs is left behind, with its connections cut.
const (
	stopRecordMin  = time.Second
	stopRecordMost = 5 * time.Second        // of ShutdownTimeout
	stopEnds       = 250 * time.Millisecond // for the end of what was cut; as much again is left for the pool and the rest of the program
)

// stopRecordTime is how much of a shutdown timeout is kept for recording.
func stopRecordTime(shutdownTimeout time.Duration) time.Duration {
	return min(stopRecordMost, shutdownTimeout/4)
}

// stop stops the parts, within its bounds.
func (w *Worker) stop(background *sync.WaitGroup, stopRecord context.CancelFunc, recorded <-chan struct{}) {
	log, most := w.config.Logger, w.config.ShutdownTimeout
	log.Info("stopping", "shutdown_timeout", most)
	tearDown := time.AfterFunc(most-stopRecordTime(most), w.tearDown)
	defer tearDown.Stop()
	late, giveUp := context.WithTimeout(context.Background(), most+stopRecordMin)
	defer giveUp()
	cut := context.AfterFunc(late, func() { stopRecord(); w.pool.Cut() })
	defer cut()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.stopParts(late, background, recorded)
	}()
	select {
	case <-stopped:
	case <-time.After(most + stopRecordMin + stopEnds):
		log.Error("not everything ended in time; leaving it behind")
	}
	if n := w.recorder.Unwritten(); n > 0 {
		log.Error("answers not recorded: the database did not take them in time; their messages will be delivered again when their leases end", "messages", n)
	}
	log.Info("stopped")
}

// stopParts ends the parts in the order in which a message passes them, so that nothing is handed to a part that is gone.
// It waits for each of them. late ends the waits for the database; stop ends late.
func (w *Worker) stopParts(late context.Context, background *sync.WaitGroup, recorded <-chan struct{}) {
	w.stopClaims()
	background.Go(func() { w.stopRiver(late) })
	w.senders.stop()
	background.Wait()
	w.senders.running.Wait()
	w.tearDown()
	w.recorder.Close()
	<-recorded
	w.teller.stop(late)
}

// stopRiver returns when River has stopped, and with it the claim loop. Its jobs end by themselves, except those that wait
// for the database.
func (w *Worker) stopRiver(late context.Context) {
	most := w.config.ShutdownTimeout
	most = min(postgres.ClaimTimeout+time.Second, max(most-stopRecordTime(most), stopRecordMin))
	within, cancel := context.WithTimeout(late, most)
	defer cancel()
	if w.client.Stop(within) != nil {
		w.config.Logger.Warn("River waits for the database; ending what it does")
		_ = w.client.StopAndCancel(late)
		<-w.client.Stopped()
	}
}
