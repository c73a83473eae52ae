package riverstep_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// The environment variables of a worker that the test kills.
const (
	childSeed    = "RIVERSTEP_TEST_SEED"
	childName    = "RIVERSTEP_TEST_NAME"
	childDeadly  = "RIVERSTEP_TEST_DEADLY" // it kills itself at one of this many boundaries, on average; 0: at none
	childWorkers = 6
)

// doomed is a worker process. It works steps, cancels runs, and kills itself at boundaries that its seed chooses.
type doomed struct {
	pool   *pgxpool.Pool
	schema string
	steps  *riverstep.Steps
	deadly int
	mu     sync.Mutex
	random *rand.Rand
}

// runKilledWorker works until its stdin is closed, or until it is killed, by its parent or by itself.
func runKilledWorker() int {
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "the worker failed before it was killed:", err)
		return 1
	}
	return 0
}

func work() error {
	ctx := context.Background()
	seed, err := strconv.ParseUint(os.Getenv(childSeed), 10, 64)
	if err != nil {
		return err
	}
	d := &doomed{random: rand.New(rand.NewPCG(seed, 7))}
	if d.deadly, err = strconv.Atoi(os.Getenv(childDeadly)); err != nil {
		return err
	}
	url, schema := testdb.ChildDatabase()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	config.MaxConns = childWorkers + 6
	config.ConnConfig.RuntimeParams["application_name"] = schema + os.Getenv(childName)
	if d.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	d.schema = schema
	webhook, err := newHook(schema)
	if err != nil {
		return err
	}
	d.steps, err = riverstep.New(d.pool, d, riverstep.Config{
		Schema: schema, Hook: hook.Multi(d, webhook, d), Wake: func() { d.maybeDie() }, // boundaries before and after the message, and after the commit
		Logger: slog.New(slog.DiscardHandler), SweepInterval: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	rc := riverConfig(schema)
	rc.ID, rc.Queues = os.Getenv(childName), map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: childWorkers}}
	if err := d.steps.Register(rc); err != nil {
		return err
	}
	client, err := river.NewClient(riverpgxv5.New(d.pool), rc)
	if err != nil {
		return err
	}
	d.steps.Bind(client)
	if err := client.Start(ctx); err != nil {
		return err
	}
	if d.deadly > 0 {
		go func() {
			for d.cancelOne(ctx) == nil {
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // returns when the parent closes it or ends
	return client.Stop(ctx)
}

func (d *doomed) intN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random.IntN(n)
}

func (d *doomed) maybeDie() {
	if d.deadly > 0 && d.intN(d.deadly) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}

// OnTermination is a boundary: it is called before the commit that ends a run.
func (d *doomed) OnTermination(context.Context, outbox.Tx, outbox.RunOutcome) error {
	d.maybeDie()
	return nil
}

// RunStep does what the run's id implies, and records each settled step.
func (d *doomed) RunStep(ctx context.Context, s riverstep.Step) (riverstep.Verdict, error) {
	d.maybeDie()
	select {
	case <-time.After(time.Duration(d.intN(3)) * time.Millisecond): // the moment that the seed chose
	case <-ctx.Done():
		return riverstep.Verdict{}, ctx.Err()
	}
	steps, end := implied(s.RunID)
	v := riverstep.Continue(nil)
	if int(s.Number) == steps {
		var err error
		if v, err = end(s); err != nil {
			return v, err
		}
	}
	return v.With(func(ctx context.Context, tx pgx.Tx) error {
		d.maybeDie()
		_, err := tx.Exec(ctx, "INSERT INTO "+d.schema+".settled (instance, step) VALUES ($1, $2)", s.Instance, s.Number)
		d.maybeDie()
		return err
	}), nil
}

// cancelOne cancels a run, and records that in the same transaction.
func (d *doomed) cancelOne(ctx context.Context) error {
	<-time.After(time.Duration(d.intN(15)) * time.Millisecond) // the moment that the seed chose
	var id string
	err := d.pool.QueryRow(ctx, "SELECT run_id FROM "+d.schema+".riverstep_run WHERE status = 'active' ORDER BY random() LIMIT 1").Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if err := d.steps.CancelTx(ctx, tx, id); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO "+d.schema+".cancelled (run_id) VALUES ($1)", id)
		d.maybeDie()
		return err
	})
	if errors.Is(err, riverstep.ErrEnded) {
		return nil
	}
	return err
}

// implied returns the number of a run's last step, and how that step ends. Both depend on the run's id alone.
func implied(runID string) (steps int, end func(riverstep.Step) (riverstep.Verdict, error)) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(runID))
	n := h.Sum32()
	ends := []func(riverstep.Step) (riverstep.Verdict, error){
		func(s riverstep.Step) (riverstep.Verdict, error) { return riverstep.Succeed([]byte(s.RunID)), nil },
		func(s riverstep.Step) (riverstep.Verdict, error) { return riverstep.Fail(s.RunID + " fails"), nil },
		func(s riverstep.Step) (riverstep.Verdict, error) { return riverstep.Cancel(s.RunID + " cancels"), nil },
		func(s riverstep.Step) (riverstep.Verdict, error) {
			return riverstep.Verdict{}, riverstep.Permanent(errors.New(s.RunID + " errs"))
		},
		func(s riverstep.Step) (riverstep.Verdict, error) {
			if s.Attempt%2 == 1 {
				return riverstep.Verdict{}, errors.New("busy")
			}
			return riverstep.Succeed([]byte(s.RunID)), nil
		},
	}
	return int(n % 4), ends[n/4%uint32(len(ends))]
}
