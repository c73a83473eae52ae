package worker

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/database"
)

// throughProxy returns a pool that reaches the test's server through a proxy, which can break connections.
func (r *rig) throughProxy(t *testing.T) (*pgxpool.Pool, *faulty.Proxy) {
	t.Helper()
	proxy, url := faulty.Between(t, r.URL)
	through, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return r.NewPool(t, func(c *pgxpool.Config) {
		c.ConnConfig.Host, c.ConnConfig.Port, c.ConnConfig.Fallbacks = through.ConnConfig.Host, through.ConnConfig.Port, nil
	}), proxy
}

// TestAWorkerDoesNotWaitForItsOwnDeadSession: when the end of a batch never reaches the server, a backend stays that holds
// the batch's rows. The worker ends that backend and goes on. The answer counts once, and other messages do not wait.
func TestAWorkerDoesNotWaitForItsOwnDeadSession(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{"a record": "finished AS", "a claim": "picked AS"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			pool, proxy := r.throughProxy(t)
			to := newReceiver(t, nil)
			lines := &logLines{}
			c := r.config()
			c.Lease, c.Logger = time.Minute, slog.New(slog.NewTextHandler(lines, nil))
			armed := proxy.On(faulty.AfterStatement(statement, 1), faulty.CutClient(faulty.RST))
			r.runOn(pool, c)
			first := r.writeTo(to.URL, "run-1")
			<-armed.Fired()
			second := r.writeTo(to.URL, "run-2")
			r.awaitState(second, outbox.StateDelivered)
			if d := r.awaitState(first, outbox.StateDelivered); d.Attempts != 1 {
				t.Errorf("the first message has %d attempts, want 1", d.Attempts)
			}
			if n := len(to.requests()); n != 2 {
				t.Errorf("the receiver got %d requests, want 2", n)
			}
			if n := lines.count("ended sessions of this worker"); n != 1 {
				t.Errorf("the log says %d times that a session was ended, want once", n)
			}
		})
	}
}

// TestAWorkerReplacesSilentConnections: every connection loses what is sent, as if the server's host had vanished. The worker
// delivers what is due over new connections.
func TestAWorkerReplacesSilentConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pool, proxy := r.throughProxy(t)
	to := newReceiver(t, nil)
	r.runOn(pool, r.config())
	r.awaitState(r.writeTo(to.URL, "run-1"), outbox.StateDelivered)
	proxy.Do(faulty.Existing, faulty.Freeze(faulty.Both))
	r.awaitState(r.writeTo(to.URL, "run-2"), outbox.StateDelivered)
}

// TestAfterAStallWhatIsDueIsTriedWithinTwoPolls: the database answers nothing for a while.
func TestAfterAStallWhatIsDueIsTriedWithinTwoPolls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	c := r.config()
	c.PollInterval = time.Second
	r.run(c)
	r.awaitState(r.writeTo(to.URL, "run-1"), outbox.StateDelivered)
	release := faulty.Hold(t, r.Pool, inSchema(`LOCK TABLE outbox.endpoint IN ACCESS EXCLUSIVE MODE`, r.Schema))
	id := r.writeTo(to.URL, "run-2")
	r.await("scans and claims were refused for a while", func() bool {
		return r.count(`SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass`, r.Schema+".endpoint") > 0
	})
	time.Sleep(3 * time.Second) // the stall
	release()
	released := time.Now()
	r.awaitState(id, outbox.StateDelivered)
	if took := time.Since(released); took > 15*c.PollInterval { // 2 are promised; a loaded machine needs more
		t.Errorf("the message was delivered %v after the stall ended, want 15 poll intervals of %v at most", took, c.PollInterval)
	}
}

// childHolder is a child process with a worker's session. Its open transaction has locked every due row when its host vanishes.
func childHolder() int {
	url, schema := testdb.ChildDatabase()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	config.MaxConns = ConnsMin
	pool, err := database.Open(config, "", slog.Default(), nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	conn, err := pool.Acquire(context.Background())
	if err == nil {
		_, err = conn.Exec(context.Background(), inSchema(`BEGIN; SELECT FROM outbox.due FOR UPDATE`, schema))
	}
	fmt.Println("held", err)
	select {}
}

// TestTheRowsThatAVanishedHostHadLockedAreDelivered: the server ends its session by the keepalives that the worker sets. By
// the kernel's default, that would take two hours.
func TestTheRowsThatAVanishedHostHadLockedAreDelivered(t *testing.T) {
	t.Parallel()
	n := faulty.Namespace(t)
	server := testdb.OwnServer(t)
	if err := server.ListenAlso(t.Context(), n.Host); err != nil {
		t.Fatal(err)
	}
	r := newRigOn(t, testdb.NewAt(t, server.URL()))
	id := r.writeTo(newReceiver(t, nil).URL, "run-1")
	url, err := n.URL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	there := *r.DB
	there.URL = url
	child := n.In(there.Command("holder"))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	said, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || said != "held <nil>\n" {
		t.Fatalf("the child says %q: %v; want that it holds the rows", said, err)
	}
	n.Down(t)
	_ = child.Process.Kill()
	r.run(r.config())
	r.awaitState(id, outbox.StateDelivered)
}
