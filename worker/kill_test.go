package worker

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// childWorker is the main function of a worker process that tests kill.
func childWorker() int {
	url, schema := testdb.ChildDatabase()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	pool, err := pgxpool.New(ctx, url+"&pool_max_conns=8")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer pool.Close()
	w, err := New(pool, Config{
		Schema: schema, Name: "child", PollInterval: 50 * time.Millisecond, DeliveryTimeout: 5 * time.Second,
		Lease: 5*time.Second + LeaseMargin, AllowHTTP: true, MaxInFlight: 32, EndpointMaxInFlight: 16,
		AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		// Enough attempts that the kills exhaust none, and a circuit breaker that stays open for a short time only.
		RetrySchedule: slices.Repeat([]time.Duration{50 * time.Millisecond}, 20), OpenFor: time.Second, OpenForMax: time.Second,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := w.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// load commits some messages and rolls others back, until stopped. settle then finds out which commits without an answer
// have succeeded.
type load struct {
	r         *rig
	url       string
	stop      atomic.Bool
	mu        sync.Mutex
	committed map[string]bool // by run id
	undone    map[string]bool
	unknown   []string
}

func (l *load) run(rng *rand.Rand) {
	ctx := context.Background()
	for i := 0; !l.stop.Load(); i++ {
		runID := fmt.Sprintf("run-%d", i)
		rollback := rng.IntN(10) == 0
		err := l.write(ctx, runID, rollback)
		l.mu.Lock()
		switch {
		case rollback:
			l.undone[runID] = true
		case err == nil:
			l.committed[runID] = true
		default:
			l.unknown = append(l.unknown, runID)
		}
		l.mu.Unlock()
	}
}

func (l *load) write(ctx context.Context, runID string, rollback bool) error {
	tx, err := l.r.Pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := l.r.writer.Insert(ctx, tx, outbox.Message{Outcome: testdb.Outcome(runID, l.url), URL: l.url}); err != nil {
		return err
	}
	if rollback {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// settle asks the database about the commits whose answer was lost.
func (l *load) settle(t *testing.T) {
	for _, runID := range l.unknown {
		if l.r.count(`SELECT count(*) FROM outbox.message WHERE run_id = $1`, runID) > 0 {
			l.committed[runID] = true
		} else {
			l.undone[runID] = true
		}
	}
	t.Logf("%d committed, %d rolled back, %d of them after a lost answer", len(l.committed), len(l.undone), len(l.unknown))
}

// check compares what was committed with what arrived.
func (l *load) check(t *testing.T, got []request) {
	ids := map[string]string{}
	repeats := 0
	for _, r := range got {
		if l.undone[r.runID] {
			t.Errorf("%s was rolled back and arrived, want that it never arrives", r.runID)
		}
		if id, again := ids[r.runID]; again {
			repeats++
			if id != r.id {
				t.Errorf("%s arrived with the webhook-ids %s and %s, want one id", r.runID, id, r.id)
			}
		}
		ids[r.runID] = r.id
	}
	for runID := range l.committed {
		if ids[runID] == "" {
			t.Errorf("%s was committed and never arrived, want that it arrives", runID)
		}
	}
	t.Logf("%d arrived, %d repeats with the same webhook-id", len(ids), repeats)
}

func startChild(t *testing.T, db *testdb.DB) *exec.Cmd {
	t.Helper()
	cmd := db.Command("worker")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // the error says that it was killed
}

// TestNothingIsLostWhenTheWorkerAndTheDatabaseAreKilled shows delivery at least once: it kills both repeatedly under load.
func TestNothingIsLostWhenTheWorkerAndTheDatabaseAreKilled(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	server := testdb.OwnServer(t)
	r := newRigOn(t, testdb.NewAt(t, server.URL()))
	to := newReceiver(t, func(w http.ResponseWriter, _ request) {
		switch rand.IntN(20) {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			panic(http.ErrAbortHandler) // resets the connection, so that the answer is lost
		}
	})
	l := &load{r: r, url: to.URL, committed: map[string]bool{}, undone: map[string]bool{}}
	var writing sync.WaitGroup
	writing.Go(func() { l.run(rand.New(rand.NewPCG(seed, 1))) })

	child := startChild(t, r.DB)
	for i := range 6 {
		time.Sleep(time.Duration(300+rng.IntN(700)) * time.Millisecond) // the load goes on until a random moment
		if i%3 == 2 {
			if err := server.Crash(); err != nil {
				t.Fatal(err)
			}
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			continue
		}
		kill(t, child)
		child = startChild(t, r.DB)
	}
	l.stop.Store(true)
	writing.Wait()
	l.settle(t)
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	kill(t, child)
	if n := r.count(`SELECT count(*) FROM outbox.dead`); n > 0 {
		t.Errorf("%d messages are dead, want none", n)
	}
	l.check(t, to.requests())
}

func TestTwoWorkersShareTheLoadAndNeverSendOneMessageAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var mu sync.Mutex
	holding := map[string]bool{}
	both := make(chan struct{}) // closed once both workers have a lease; otherwise the first one might deliver everything before the second began
	to := newReceiver(t, func(w http.ResponseWriter, got request) {
		<-both
		mu.Lock()
		if holding[got.id] {
			t.Errorf("message %s is in flight twice at once, want once", got.id)
		}
		holding[got.id] = true
		mu.Unlock()
		time.Sleep(time.Millisecond) // a receiver's work, so that an overlap would show
		mu.Lock()
		delete(holding, got.id)
		mu.Unlock()
	})
	const messages = 2000
	if err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error {
		for i := range messages {
			if _, err := r.writer.Insert(t.Context(), tx, outbox.Message{Outcome: testdb.Outcome(fmt.Sprint("run-", i), to.URL), URL: to.URL}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c := r.config()
	c.MaxInFlight, c.EndpointMaxInFlight = 8, 4
	c.DeliveryTimeout, c.Lease = testPatience, 2*testPatience
	letGo := sync.OnceFunc(func() { close(both) })
	t.Cleanup(letGo)
	r.run(c)
	r.run(c)
	r.await("both workers have leases", func() bool {
		return r.count(`SELECT count(DISTINCT locked_by) FROM outbox.due WHERE locked_until > now()`) == 2
	})
	letGo()
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if got := len(to.requests()); got != messages {
		t.Errorf("%d requests, want %d", got, messages)
	}
	if n := r.count(`SELECT count(DISTINCT worker) FROM outbox.attempt`); n != 2 {
		t.Errorf("%d workers made attempts, want 2", n)
	}
}
