package worker

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
)

func TestLoopbackIsRefusedAndNotReached(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newSocket(t, hang)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(to.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]"} {
		urls = append(urls, "http://"+host+":"+port, "https://"+host+":"+port)
	}
	ids := r.writeAll(urls...)
	c := r.config()
	c.AllowedCIDRs = nil
	r.run(c)
	for i, id := range ids {
		d := r.awaitState(id, outbox.StateDead)
		if *d.DeadReason != "refused" || d.AttemptList[0].Class != delivery.ClassBlocked || d.Attempts != 1 {
			t.Errorf("%s: the message is dead as %s after %d attempts, of class %s; want it refused and blocked after 1", urls[i], *d.DeadReason, d.Attempts, d.AttemptList[0].Class)
		}
	}
	if n := to.conns.Load(); n != 0 {
		t.Errorf("%d connections were made, want none", n)
	}
}

func TestPlainHTTPIsRefusedUnlessItIsAllowed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newSocket(t, hang)
	ids := r.writeAll(to.URL, strings.Replace(to.URL, "http:", "HTTP:", 1))
	c := r.config()
	c.AllowHTTP = false
	r.run(c)
	for _, id := range ids {
		d := r.awaitState(id, outbox.StateDead)
		if *d.DeadReason != "refused" || *d.LastClass != delivery.ClassBlocked || !strings.Contains(*d.DeadError, "AllowHTTP") {
			t.Errorf("the message is dead as %s, of class %s: %s; want it refused and blocked, for AllowHTTP", *d.DeadReason, *d.LastClass, *d.DeadError)
		}
	}
	if n := to.conns.Load(); n != 0 {
		t.Errorf("%d connections were made, want none", n)
	}
}

func TestTheDatabaseIsNeverDeliveredTo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	at := r.Pool.Config().ConnConfig
	host := at.Host
	if strings.HasPrefix(host, "/") {
		t.Skip("this database is behind a Unix socket")
	}
	id := r.writeAll(fmt.Sprintf("http://%s/", net.JoinHostPort(host, fmt.Sprint(at.Port))))[0]
	c := r.config()
	c.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	r.run(c)
	if d := r.awaitState(id, outbox.StateDead); *d.LastClass != delivery.ClassBlocked || !strings.Contains(*d.DeadError, "the database") {
		t.Errorf("the attempt is of class %s: %s; want it blocked, because it leads to the database", *d.LastClass, *d.DeadError)
	}
}
