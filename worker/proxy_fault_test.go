package worker

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// proxyFaults are ways of a proxy to fail that say nothing of the endpoint, and what the message then waits for.
func proxyFaults() map[string]proxyFailure {
	answers := func(text string) func(net.Conn) { return converse(text) }
	faults := map[string]proxyFailure{
		"wants other credentials":  {"http", answers("HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\n\r\n"), "407"},
		"forbids":                  {"http", answers("HTTP/1.1 403 Forbidden\r\n\r\n"), "403"},
		"has a fault":              {"http", answers("HTTP/1.1 500 Oops\r\n\r\n"), "500"},
		"redirects":                {"http", answers("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n"), "302"},
		"hangs":                    {"http", hang, "did not answer in time"},
		"hangs in its answer":      {"http", func(conn net.Conn) { drip(conn, "HTTP/1.1 200 OK\r\nX-Slow: ", "a") }, "did not answer in time"},
		"says garbage":             {"http", answers("\x00\xff garbage\r\n\r\n"), "not HTTP"},
		"echoes":                   {"http", func(conn net.Conn) { _, _ = io.Copy(conn, conn) }, "not HTTP"},
		"closes at once":           {"http", func(net.Conn) {}, "proxy:"},
		"closes after the request": {"http", answers(""), "closed the connection"},
		"has an endless head":      {"http", func(conn net.Conn) { repeatAfter(conn, "HTTP/1.1 200 OK\r\n", "X-More: and more\r\n") }, "not HTTP"},
		"has an endless line":      {"http", func(conn net.Conn) { repeatAfter(conn, "HTTP/1.1 200 ", "OK OK OK ") }, "not HTTP"},
		"speaks no TLS":            {"https", answers("HTTP/1.1 400 Bad Request\r\n\r\n"), "TLS handshake"},
		"hangs in TLS":             {"https", hang, "did not answer in time"},
		"refuses the user":         {"socks5", converse("\x05\x02", "\x01\x01"), "refused user and password"},
		"knows no passwords":       {"socks5", converse("\x05\xff"), "way to authenticate"},
		"has no user in mind":      {"socks5", converse("\x05\x00"), "way to authenticate"},
		"speaks SOCKS4":            {"socks5", converse("\x00\x5a\x00\x00\x00\x00\x00\x00"), "way to authenticate"},
		"speaks HTTP":              {"socks5", converse("HTTP/1.1 400 Bad Request\r\n\r\n"), "way to authenticate"},
		"hangs at the greeting":    {"socks5", hang, "did not answer in time"},
		"hangs at the password":    {"socks5", func(conn net.Conn) { converse("\x05\x02")(conn); hang(conn) }, "did not answer in time"},
		"closes in its greeting":   {"socks5", converse("\x05"), "proxy:"},
		"says another version":     {"socks5", converse("\x05\x02", "\x01\x00", "\x04\x00\x00\x01\x00\x00"), "does not speak SOCKS5"},
		"answers an unknown kind":  {"socks5", converse("\x05\x02", "\x01\x00", "\x05\x00\x00\x07\x00\x00"), "kind 7"},
		"closes in its reply":      {"socks5", converse("\x05\x02", "\x01\x00", "\x05\x00"), "proxy:"},
	}
	for _, reply := range []int{1, 2, 7, 8, 99} {
		text := fmt.Sprintf("\x05%c\x00\x01\x00\x00\x00\x00\x00\x00", reply)
		faults[fmt.Sprint("replies ", reply)] = proxyFailure{"socks5", converse("\x05\x02", "\x01\x00", text), fmt.Sprint("reply ", reply)}
	}
	return faults
}

type proxyFailure struct {
	kind string
	how  func(net.Conn)
	says string
}

// converse answers each thing that is said with the next of its lines, and then closes.
func converse(lines ...string) func(net.Conn) {
	return func(conn net.Conn) {
		for _, line := range lines {
			if _, err := conn.Read(make([]byte, 4<<10)); err != nil {
				return
			}
			_, _ = io.WriteString(conn, line)
		}
	}
}

func repeatAfter(conn net.Conn, first, chunk string) {
	_, _ = io.WriteString(conn, first)
	repeat(conn, chunk, nil)
}

// TestAFaultOfTheProxyIsNobodysAttempt: what it says is what the message waits for, without the password that an echo
// would give away.
func TestAFaultOfTheProxyIsNobodysAttempt(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	identity := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
	to := newReceiver(t, nil)
	for what, f := range proxyFaults() {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := newEgress(t, f.kind, proxyUser+":"+proxyPassword, tunnels, identity)
			p.breaks(f.how)
			c := direct("127.0.0.1")
			c.ProxyURL, c.CAFile, c.ConnectTimeout = p.URL, ca.file(t), time.Second
			wantWait(t, deliverOnce(t, c, messageTo(to.URL)), f.says)
			if strings.Contains(errSilent.Error(), f.says) { // also when the message's own time passes first
				c.ConnectTimeout, c.DeliveryTimeout = time.Hour, time.Second
				wantWait(t, deliverOnce(t, c, messageTo(to.URL)), f.says)
			}
			p.breaks(nil)
			c.ConnectTimeout, c.DeliveryTimeout = testPatience, testPatience
			if a := deliverOnce(t, c, messageTo(to.URL)); a.class != classDelivered {
				t.Errorf("once it is well: %s: %s %s", a.class, a.err, a.waitsFor)
			}
		})
	}
}

func wantWait(t *testing.T, a answer, says string) {
	t.Helper()
	if a.class != "" || a.err != "" || !strings.HasPrefix(a.waitsFor, "proxy: ") || !strings.Contains(a.waitsFor, says) || len(a.waitsFor) > 300 {
		t.Errorf("class %q, %q, waits for %.300q; want only a wait that says %q", a.class, a.err, a.waitsFor, says)
	}
	wantNoSecret(t, "what it waits for", a.waitsFor)
}

func TestAnHTTPSProxyIsVerified(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	for what, f := range map[string]struct {
		certificate tls.Certificate
		roots       *authority
		says        string
	}{
		"by another authority": {other.issue(t, nil), ca, "unknown authority"},
		"for another name":     {ca.issue(t, func(c *x509.Certificate) { c.IPAddresses = nil }), ca, "127.0.0.1"},
	} {
		p := newEgress(t, "https", proxyUser+":"+proxyPassword, tunnels, &tls.Config{Certificates: []tls.Certificate{f.certificate}})
		c := direct("127.0.0.1")
		c.ProxyURL, c.CAFile = p.URL, f.roots.file(t)
		wantWait(t, deliverOnce(t, c, messageTo("http://127.0.0.1:9/")), f.says)
		if got := p.targets(); len(got) != 0 {
			t.Errorf("%s: it was asked for %q", what, got)
		}
	}
}

// TestAMessageWaitsForItsProxy, end to end: it is pending, no attempt is counted, the row says what it waits for, and it
// goes out once the proxy is well. The password is in no row and no log.
func TestAMessageWaitsForItsProxy(t *testing.T) {
	t.Parallel()
	for what, f := range map[string]proxyFailure{
		"is down":                 {"http", nil, "connection refused"},
		"hangs":                   proxyFaults()["hangs"],
		"echoes":                  proxyFaults()["echoes"],
		"wants other credentials": proxyFaults()["wants other credentials"],
		"refuses the user":        proxyFaults()["refuses the user"],
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r, logged, to := newRig(t), &logBuffer{}, newReceiver(t, nil)
			p := newEgress(t, f.kind, proxyUser+":"+proxyPassword, tunnels, nil)
			p.breaks(f.how)
			c := r.patient()
			c.ProxyURL, c.Logger = p.URL, logged.logger()
			if strings.Contains(errSilent.Error(), f.says) {
				c.ConnectTimeout = time.Second
			}
			if f.how == nil {
				c.ProxyURL = strings.Replace(p.URL, strings.TrimPrefix(p.URL[strings.LastIndex(p.URL, "@"):], "@"), freeAddress(t), 1)
			}
			id := r.writeTo(to.URL, "run-1")
			_, stop := r.run(c)
			r.await("the message waits", func() bool { return r.state(id).WaitsFor != nil })
			d := r.state(id)
			if d.State != outbox.StatePending || d.Attempts != 0 || len(d.AttemptList) != 0 || !strings.Contains(*d.WaitsFor, f.says) {
				t.Errorf("%s after %d attempts, waits for %q, want %q", d.State, d.Attempts, *d.WaitsFor, f.says)
			}
			if n := r.count(`SELECT count(*) FROM outbox.due WHERE due_at > now() + interval '20 s' AND locked_by IS NULL`); n != 1 {
				t.Error("it does not wait")
			}
			wantNoSecret(t, "a row", r.everyRow())
			if f.how == nil { // a worker that was told of the right proxy
				stop()
				c.ProxyURL = p.URL
				r.run(c)
			}
			p.breaks(nil)
			r.exec(`UPDATE outbox.due SET due_at = now()`) // by the database's clock the wait goes by
			if d := r.awaitState(id, outbox.StateDelivered); d.Attempts != 1 || len(d.AttemptList) != 1 || d.WaitsFor != nil {
				t.Errorf("delivered after %d attempts, %d in the list, waits for %v", d.Attempts, len(d.AttemptList), d.WaitsFor)
			}
			wantNoSecret(t, "the log", logged.String())
			if !strings.Contains(logged.String(), "waits_for") {
				t.Error("the log does not say what is waited for")
			}
		})
	}
}

// freeAddress is one where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l := listenOn(t, "127.0.0.7")[0]
	_ = l.Close()
	return l.Addr().String()
}

// everyRow is all that the schema's tables hold, River's included, as text.
func (r *rig) everyRow() (text string) {
	r.t.Helper()
	rows, err := r.Pool.Query(r.t.Context(), `SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r'`, r.Schema)
	if err != nil {
		r.t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		r.t.Fatal(err)
	}
	for _, table := range tables {
		var all string
		sql := `SELECT coalesce(string_agg(t::text, E'\n'), '') FROM ` + pgx.Identifier{r.Schema, table}.Sanitize() + ` t`
		if err := r.Pool.QueryRow(r.t.Context(), sql).Scan(&all); err != nil {
			r.t.Fatal(err)
		}
		text += table + "\n" + all + "\n"
	}
	return text
}

func wantNoSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{
		proxyPassword, "hunter2", url.UserPassword(proxyUser, proxyPassword).String(),
		base64.StdEncoding.EncodeToString([]byte(proxyUser + ":" + proxyPassword)),
	} {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds the password: %s", where, text)
		}
	}
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
