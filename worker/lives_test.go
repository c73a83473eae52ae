package worker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/recording"
)

// longLease is far longer than these tests take: what another worker delivers before, it does because the owner died.
const longLease = time.Minute

// leasing is a worker with a long lease, whose requests may take long.
func leasing(c Config) Config {
	c.Lease, c.DeliveryTimeout, c.PollInterval = longLease, longLease-LeaseMargin, 500*time.Millisecond
	c.HeaderTimeout = c.DeliveryTimeout
	c.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.64.0.0/10")}
	return c
}

// childLeaser is such a worker in a process of its own.
func childLeaser() int {
	url, schema := testdb.ChildDatabase()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	pool, err := pgxpool.New(ctx, url+"&pool_max_conns=8")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer pool.Close()
	w, err := New(pool, leasing(Config{Schema: schema, Name: "child", AllowHTTP: true, Logger: slog.New(slog.DiscardHandler)}))
	if err == nil {
		err = w.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// holding is a receiver that keeps the first request of each message open until it is let go.
type holding struct {
	*receiver
	letGo func()

	mu    sync.Mutex
	times map[string]int
	again chan time.Time // when a message came a second time
}

func hold(t *testing.T) *holding {
	t.Helper()
	released := make(chan struct{})
	h := &holding{times: map[string]int{}, again: make(chan time.Time, 1000), letGo: sync.OnceFunc(func() { close(released) })}
	h.receiver = newReceiver(t, func(_ http.ResponseWriter, r request) {
		h.mu.Lock()
		h.times[r.id]++
		first := h.times[r.id] == 1
		h.mu.Unlock()
		if first {
			<-released
		} else {
			h.again <- time.Now()
		}
	})
	t.Cleanup(h.letGo)
	return h
}

// at makes the receiver listen at another address, too.
func (h *holding) at(t *testing.T, address netip.Addr) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h.Config.Handler}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + l.Addr().String()
}

// firstAgain is when the first message comes a second time.
func (h *holding) firstAgain(t *testing.T) time.Time {
	t.Helper()
	select {
	case at := <-h.again:
		return at
	case <-time.After(longLease / 3): // leases end later: none is older than that when its worker dies
		t.Fatal("nothing is delivered again long before leases end")
		return time.Time{}
	}
}

// repeated are the messages that came more than once.
func (h *holding) repeated() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, times := range h.times {
		if times > 1 {
			n++
		}
	}
	return n
}

func (r *rig) awaitHeld(n int) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d messages are under a lease", n), func() bool {
		return r.count(`SELECT count(*) FROM outbox.due WHERE locked_until > now()`) == n
	})
}

// awaitBelievers waits until every one of n workers has had its lock for long enough to believe a death, and has seen the
// others.
func (r *rig) awaitBelievers(n int) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d workers have known each other for a while", n), func() bool {
		return r.count(`SELECT count(*) FROM outbox.worker WHERE backend_start < now() - interval '11 s'`) == n
	})
}

// leaser starts a worker's process, in which it claims n messages whose requests stay open.
func (r *rig) leaser(to *holding, url string, n int, cmd *exec.Cmd) *exec.Cmd {
	r.t.Helper()
	for i := range n {
		r.writeTo(url, fmt.Sprint("run-", i))
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r.await("its requests are open", func() bool { return len(to.requests()) == n })
	r.awaitHeld(n)
	return cmd
}

// TestWhatAKilledWorkerHadIsDeliveredByAnother, within two seconds by the log's figure, and long before the lease ends.
func TestWhatAKilledWorkerHadIsDeliveredByAnother(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), hold(t)
	child := r.leaser(to, to.URL, 4, r.Command("leaser"))
	r.run(leasing(r.config()))
	r.awaitBelievers(2)
	if n := len(to.requests()); n != 4 {
		t.Fatalf("%d requests before anybody died", n)
	}
	killed := time.Now()
	kill(t, child)
	t.Logf("delivered again %v after the SIGKILL", to.firstAgain(t).Sub(killed).Round(time.Millisecond))
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := r.count(`SELECT count(*) FROM outbox.attempt WHERE class = 'lost' AND error LIKE '%worker died%'`); n != 4 {
		t.Errorf("%d of 4 lost attempts say that the worker died", n)
	}
}

// TestWhatAVanishedHostHadIsDeliveredByAnother once the server's keepalives have given it up, which takes six seconds.
func TestWhatAVanishedHostHadIsDeliveredByAnother(t *testing.T) {
	t.Parallel()
	n := faulty.Namespace(t)
	server := testdb.OwnServer(t)
	if err := server.ListenAlso(t.Context(), n.Host); err != nil {
		t.Fatal(err)
	}
	r, to := newRigOn(t, testdb.NewAt(t, server.URL())), hold(t)
	there := *r.DB
	var err error
	if there.URL, err = n.URL(server.URL()); err != nil {
		t.Fatal(err)
	}
	child := r.leaser(to, to.at(t, n.Host.Addr()), 4, n.In(there.Command("leaser")))
	r.run(leasing(r.config()))
	r.awaitBelievers(2)
	n.Down(t)
	down := time.Now()
	_ = child.Process.Kill()
	t.Logf("delivered again %v after the host vanished", to.firstAgain(t).Sub(down).Round(time.Millisecond))
}

// TestARestartOfTheDatabaseKillsNoWorker: all locks are free then. Three workers that live hold requests open meanwhile, and
// none of them is sent by another, though one worker needs three seconds more to find the database than the others.
func TestARestartOfTheDatabaseKillsNoWorker(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t)
	r, to := newRigOn(t, testdb.NewAt(t, server.URL())), hold(t)
	for range 2 {
		r.run(leasing(r.config()))
	}
	pool, proxy := r.throughProxy(t)
	r.runOn(pool, leasing(r.config()))
	r.awaitBelievers(3)
	const messages = 12
	for i := range messages {
		r.writeTo(to.URL, fmt.Sprint("run-", i))
	}
	r.await("its requests are open", func() bool { return len(to.requests()) == messages })
	r.exec(`INSERT INTO outbox.endpoint (endpoint, reason) VALUES ('https://a.test', '')`) // flushes the claims, which did not wait for it
	proxy.Refuse(true)
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Pool.Reset() // the test's own sessions have ended, too
	restarted := time.Now()
	late := time.AfterFunc(3*time.Second, func() { proxy.Refuse(false) })
	defer late.Stop()
	sentinel := r.writeTo(newReceiver(t, nil).URL, "after")
	r.awaitState(sentinel, outbox.StateDelivered)
	t.Logf("a new message was delivered %v after the restart", time.Since(restarted).Round(time.Millisecond))
	r.awaitBelievers(3)
	to.letGo()
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := to.repeated(); n > 0 {
		t.Errorf("%d of %d messages were sent twice, though no worker died", n, messages)
	}
}

// TestAStoppedProcessIsNotDead: its session lives, so its lease decides, and it goes on where it was.
func TestAStoppedProcessIsNotDead(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), hold(t)
	child := r.leaser(to, to.URL, 2, r.Command("leaser"))
	r.run(leasing(r.config()))
	r.awaitBelievers(2)
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second) // longer than a death takes to be believed
	to.letGo()
	if err := child.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := to.repeated(); n > 0 {
		t.Errorf("%d messages were sent twice", n)
	}
}

// TestAWorkerWhoseSessionIsCutTakesItsLockAgain, by the server or on the way, and nothing is sent twice.
func TestAWorkerWhoseSessionIsCutTakesItsLockAgain(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*rig, *faulty.Proxy, int){
		"ended by the server": func(r *rig, _ *faulty.Proxy, pid int) { r.exec(`SELECT pg_terminate_backend($1)`, pid) },
		"lost on the way":     func(_ *rig, p *faulty.Proxy, _ int) { p.Do(faulty.Existing, faulty.CutClient(faulty.RST)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, to := newRig(t), hold(t)
			pool, proxy := r.throughProxy(t)
			r.runOn(pool, leasing(r.config()))
			r.writeTo(to.URL, "run-1")
			r.awaitHeld(1)
			r.run(leasing(r.config()))
			r.awaitBelievers(2)
			session := func() int { return r.count(`SELECT pid FROM outbox.worker ORDER BY started LIMIT 1`) }
			before := session()
			cut(r, proxy, before)
			r.await("it has another session", func() bool { return session() != before })
			time.Sleep(4 * time.Second) // longer than a death takes to be believed
			to.letGo()
			r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
			if n := to.repeated(); n > 0 {
				t.Errorf("%d messages were sent twice", n)
			}
		})
	}
}

// TestAWorkerThatIsCutOffSendsNothingThatItHadClaimedAhead: others take it for dead and deliver all that it has. What it had
// not begun, it does not begin.
func TestAWorkerThatIsCutOffSendsNothingThatItHadClaimedAhead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pool, proxy := r.throughProxy(t)
	released := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(released) })
	times, mu := map[string]map[string]int{}, sync.Mutex{}
	slow, began := false, 0
	to := newReceiver(t, func(_ http.ResponseWriter, req request) {
		agent := req.header.Get("User-Agent")
		mu.Lock()
		if times[req.id] == nil {
			times[req.id] = map[string]int{}
		}
		times[req.id][agent]++
		wait := slow && agent == "first"
		if wait {
			began++
		}
		mu.Unlock()
		if wait {
			<-released
		}
	})
	t.Cleanup(letGo)
	c := leasing(r.config())
	c.UserAgent, c.EndpointMaxInFlight = "first", 4
	w, _ := r.runOn(pool, c)
	r.due(to.URL, 2000, 0) // its answers come quickly, so it claims ahead
	r.await("some are delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.attempt`) > 200 })
	mu.Lock()
	slow = true
	mu.Unlock()
	r.await("all that begin are open", func() bool { mu.Lock(); defer mu.Unlock(); return began == c.EndpointMaxInFlight })
	proxy.Refuse(true)
	proxy.Do(faulty.Existing, faulty.Cut(faulty.RST))
	r.await("it has noticed", w.senders.suspended.Load)
	letGo()
	r.await("its requests have ended", func() bool { return w.scheduler.InFlight() == 0 })
	mu.Lock()
	if began > c.EndpointMaxInFlight {
		t.Errorf("it began %d requests after it was cut off", began-c.EndpointMaxInFlight)
	}
	mu.Unlock()
	c.UserAgent = "second"
	r.run(c)
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	mu.Lock()
	defer mu.Unlock()
	twice := 0
	for _, by := range times {
		if by["first"]+by["second"] > 1 {
			twice++
		}
	}
	t.Logf("%d of 2000 were sent twice", twice)
	if most := c.EndpointMaxInFlight + recording.BatchMax; twice > most { // those that were open, and a batch of answers that was not recorded
		t.Errorf("%d were sent twice", twice)
	}
}

// TestAWorkerNextToItsDatabaseHasTheSameClock: within an hour, however late an answer is here. The first beat has measured nothing yet.
func TestAWorkerNextToItsDatabaseHasTheSameClock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.run(r.config())
	r.await("its row says so", func() bool {
		return r.count(`SELECT count(*) FROM outbox.worker WHERE seen > started + interval '3 s' AND abs(clock_ahead_ms) < 3600000`) == 1
	})
}

// TestAGracefulStopLeavesNoRow.
func TestAGracefulStopLeavesNoRow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, stop := r.run(r.config())
	r.await("it has a row", func() bool { return r.count(`SELECT count(*) FROM outbox.worker WHERE not_ready IS NULL`) == 1 })
	stop()
	if n := r.count(`SELECT count(*) FROM outbox.worker`); n > 0 {
		t.Errorf("%d rows are left", n)
	}
}

// TestASchemaWithoutTheTableIsWorkedOn, and the log says what is missing.
func TestASchemaWithoutTheTableIsWorkedOn(t *testing.T) {
	t.Parallel()
	r, to, lines := newRig(t), newReceiver(t, nil), &logLines{}
	r.exec(`DROP TABLE outbox.worker`)
	c := r.config()
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))
	r.run(c)
	r.awaitState(r.writeTo(to.URL, "run-1"), outbox.StateDelivered)
	r.await("the log says so", func() bool { return lines.count("cannot register") == 1 })
}
