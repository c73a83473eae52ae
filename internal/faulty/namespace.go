package faulty

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Netns is a network namespace. A link joins it to this host, like the cable of another host.
type Netns struct {
	// Name is the name of the namespace for `ip netns`.
	Name string
	// Host is this host's address on the link, with the network of the link. The namespace can reach a server that listens
	// there: throwaway.Server.ListenAlso, or [NewProxyOn].
	Host netip.Prefix
	// Peer is the namespace's address on the link.
	Peer netip.Addr

	hostDevice string
	peerDevice string
}

// The namespace's name is the prefix, our pid and an id; the devices' names are made from the id alone, because the
// kernel allows 15 characters.
const (
	namespacePrefix = "epilogue-"
	devicePrefix    = "epi"
	ipMax           = 10 * time.Second // for one command of ip
)

// Namespace makes a namespace with its own link and private network, which are removed when the test ends. First it removes
// the namespaces that killed tests have left. If namespaces cannot be made, the test is skipped, with the reason.
func Namespace(t testing.TB) *Netns {
	t.Helper()
	if reason := namespaceMissing(); reason != "" {
		t.Skip("faulty: no network namespace: " + reason) // it needs Linux, root and ip
	}
	sweepNamespaces(t)
	var err error
	const attemptsMax = 5 // another process can choose the same network at the same time
	for range attemptsMax {
		var n *Netns
		if n, err = newNamespace(); err != nil {
			continue
		}
		if err = n.build(); err == nil {
			t.Cleanup(func() {
				if err := n.remove(); err != nil {
					t.Errorf("faulty: %v", err)
				}
			})
			return n
		}
		_ = n.remove() // the part that build has made
		if refused(err) {
			t.Skipf("faulty: no network namespace: %v", err)
		}
	}
	t.Fatalf("faulty: %v", err)
	return nil
}

func namespaceMissing() string {
	if runtime.GOOS != "linux" {
		return "only Linux has them"
	}
	if os.Geteuid() != 0 {
		return "only root can make one"
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return "the program ip is missing (package iproute2)"
	}
	return ""
}

// refused reports whether the kernel, or the container that this process runs in, does not allow namespaces.
func refused(err error) bool {
	for _, text := range []string{"Operation not permitted", "Operation not supported", "Permission denied", "Read-only file system", "Unknown device type"} {
		if strings.Contains(err.Error(), text) { // ip reports this only as text
			return true
		}
	}
	return false
}

// newNamespace chooses names, and a network of four addresses from 10.64.0.0/10 that no address of this host is in.
func newNamespace() (*Netns, error) {
	const attemptsMax = 100
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for range attemptsMax {
		r := rand.Uint32()
		base := netip.AddrFrom4([4]byte{10, 64 | byte(r>>16)&63, byte(r >> 8), byte(r) &^ 3})
		host := base.Next()
		network := netip.PrefixFrom(host, 30)
		if overlaps(network, taken) {
			continue
		}
		id := fmt.Sprintf("%08x", rand.Uint32())
		return &Netns{
			Name: fmt.Sprintf("%s%d-%s", namespacePrefix, os.Getpid(), id), Host: network, Peer: host.Next(),
			hostDevice: devicePrefix + id + "h", peerDevice: devicePrefix + id + "p",
		}, nil
	}
	return nil, errors.New("no free network in 10.64.0.0/10")
}

func overlaps(network netip.Prefix, taken []net.Addr) bool {
	for _, addr := range taken {
		if other, err := netip.ParsePrefix(addr.String()); err == nil && other.Overlaps(network) {
			return true
		}
	}
	return false
}

func (n *Netns) build() error {
	peer := netip.PrefixFrom(n.Peer, n.Host.Bits())
	for _, args := range [][]string{
		{"netns", "add", n.Name},
		{"link", "add", n.hostDevice, "type", "veth", "peer", "name", n.peerDevice, "netns", n.Name},
		{"addr", "add", n.Host.String(), "dev", n.hostDevice},
		{"link", "set", n.hostDevice, "up"},
		{"-netns", n.Name, "addr", "add", peer.String(), "dev", n.peerDevice},
		{"-netns", n.Name, "link", "set", "lo", "up"},
		{"-netns", n.Name, "link", "set", n.peerDevice, "up"},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

// Command prepares a program to run in the namespace. The process that it starts is the program itself: killing it kills the
// program. When the test ends, all that runs in the namespace is killed. A program that has just been started may not be in it
// yet, so wait until the program prints something.
func (n *Netns) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.Name, program}, args...)...)
}

// In moves a prepared command, such as testdb.DB.Command, into the namespace.
func (n *Netns) In(cmd *exec.Cmd) *exec.Cmd {
	moved := n.Command(context.Background(), cmd.Path, cmd.Args[1:]...)
	moved.Env, moved.Dir, moved.Stdin, moved.Stdout, moved.Stderr = cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr
	return moved
}

// Down takes the link down. Both sides' packets are dropped, FIN and RST included: each side sees the other one vanish.
func (n *Netns) Down(t testing.TB) {
	t.Helper()
	n.link(t, "down")
}

// Up brings the link back. TCP then sends again what it has not given up.
func (n *Netns) Up(t testing.TB) {
	t.Helper()
	n.link(t, "up")
}

func (n *Netns) link(t testing.TB, state string) {
	t.Helper()
	if err := ip("-netns", n.Name, "link", "set", n.peerDevice, state); err != nil {
		t.Fatalf("faulty: %v", err)
	}
}

// URL returns the database's URL as seen from the namespace: the server's port at the host's address. The server must
// listen there.
func (n *Netns) URL(databaseURL string) (string, error) {
	config, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		return "", fmt.Errorf("faulty: the database's URL: %w", err)
	}
	return withAddress(databaseURL, n.Host.Addr().String(), strconv.Itoa(int(config.Port)))
}

func (n *Netns) remove() error { return removeNamespace(n.Name) }

// removeNamespace kills what runs in the namespace, because running processes keep it alive, and removes it and its link. The
// namespace may be incomplete.
func removeNamespace(name string) error {
	if out, err := ipOutput("netns", "pids", name); err == nil {
		for _, field := range strings.Fields(out) {
			if pid, err := strconv.Atoi(field); err == nil {
				if process, err := os.FindProcess(pid); err == nil {
					_ = process.Kill()
				}
			}
		}
	}
	id := name[strings.LastIndex(name, "-")+1:]
	if err := ip("link", "del", devicePrefix+id+"h"); err != nil && !absent(err) {
		return err
	}
	if err := ip("netns", "del", name); err != nil && !absent(err) {
		return err
	}
	return nil
}

func absent(err error) bool {
	return strings.Contains(err.Error(), "Cannot find device") || strings.Contains(err.Error(), "No such file")
}

// sweepNamespaces removes the namespaces whose process has ended.
func sweepNamespaces(t testing.TB) {
	out, err := ipOutput("netns", "list")
	if err != nil {
		return // making a namespace will report the cause
	}
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		maker, ok := strings.CutPrefix(name, namespacePrefix)
		maker, _, hasID := strings.Cut(maker, "-")
		pid, err := strconv.Atoi(maker)
		if !ok || !hasID || err != nil || pidLives(pid) {
			continue
		}
		if err := removeNamespace(name); err != nil {
			t.Logf("faulty: could not remove %s, which a killed test has left: %v", name, err)
			continue
		}
		t.Logf("faulty: removed %s, which a killed test had left", name)
	}
}

func pidLives(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = process.Release() }()
	return process.Signal(syscall.Signal(0)) == nil
}

func ip(args ...string) error {
	_, err := ipOutput(args...)
	return err
}

func ipOutput(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), ipMax)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
