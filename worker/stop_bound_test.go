package worker

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// stopSlack is how much longer than the shutdown timeout a stop may take, as promised. stopLoad is what a loaded machine adds.
// A stop without a bound would last as long as the disturbance, which is longer than all of these together.
const stopSlack, stopLoad = 2 * time.Second, 8 * time.Second

// TestAStopIsBounded, with the closing of the pool, whatever the database does meanwhile.
func TestAStopIsBounded(t *testing.T) {
	t.Parallel()
	const shutdown = 3 * time.Second
	for name, disturb := range map[string]func(t *testing.T, s stopped){
		"a server that is stopped": func(t *testing.T, s stopped) { must(t, s.crash()) },
		"a server that is silent":  func(_ *testing.T, s stopped) { s.proxy.Do(faulty.All, faulty.Freeze(faulty.Both)) },
		"connections refused": func(_ *testing.T, s stopped) {
			s.proxy.Refuse(true)
			s.proxy.Do(faulty.Existing, faulty.Cut(faulty.RST))
		},
		"a lock on the due rows": func(t *testing.T, s stopped) {
			faulty.Hold(t, s.rig.Pool, inSchema(`LOCK TABLE outbox.due IN ACCESS EXCLUSIVE MODE`, s.rig.Schema))
		},
		"a lock on River's jobs": func(t *testing.T, s stopped) {
			faulty.Hold(t, s.rig.Pool, inSchema(`LOCK TABLE outbox.river_job IN ACCESS EXCLUSIVE MODE`, s.rig.Schema))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testdb.OwnServer(t)
			r := newRigOn(t, testdb.NewAt(t, server.URL()))
			pool, proxy := r.throughProxy(t)
			arrived, answer := make(chan struct{}, 10), make(chan struct{})
			to := newReceiver(t, func(_ http.ResponseWriter, _ request) {
				arrived <- struct{}{}
				<-answer
			})
			lines := &logLines{}
			c := r.config()
			c.ShutdownTimeout, c.DeliveryTimeout, c.Lease = shutdown, testPatience, testPatience+LeaseMargin
			c.Logger = slog.New(slog.NewTextHandler(lines, nil))
			w, stop := r.runOn(pool, c)
			r.writeTo(to.URL, "run-1")
			r.writeTo(to.URL, "run-2")
			<-arrived
			<-arrived
			disturb(t, stopped{rig: r, proxy: proxy, crash: server.Crash})
			close(answer) // the two answers cannot be recorded
			began := time.Now()
			stop()
			took := time.Since(began)
			t.Logf("stopped in %v of %v", took, shutdown)
			if took > shutdown+stopSlack+stopLoad {
				t.Errorf("the stop took %[3]v, want at most %[1]v + %[2]v, and what a loaded machine adds", shutdown, stopSlack, took)
			}
			if name != "a lock on River's jobs" && (lines.count("answers not recorded") != 1 || lines.count("messages=2") != 1) {
				t.Errorf("want one line of the log that counts two answers as not recorded, got:\n%s", lines.text.String())
			}
			<-w.client.Stopped() // River's goroutines end soon, in a process that goes on
			if name == "a server that is stopped" {
				must(t, server.Restart(t.Context())) // so that the schema can be dropped
			}
		})
	}
}

type stopped struct {
	rig   *rig
	proxy *faulty.Proxy
	crash func() error
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAStopWhileStartingIsBounded: when River starts, its statement waits for a lock or for a silent server.
func TestAStopWhileStartingIsBounded(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(t *testing.T, s stopped){
		"a server that is silent": func(_ *testing.T, s stopped) { s.proxy.Do(faulty.All, faulty.Freeze(faulty.Both)) },
		"a lock on River's queues": func(t *testing.T, s stopped) {
			faulty.Hold(t, s.rig.Pool, inSchema(`LOCK TABLE outbox.river_queue IN ACCESS EXCLUSIVE MODE`, s.rig.Schema))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			pool, proxy := r.throughProxy(t)
			disturb(t, stopped{rig: r, proxy: proxy})
			var dialled atomic.Int64
			watched := pool.Config()
			dial := watched.ConnConfig.DialFunc
			watched.ConnConfig.DialFunc = countDials(&dialled, dial)
			counted, err := pgxpool.NewWithConfig(t.Context(), watched)
			must(t, err)
			t.Cleanup(counted.Close)
			c := r.config()
			c.ShutdownTimeout = time.Second
			_, stop := r.runOn(counted, c)
			r.await("the worker connects", func() bool { return dialled.Load() > 0 })
			if strings.Contains(name, "lock") {
				r.await("River waits for the lock", func() bool {
					return r.count(`SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass`, r.Schema+".river_queue") > 0
				})
			}
			began := time.Now()
			stop()
			if took := time.Since(began); took > c.ShutdownTimeout+stopSlack+stopLoad {
				t.Errorf("the stop took %v, want at most the shutdown timeout of %v and some seconds", took, c.ShutdownTimeout)
			}
		})
	}
}

// TestAStopIsBoundedWhileALargeBodyLoads: the database is silent while the worker loads a large body.
func TestAStopIsBoundedWhileALargeBodyLoads(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pool, proxy := r.throughProxy(t)
	to := newReceiver(t, nil)
	loading := proxy.On(faulty.AfterStatement("FROM "+r.Schema+".message m WHERE m.id", 1), faulty.Freeze(faulty.Both))
	c := r.config()
	c.ShutdownTimeout = time.Second
	_, stop := r.runOn(pool, c)
	m := outbox.Message{Outcome: testdb.Outcome("run-1", to.URL), URL: to.URL}
	m.Outcome.Result = []byte(`"` + strings.Repeat("x", 200<<10) + `"`)
	r.write(m)
	<-loading.Fired()
	began := time.Now()
	stop()
	if took := time.Since(began); took > c.ShutdownTimeout+stopSlack+stopLoad {
		t.Errorf("the stop took %v, want at most the shutdown timeout of %v and some seconds", took, c.ShutdownTimeout)
	}
}

// countDials counts connections to the database.
func countDials(n *atomic.Int64, dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		n.Add(1)
		return dial(ctx, network, address)
	}
}
