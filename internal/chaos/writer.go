package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// writerKinds are the kinds of writers. Each writer is a process.
var writerKinds = []string{"pgx", "batch", "stdlib", "pq", "riverstep"}

// writerSettings are a writer's command line.
type writerSettings struct {
	kind string
	url  string   // of the database, through a proxy that fails
	urls []string // the URLs to which the outcomes go
	rate float64
	seed uint64
	name string // names this process in its run ids; no other process has the same
}

// drainSignal asks a writer to begin no more runs, and to finish those that it has.
const drainSignal = syscall.SIGHUP

// writerCounts are a writer's own counts of its commits. The checker does not use them: it reads the acknowledgements.
type writerCounts struct {
	Committed  int64 // COMMIT was answered
	RolledBack int64 // on purpose
	Unknown    int64 // COMMIT was sent, but there was no answer
	Failed     int64 // before COMMIT
	Repeated   int64 // done again, because the acknowledgement was missing
}

var errOnPurpose = errors.New("rolled back on purpose")

// insertAck is the service's own acknowledgement of a run's last step. It also stores the outcome, so that the checker does not
// depend on the outbox.
const insertAck = `INSERT INTO chaos.ack (run_id, writer, status, url, headers, body_sha) VALUES ($1, $2, $3, $4, convert_from($5, 'UTF8')::jsonb, $6)`

func ackArgs(kind string, o outbox.RunOutcome) []any {
	headers, err := json.Marshal(o.Headers)
	if err != nil {
		panic(err) // a map of strings
	}
	return []any{o.RunID, kind, string(o.Status), o.Headers[hook.DefaultURLHeader], headers, bodySum(o)}
}

// writer ends runs until it is stopped.
type writer struct {
	writerSettings
	pool  *pgxpool.Pool
	sql   *sql.DB // of the kinds stdlib and pq
	hook  *hook.WebhookTerminalHook
	waker *outbox.Waker // of the kinds pgx and riverstep; the others' messages are found by polling

	draining chan struct{} // closed when no more runs may begin

	counts struct{ committed, rolledBack, unknown, failed, repeated atomic.Int64 }
}

// writeMax bounds one transaction, on a connection that may have gone silent.
const writeMax = 4 * time.Second

// writerMain is the main function of a writer's process.
func writerMain(args []string) int {
	w := &writer{draining: make(chan struct{})}
	var urls string
	flags := flag.NewFlagSet(writerCommand, flag.ExitOnError)
	flags.StringVar(&w.kind, "kind", "", "one of "+strings.Join(writerKinds, ", "))
	flags.StringVar(&w.url, "url", "", "the URL of the database")
	flags.StringVar(&urls, "urls", "", "the callback URLs, separated by commas")
	flags.Float64Var(&w.rate, "rate", 10, "runs per second")
	flags.Uint64Var(&w.seed, "seed", 1, "the seed of the contents")
	flags.StringVar(&w.name, "name", "", "a name for the run ids")
	_ = flags.Parse(args) // the flag set exits at an error
	w.urls = strings.Split(urls, ",")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	drain := make(chan os.Signal, 1)
	signal.Notify(drain, drainSignal)
	go func() { <-drain; close(w.draining) }()
	if err := w.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "writer %s: %v\n", w.kind, err)
		return 1
	}
	return 0
}

func (w *writer) run(ctx context.Context) (err error) {
	if w.hook, err = hook.NewWebhook(hook.WebhookConfig{
		ForwardHeaders: []string{forwardedHeader}, TenantHeader: tenantHeader, DedupeKey: w.dedupeKey(),
	}); err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(w.url)
	if err != nil {
		return err
	}
	config.MaxConns, config.ConnConfig.ConnectTimeout = 6, 2*time.Second
	if w.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	defer w.pool.Close()
	defer w.printCounts()
	if w.waker, err = outbox.NewWaker(w.pool, ""); err != nil {
		return err
	}
	stopPrinting := every(time.Second, w.printCounts)
	defer stopPrinting()
	switch w.kind {
	case "riverstep":
		return w.runSteps(ctx)
	case "stdlib", "pq":
		driver := map[string]string{"stdlib": "pgx", "pq": "postgres"}[w.kind]
		if w.sql, err = sql.Open(driver, w.url+"&connect_timeout=2"); err != nil {
			return err
		}
		w.sql.SetMaxOpenConns(6)
		defer func() { _ = w.sql.Close() }()
	}
	w.each(ctx, w.end)
	return nil
}

// dedupeKey is for riverstep, where a run's instance can be the key.
func (w *writer) dedupeKey() func(outbox.RunOutcome) string {
	if w.kind == "riverstep" {
		return riverstep.DedupeKey
	}
	return nil
}

// each calls do for one run after another, at the rate, several at once, until ctx ends. It returns when all calls have returned.
func (w *writer) each(ctx context.Context, do func(context.Context, content)) {
	const atOnce = 6
	var group sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	tick := time.NewTicker(time.Duration(float64(time.Second) / w.rate))
	defer tick.Stop()
	defer group.Wait()
	r := rand.New(rand.NewPCG(w.seed, 1))
	defer func() { <-ctx.Done() }() // after a drain, the parent ends the process
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-w.draining:
			return
		case <-tick.C:
		}
		c := newContent(r, fmt.Sprintf("%s-%d", w.name, n), w.urls)
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			do(context.WithoutCancel(ctx), c)
		})
	}
}

// end ends a run. If COMMIT had no answer, it reads the acknowledgement, and ends the run again if there is none, as a service
// must.
func (w *writer) end(ctx context.Context, c content) {
	const triesMax = 3
	for try := range triesMax {
		if try > 0 {
			w.counts.repeated.Add(1)
		}
		sent, err := w.write(ctx, c)
		switch {
		case errors.Is(err, errOnPurpose):
			w.counts.rolledBack.Add(1)
			return
		case err == nil:
			w.counts.committed.Add(1)
			if w.kind == "pgx" {
				w.waker.Wake()
			}
			return
		case !sent:
			w.counts.failed.Add(1)
			return
		}
		w.counts.unknown.Add(1)
		if there, err := w.acknowledged(ctx, c.outcome.RunID); err != nil || there {
			return
		}
	}
}

// write makes one transaction. sent reports that COMMIT may have reached the server.
func (w *writer) write(ctx context.Context, c content) (sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeMax)
	defer cancel()
	if w.sql != nil {
		return w.writeSQL(ctx, c)
	}
	tx, err := w.pool.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // does nothing after the commit
	if w.kind == "batch" {
		err = w.queue(ctx, tx, c.outcome)
	} else if _, err = tx.Exec(ctx, insertAck, ackArgs(w.kind, c.outcome)...); err == nil {
		err = w.hook.OnTermination(ctx, tx, c.outcome)
	}
	if err != nil {
		return false, err
	}
	if c.rollBack {
		return false, errOnPurpose
	}
	return true, tx.Commit(ctx)
}

// queue writes the acknowledgement and the outcome in one round trip.
func (w *writer) queue(ctx context.Context, tx pgx.Tx, o outbox.RunOutcome) error {
	batch := &pgx.Batch{}
	batch.Queue(insertAck, ackArgs(w.kind, o)...)
	if _, err := w.hook.Queue(ctx, batch, o); err != nil {
		return err
	}
	return tx.SendBatch(ctx, batch).Close()
}

func (w *writer) writeSQL(ctx context.Context, c content) (sent bool, err error) {
	tx, err := w.sql.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	if _, err = tx.ExecContext(ctx, insertAck, ackArgs(w.kind, c.outcome)...); err != nil {
		return false, err
	}
	if err = w.hook.OnTermination(ctx, outbox.SQLTx(tx), c.outcome); err != nil {
		return false, err
	}
	if c.rollBack {
		return false, errOnPurpose
	}
	return true, tx.Commit()
}

func (w *writer) acknowledged(ctx context.Context, runID string) (there bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeMax)
	defer cancel()
	err = w.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM chaos.ack WHERE run_id = $1)`, runID).Scan(&there)
	return there, err
}

// printCounts prints the counts so far, which the parent reads.
func (w *writer) printCounts() {
	line, _ := json.Marshal(writerCounts{
		Committed: w.counts.committed.Load(), RolledBack: w.counts.rolledBack.Load(), Unknown: w.counts.unknown.Load(),
		Failed: w.counts.failed.Load(), Repeated: w.counts.repeated.Load(),
	})
	fmt.Println(string(line))
}

// every calls f once per interval until the function that it returns is called.
func every(interval time.Duration, f func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}
