package faulty_test

import (
	"bufio"
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// holdInNamespace starts a process in the namespace that holds the lock on the server.
func holdInNamespace(t *testing.T, n *faulty.Netns, databaseURL string) *exec.Cmd {
	t.Helper()
	db := testdb.NewEmpty(t)
	cmd := n.In(db.Command(holderChild, urlVariable+"="+databaseURL))
	stdin, err := cmd.StdinPipe() // it stays open, so the child goes on
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the child prints %q, %v; want held", line, err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // the error says that it was killed
}

// listening returns a server that only this test uses and that the namespace can reach, and its URL there.
func listening(t *testing.T, n *faulty.Netns, settings map[string]string) (server *throwaway.Server, url string) {
	t.Helper()
	server, err := throwaway.Start(bounded(t), throwaway.Options{Own: true, Settings: settings, Log: t.Logf})
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	must(t, server.ListenAlso(bounded(t), n.Host))
	url, err = n.URL(server.URL())
	must(t, err)
	return server, url
}

func TestAServerDoesNotNoticeThatAHostHasVanished(t *testing.T) {
	t.Parallel()
	n := faulty.Namespace(t)
	server, url := listening(t, n, nil)
	child := holdInNamespace(t, n, url)
	conn := connect(t, server.URL())

	n.Down(t)
	kill(t, child)
	if ask[bool](t, conn, "SELECT pg_try_advisory_lock($1)", lockKey) {
		t.Error("the lock is free, want the vanished host's session to hold it")
	}
	n.Up(t)                                                  // now the kernel sends the dead process's FIN again
	execute(t, conn, "SELECT pg_advisory_lock($1)", lockKey) // returns once the backend has ended
}

// The kernel sends keepalives only while all sent data is acknowledged. Data that is not acknowledged is sent again until
// tcp_user_timeout, which by the system's default is a quarter of an hour.
func TestKeepalivesEndTheSessionOfAHostThatHasVanished(t *testing.T) {
	t.Parallel()
	n := faulty.Namespace(t)
	server, url := listening(t, n, map[string]string{
		"tcp_keepalives_idle": "1", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "2",
		"tcp_user_timeout": "3000",
	})
	child := holdInNamespace(t, n, url)
	n.Down(t)
	kill(t, child)
	execute(t, connect(t, server.URL()), "SELECT pg_advisory_lock($1)", lockKey) // returns once the backend has ended
	if log := server.LogTail(); !strings.Contains(log, "could not receive data from client") {
		t.Errorf("the server's log is %s\nwant that it could not receive data from the client", log)
	}
}

func TestAProxyCanListenForANamespace(t *testing.T) {
	t.Parallel()
	n := faulty.Namespace(t)
	db := testdb.NewEmpty(t)
	target, err := faulty.Target(db.URL)
	must(t, err)
	p, err := faulty.NewProxyOn(n.Host.Addr().String()+":0", target)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	url, err := p.URL(db.URL)
	must(t, err)
	child := holdInNamespace(t, n, url)
	kill(t, child)
	eventually(t, "the proxy sees that the process's connection has ended", func() bool { return p.Counts().Open == 0 })
}

func TestANamespaceIsRemovedWithAllThatRunsInIt(t *testing.T) {
	t.Parallel()
	var name string
	var run *exec.Cmd
	t.Run("its test", func(t *testing.T) {
		n := faulty.Namespace(t)
		name = n.Name
		run = n.Command(context.Background(), "sh", "-c", "echo inside; exec sleep 600")
		out, err := run.StdoutPipe()
		must(t, err)
		must(t, run.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "inside\n" {
			t.Fatalf("the program prints %q, %v; want inside", line, err)
		}
	})
	if run == nil {
		t.Skip("there is no namespace; the subtest says why")
	}
	if err := within(t, "the process ends", inBackground(t, run.Wait)); err == nil {
		t.Error("the process ended without an error, want that it was killed")
	}
	out, err := exec.Command("ip", "netns", "list").Output()
	must(t, err)
	if strings.Contains(string(out), name) {
		t.Errorf("the namespace is still there, want it removed: %s", out)
	}
}

func TestTheNamespaceOfAKilledTestIsSwept(t *testing.T) {
	t.Parallel()
	faulty.Namespace(t) // skips the test if namespaces cannot be made
	left := faulty.LeaveNamespace(t)
	faulty.Namespace(t)
	out, err := exec.Command("ip", "netns", "list").Output()
	must(t, err)
	if strings.Contains(string(out), left) {
		t.Errorf("the namespace is still there, want it removed: %s", out)
	}
}
