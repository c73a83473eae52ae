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
	stdin, err := cmd.StdinPipe() // that stays open
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it says that it was killed
}

// listening returns a server of this test's own that can be reached from the namespace, and its URL there.
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

func TestAServerIsNotToldThatAHostHasVanished(t *testing.T) {
	t.Parallel()
	n := faulty.Namespace(t)
	server, url := listening(t, n, nil)
	child := holdInNamespace(t, n, url)
	conn := connect(t, server.URL())

	n.Down(t)
	kill(t, child)
	if ask[bool](t, conn, "SELECT pg_try_advisory_lock($1)", lockKey) {
		t.Error("the lock is free")
	}
	n.Up(t)                                                  // and the kernel sends the dead process's FIN again
	execute(t, conn, "SELECT pg_advisory_lock($1)", lockKey) // returns once the backend has ended
}

// Keepalives are sent only while nothing is unacknowledged. An answer that was on its way is sent again for
// tcp_user_timeout; with the system's default, for a quarter of an hour.
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
		t.Errorf("%s", log)
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
	eventually(t, "the proxy sees that the process is dead", func() bool { return p.Counts().Open == 0 })
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
			t.Fatalf("the program says %q, %v", line, err)
		}
	})
	if run == nil {
		t.Skip("no namespace: the test inside says why")
	}
	if err := within(t, "the process ends", inBackground(t, run.Wait)); err == nil {
		t.Error("the process was not killed")
	}
	out, err := exec.Command("ip", "netns", "list").Output()
	must(t, err)
	if strings.Contains(string(out), name) {
		t.Errorf("it is left behind: %s", out)
	}
}

func TestTheNamespaceOfAKilledTestIsSwept(t *testing.T) {
	t.Parallel()
	faulty.Namespace(t) // or skip
	left := faulty.LeaveNamespace(t)
	faulty.Namespace(t)
	out, err := exec.Command("ip", "netns", "list").Output()
	must(t, err)
	if strings.Contains(string(out), left) {
		t.Errorf("it is left behind: %s", out)
	}
}
