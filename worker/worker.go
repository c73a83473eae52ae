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
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/migrations"
)

// ConnsMin is how many connections the pool must allow: River's listener and its fetching, the wake's listener, the
// doorbell, the drain and the recorder.
const ConnsMin = 6

// Worker drains one outbox. Create it with [New].
type Worker struct {
	pool   *pgxpool.Pool
	config Config
	name   string

	outage   *outage
	drainer  *drainer
	flights  *flights
	recorder *recorder
	doorbell *doorbell
	listener *listener
	client   *river.Client[pgx.Tx]

	stopping   context.Context // its end: no new claims
	stopClaims context.CancelFunc
	tearDown   context.CancelFunc
	ran, up    atomic.Bool
	background sync.WaitGroup
}

// New returns a worker that uses the caller's pool, which it never closes, or every fault of the configuration at once.
// It touches no database.
func New(pool *pgxpool.Pool, config Config) (*Worker, error) {
	faults := []error{config.Validate()}
	if n := pool.Config().MaxConns; n < ConnsMin {
		faults = append(faults, fmt.Errorf("the pool allows %d connections; the worker needs %d (pool_max_conns in the URL)", n, ConnsMin))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	c := config.WithDefaults()
	w := &Worker{pool: pool, config: c, name: uniqueName(c.Name)}
	w.stopping, w.stopClaims = context.WithCancel(context.Background())
	w.config.Logger = c.Logger.With("worker", w.name)
	return w, w.assemble()
}

// assemble makes the parts, in the order in which a message passes them.
func (w *Worker) assemble() (err error) {
	c := w.config
	in := func(sql string) string { return inSchema(sql, c.Schema) }
	w.outage = newOutage(c.Logger)
	sender, err := newDeliverer(c)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	s := newSlots(c.MaxInFlight, c.EndpointMaxInFlight)
	results := make(chan result, c.MaxInFlight)
	w.recorder = &recorder{pool: w.pool, sql: recordStatementsIn(c.Schema), worker: w.name, outage: w.outage.door("records"), logger: c.Logger, in: results,
		openAfter: c.OpenAfter, openFor: c.OpenFor, openForMax: c.OpenForMax}
	flightsCtx, tearDown := context.WithCancel(context.Background())
	w.tearDown = tearDown
	w.flights = &flights{
		ctx: flightsCtx, loader: newLoader(w.pool, c.Schema, int64(c.MaxBytesInFlight)), deliverer: sender, policy: newPolicy(c), slots: s, results: results, logger: c.Logger,
		next: make(chan message), landing: w.stopping.Done(),
	}
	ask := make(chan struct{}, 1)
	w.drainer = &drainer{
		claimer: &claimer{
			pool: w.pool, sql: in(claimSQL), worker: w.name, lease: c.Lease, openAfter: c.OpenAfter,
			since: time.Now(),
		},
		known: newKnown(), slots: s, flights: w.flights, outage: w.outage.door("claims"), poll: c.PollInterval,
		wake: make(chan struct{}, 1), rest: make(chan struct{}, 1), look: ask, turn: drainTurn, stopping: w.stopping,
	}
	p := &pruner{pool: w.pool, delivered: c.Retention, dead: c.DeadRetention, logger: c.Logger, sql: pruneSQL{
		oldDelivered: in(retentionSQL.oldDelivered), oldDead: in(retentionSQL.oldDead),
		prune: in(retentionSQL.prune), endpoints: in(retentionSQL.endpoints),
	}}
	if w.client, err = newRiverClient(w.pool, c, w.drainer, p); err != nil {
		return fmt.Errorf("worker: river: %w", err)
	}
	w.doorbell = &doorbell{
		looker: newLooker(w.pool, c.Schema), known: w.drainer.known, client: w.client, drainer: w.drainer,
		outage: w.outage.door("doorbell"), poll: c.PollInterval, wake: make(chan struct{}, 1), ask: ask,
	}
	w.listener = newListener(w.pool, c.Schema, w.doorbell.wake, c.Logger)
	return nil
}

// uniqueName tells this worker from every other, and from itself before a restart.
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

// Run works until ctx ends, then stops gracefully: no new claims, requests under way end within ShutdownTimeout, what
// is left is released. It then returns nil.
//
// It waits for a database that is away, at the start and later. It returns an error for a schema it cannot work on
// (migrations.ErrNotMigrated, migrations.ErrNewer) and for a database that refuses it (a wrong password, no such
// database). It can be called once.
func (w *Worker) Run(ctx context.Context) error {
	if w.ran.Swap(true) {
		return errors.New("worker: Run was called before; make a new Worker")
	}
	if err := w.start(ctx); err != nil {
		w.flights.deliverer.close()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("worker: %w", err)
	}
	w.up.Store(true)
	w.config.Logger.InfoContext(ctx, "working", "schema", w.config.Schema, "max_in_flight", w.config.MaxInFlight,
		"endpoint_max_in_flight", w.config.EndpointMaxInFlight, "lease", w.config.Lease)

	bell, stopBell := context.WithCancel(ctx)
	defer stopBell()
	w.background.Go(func() { w.doorbell.run(bell) })
	w.background.Go(func() { w.listener.run(bell) })
	recorded := make(chan struct{})
	record, stopRecord := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRecord()
	go func() {
		defer close(recorded)
		w.recorder.run(record)
	}()

	<-ctx.Done()
	w.up.Store(false)
	w.stop(stopRecord, recorded)
	return nil
}

// start waits for the database, checks the schema and starts River.
func (w *Worker) start(ctx context.Context) error {
	away := w.outage.door("start")
	for {
		err := migrations.Check(ctx, w.pool, migrations.Config{Schema: w.config.Schema})
		if err == nil {
			err = w.client.Start(context.WithoutCancel(ctx))
		}
		if err == nil {
			away.over()
			return nil
		}
		if isFinal(err) {
			return err
		}
		if err := away.wait(ctx, err); err != nil {
			return err
		}
	}
}

// isFinal reports an answer that waiting does not change: of the check, or a refusal of the login or the database.
func isFinal(err error) bool {
	if errors.Is(err, migrations.ErrNotMigrated) || errors.Is(err, migrations.ErrNewer) {
		return true
	}
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "28") || pgErr.Code == "3D000" || pgErr.Code == "42501")
}

// The last steps of a stop have bounds of their own, beyond the requests' ShutdownTimeout.
const (
	stopRiverTimeout  = claimTimeout + time.Second
	stopRecordTimeout = 10 * time.Second
)

// stop ends the parts in the order in which a message passes them, so that nothing is handed to a part that is gone.
func (w *Worker) stop(stopRecord context.CancelFunc, recorded <-chan struct{}) {
	log := w.config.Logger
	log.Info("stopping", "shutdown_timeout", w.config.ShutdownTimeout)
	tearDown := time.AfterFunc(w.config.ShutdownTimeout, w.tearDown)
	defer tearDown.Stop()
	giveUp := time.AfterFunc(w.config.ShutdownTimeout+stopRecordTimeout, stopRecord)
	defer giveUp.Stop()

	w.stopClaims()
	w.flights.ground()
	w.background.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), stopRiverTimeout)
	defer cancel()
	if err := w.client.Stop(ctx); err != nil {
		log.Warn("River did not stop in time", "error", err)
		_ = w.client.StopAndCancel(ctx)
	}
	w.flights.wg.Wait()
	w.tearDown()
	w.flights.deliverer.close()
	close(w.recorder.in)
	<-recorded
	log.Info("stopped")
}

// Ready reports whether messages are being drained: nil, or what keeps them from it.
func (w *Worker) Ready(ctx context.Context) error {
	if !w.up.Load() {
		return errors.New("not started, or stopping")
	}
	if err := w.pool.Ping(ctx); err != nil {
		return fmt.Errorf("the database does not answer: %w", err)
	}
	return nil
}
