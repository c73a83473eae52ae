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
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// longLease is far longer than these tests take. When another worker delivers a leased message in a test, it does so because
// the first one died, and not because the lease expired.
const longLease = time.Minute

// leasing is the configuration of a worker with a long lease, whose requests may take long.
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

// holding is a receiver that keeps the first request of each message open until letGo is called.
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

// at makes the receiver listen at a second address.
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

// firstAgain waits until a message comes a second time, and returns when it did.
func (h *holding) firstAgain(t *testing.T) time.Time {
	t.Helper()
	select {
	case at := <-h.again:
		return at
	case <-time.After(longLease / 3): // no lease ends that early
		t.Fatal("no message came a second time long before the leases end, want one")
		return time.Time{}
	}
}

// repeated returns how many messages came more than once.
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

// awaitBelievers waits until each of n workers has had its lock for long enough to take another worker for dead.
func (r *rig) awaitBelievers(n int) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d workers have had their locks for 11 s", n), func() bool {
		return r.count(`SELECT count(*) FROM outbox.worker WHERE backend_start < now() - interval '11 s'`) == n
	})
}

// leaser starts the process of a worker that claims n messages, whose requests stay open.
func (r *rig) leaser(to *holding, url string, n int, cmd *exec.Cmd) *exec.Cmd {
	r.t.Helper()
	for i := range n {
		r.writeTo(url, fmt.Sprint("run-", i))
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r.await("all requests are open", func() bool { return len(to.requests()) == n })
	r.awaitHeld(n)
	return cmd
}

// TestMessagesOfAKilledWorkerAreDeliveredByAnother long before the lease ends. The test's log says how soon: two seconds are
// promised.
func TestMessagesOfAKilledWorkerAreDeliveredByAnother(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), hold(t)
	child := r.leaser(to, to.URL, 4, r.Command("leaser"))
	r.run(leasing(r.config()))
	r.awaitBelievers(2)
	if n := len(to.requests()); n != 4 {
		t.Fatalf("%d requests before the worker was killed, want 4", n)
	}
	killed := time.Now()
	kill(t, child)
	t.Logf("delivered again %v after the SIGKILL", to.firstAgain(t).Sub(killed).Round(time.Millisecond))
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := r.count(`SELECT count(*) FROM outbox.attempt WHERE class = 'lost' AND error LIKE '%worker died%'`); n != 4 {
		t.Errorf("%d lost attempts say that the worker died, want 4", n)
	}
}

// TestMessagesOfAVanishedHostAreDeliveredByAnother once the server's keepalives have ended its session, after six seconds.
func TestMessagesOfAVanishedHostAreDeliveredByAnother(t *testing.T) {
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

// TestAfterARestartOfTheDatabaseNoWorkerIsTakenForDead: after it all locks are free. Three living workers have open requests
// meanwhile, and no other worker sends these messages, though one worker reaches the database three seconds after the others.
func TestAfterARestartOfTheDatabaseNoWorkerIsTakenForDead(t *testing.T) {
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
	r.await("all requests are open", func() bool { return len(to.requests()) == messages })
	r.exec(`INSERT INTO outbox.endpoint (endpoint, reason) VALUES ('https://a.test', '')`) // this commit writes the claims' WAL to disk as well, for which the claims did not wait
	proxy.Refuse(true)
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Pool.Reset() // the test's own sessions have ended as well
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
		t.Errorf("%d of %d messages were sent twice, want none: no worker died", n, messages)
	}
}

// TestAStoppedProcessIsNotTakenForDead: its session lives, so it keeps its messages until the lease ends, and it goes on when
// the process does.
func TestAStoppedProcessIsNotTakenForDead(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), hold(t)
	child := r.leaser(to, to.URL, 2, r.Command("leaser"))
	r.run(leasing(r.config()))
	r.awaitBelievers(2)
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second) // longer than it takes until a worker is taken for dead
	to.letGo()
	if err := child.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if n := to.repeated(); n > 0 {
		t.Errorf("%d messages were sent twice, want none", n)
	}
}

// TestAWorkerThatLosesItsSessionTakesItsLockAgain, and nothing is sent twice.
func TestAWorkerThatLosesItsSessionTakesItsLockAgain(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*rig, *faulty.Proxy, int){
		"ended by the server": func(r *rig, _ *faulty.Proxy, pid int) { r.exec(`SELECT pg_terminate_backend($1)`, pid) },
		"lost connection":     func(_ *rig, p *faulty.Proxy, _ int) { p.Do(faulty.Existing, faulty.CutClient(faulty.RST)) },
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
			r.await("the worker has another session", func() bool { return session() != before })
			time.Sleep(4 * time.Second) // longer than it takes until a worker is taken for dead
			to.letGo()
			r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
			if n := to.repeated(); n > 0 {
				t.Errorf("%d messages were sent twice, want none", n)
			}
		})
	}
}

// TestAWorkerThatLosesTheDatabaseBeginsNoRequest: others take it for dead, and deliver the messages that it had claimed. So it
// sends none of those that it had claimed ahead.
func TestAWorkerThatLosesTheDatabaseBeginsNoRequest(t *testing.T) {
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
	r.due(to.URL, 2000, 0) // the answers come quickly, so the worker claims ahead
	r.await("some messages are delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.attempt`) > 200 })
	mu.Lock()
	slow = true
	mu.Unlock()
	r.await("the worker's window is full of open requests", func() bool { mu.Lock(); defer mu.Unlock(); return began == c.EndpointMaxInFlight })
	proxy.Refuse(true)
	proxy.Do(faulty.Existing, faulty.Cut(faulty.RST))
	r.await("the worker has noticed that it lost its session", w.senders.suspended.Load)
	letGo()
	r.await("the worker's requests have ended", func() bool { return w.scheduler.InFlight() == 0 })
	mu.Lock()
	if began > c.EndpointMaxInFlight {
		t.Errorf("the worker began %d requests after it lost the database, want none", began-c.EndpointMaxInFlight)
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
	if most := c.EndpointMaxInFlight + recording.BatchMax; twice > most { // the open requests, and one batch of answers that was not recorded
		t.Errorf("%d messages were sent twice, want %d at most", twice, most)
	}
}

// TestWhatAClaimBringsWhileNoRequestMayBeginGoesBack at once and uncounted, long before its lease ends.
func TestWhatAClaimBringsWhileNoRequestMayBeginGoesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w, err := New(r.NewPool(t, nil), leasing(r.config())) // which does not run, so that nothing else claims or resumes
	must(t, err)
	must(t, w.assemble())
	t.Cleanup(w.pool.Close)
	id := r.writeTo("http://127.0.0.1", "run-1")
	leased := func() int { return r.count(`SELECT count(*) FROM outbox.due WHERE locked_by = $1`, w.name) }
	w.senders.suspend()
	w.loops.claim(t.Context(), schedule.Order{Most: 1, Turns: []schedule.Turn{{Endpoint: "http://127.0.0.1", Most: 1}}})
	if n := leased(); n != 1 {
		t.Fatalf("it claimed %d messages", n)
	}
	w.recorder.Close()
	w.recorder.Run(t.Context())
	if d := r.state(id); leased() != 0 || d.Attempts != 0 || w.scheduler.InFlight() != 0 {
		t.Errorf("%d leased after %d attempts, %d requests begun", leased(), d.Attempts, w.scheduler.InFlight())
	}
}

// TestAWorkersRowHoldsTheDifferenceOfTheClocks: on one machine it is less than an hour, however slow an answer is. The first
// beat has measured nothing yet.
func TestAWorkersRowHoldsTheDifferenceOfTheClocks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.run(r.config())
	r.await("the worker's row holds a difference of less than an hour", func() bool {
		return r.count(`SELECT count(*) FROM outbox.worker WHERE seen > started + interval '3 s' AND abs(clock_ahead_ms) < 3600000`) == 1
	})
}

func TestAGracefulStopRemovesTheWorkersRow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, stop := r.run(r.config())
	r.await("the worker has a row", func() bool { return r.count(`SELECT count(*) FROM outbox.worker WHERE not_ready IS NULL`) == 1 })
	stop()
	if n := r.count(`SELECT count(*) FROM outbox.worker`); n > 0 {
		t.Errorf("%d rows are left, want none", n)
	}
}

// TestAWorkerDeliversWithoutTheTableOfWorkers, and the log says what is missing.
func TestAWorkerDeliversWithoutTheTableOfWorkers(t *testing.T) {
	t.Parallel()
	r, to, lines := newRig(t), newReceiver(t, nil), &logLines{}
	r.exec(`DROP TABLE outbox.worker`)
	c := r.config()
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))
	r.run(c)
	r.awaitState(r.writeTo(to.URL, "run-1"), outbox.StateDelivered)
	r.await("the log says that the worker cannot register", func() bool { return lines.count("cannot register") == 1 })
}
