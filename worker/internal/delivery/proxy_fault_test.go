package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// proxyFailure is a failure of a proxy that says nothing about the endpoint, and the text of what the message waits for then.
type proxyFailure struct {
	kind string
	how  func(net.Conn)
	says string
}

func proxyFaults() map[string]proxyFailure {
	answers := func(text string) func(net.Conn) { return converse(text) }
	faults := map[string]proxyFailure{
		"wants other credentials":    {"http", answers("HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\n\r\n"), "407"},
		"forbids":                    {"http", answers("HTTP/1.1 403 Forbidden\r\n\r\n"), "403"},
		"has a fault":                {"http", answers("HTTP/1.1 500 Oops\r\n\r\n"), "500"},
		"redirects":                  {"http", answers("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n"), "302"},
		"hangs":                      {"http", hang, "did not answer in time"},
		"hangs in its answer":        {"http", func(conn net.Conn) { drip(conn, "HTTP/1.1 200 OK\r\nX-Slow: ", "a") }, "did not answer in time"},
		"says garbage":               {"http", answers("\x00\xff garbage\r\n\r\n"), "not HTTP"},
		"echoes":                     {"http", func(conn net.Conn) { _, _ = io.Copy(conn, conn) }, "not HTTP"},
		"closes at once":             {"http", func(net.Conn) {}, "proxy:"},
		"closes after the request":   {"http", answers(""), "closed the connection"},
		"has an endless head":        {"http", func(conn net.Conn) { repeatAfter(conn, "HTTP/1.1 200 OK\r\n", "X-More: and more\r\n") }, "not HTTP"},
		"has an endless line":        {"http", func(conn net.Conn) { repeatAfter(conn, "HTTP/1.1 200 ", "OK OK OK ") }, "not HTTP"},
		"does not speak TLS":         {"https", answers("HTTP/1.1 400 Bad Request\r\n\r\n"), "TLS handshake"},
		"hangs in TLS":               {"https", hang, "did not answer in time"},
		"refuses the user":           {"socks5", converse("\x05\x02", "\x01\x01"), "refused user and password"},
		"does not support passwords": {"socks5", converse("\x05\xff"), "way to authenticate"},
		"asks for no password":       {"socks5", converse("\x05\x00"), "way to authenticate"},
		"speaks SOCKS4":              {"socks5", converse("\x00\x5a\x00\x00\x00\x00\x00\x00"), "way to authenticate"},
		"speaks HTTP":                {"socks5", converse("HTTP/1.1 400 Bad Request\r\n\r\n"), "way to authenticate"},
		"hangs at the greeting":      {"socks5", hang, "did not answer in time"},
		"hangs at the password":      {"socks5", func(conn net.Conn) { converse("\x05\x02")(conn); hang(conn) }, "did not answer in time"},
		"closes in its greeting":     {"socks5", converse("\x05"), "proxy:"},
		"says another version":       {"socks5", converse("\x05\x02", "\x01\x00", "\x04\x00\x00\x01\x00\x00"), "does not speak SOCKS5"},
		"answers an unknown kind":    {"socks5", converse("\x05\x02", "\x01\x00", "\x05\x00\x00\x07\x00\x00"), "kind 7"},
		"closes in its reply":        {"socks5", converse("\x05\x02", "\x01\x00", "\x05\x00"), "proxy:"},
	}
	for _, reply := range []int{1, 2, 7, 8, 99} {
		text := fmt.Sprintf("\x05%c\x00\x01\x00\x00\x00\x00\x00\x00", reply)
		faults[fmt.Sprint("replies ", reply)] = proxyFailure{"socks5", converse("\x05\x02", "\x01\x00", text), fmt.Sprint("reply ", reply)}
	}
	return faults
}

// converse answers each read with the next line, and then closes the connection.
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

// repeatAfter writes first, and then the same bytes until the other side closes the connection.
func repeatAfter(conn net.Conn, first, chunk string) {
	_, _ = io.WriteString(conn, first)
	repeat(conn, chunk, nil)
}

// A failure of the proxy is not an attempt. The message waits, with a text that names the failure. The text does not contain
// the password, not even if the proxy echoes it.
func TestAFailureOfTheProxyIsNotAnAttempt(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	identity := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
	to := newReceiver(t, nil)
	for what, f := range proxyFaults() {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := newEgress(t, f.kind, proxyUser+":"+proxyPassword, tunnels, identity)
			p.breaks(f.how)
			c := allowing("127.0.0.1")
			c.ProxyURL, c.CAFile, c.Timeout = p.URL, ca.file(t), 10*testPatience
			if strings.Contains(errProxySilent.Error(), f.says) { // the timeout of the whole request ends it, or the one to connect
				c.ConnectTimeout, c.Timeout = time.Hour, time.Second
				wantWait(t, sendOnce(t, c, messageTo(to.URL)), f.says)
				c.ConnectTimeout, c.Timeout = time.Second, 10*testPatience
			}
			wantWait(t, sendOnce(t, c, messageTo(to.URL)), f.says)
			p.breaks(nil)
			c.ConnectTimeout, c.Timeout = testPatience, testPatience
			wantDelivered(t, "once the proxy works", sendOnce(t, c, messageTo(to.URL)))
		})
	}
}

// wantWait checks that the message waits, that the answer has no other result, and that the text does not contain the password.
func wantWait(t *testing.T, a Answer, says string) {
	t.Helper()
	if a.Class != "" || a.Err != "" || a.StatusCode != 0 || !strings.HasPrefix(a.WaitsFor, "proxy: ") || !strings.Contains(a.WaitsFor, says) || len(a.WaitsFor) > 300 {
		t.Errorf("%s; want only a wait that says %q", describe(a), says)
	}
	for _, secret := range []string{
		proxyPassword, "hunter2", url.UserPassword(proxyUser, proxyPassword).String(),
		base64.StdEncoding.EncodeToString([]byte(proxyUser + ":" + proxyPassword)),
	} {
		if strings.Contains(a.WaitsFor, secret) {
			t.Errorf("the text of what the message waits for contains the password: %s", a.WaitsFor)
		}
	}
}

func TestAProxyThatIsDownIsNotAnAttempt(t *testing.T) {
	t.Parallel()
	l := listenOn(t, "127.0.0.7")[0]
	refuse(t, l)
	for _, kind := range []string{"http", "https", "socks5"} {
		c := allowing("127.0.0.1")
		c.ProxyURL = kind + "://" + url.UserPassword(proxyUser, proxyPassword).String() + "@" + l.Addr().String()
		wantWait(t, sendOnce(t, c, messageTo("http://127.0.0.1:9/")), "connection refused")
	}
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
		c := allowing("127.0.0.1")
		c.ProxyURL, c.CAFile = p.URL, f.roots.file(t)
		wantWait(t, sendOnce(t, c, messageTo("http://127.0.0.1:9/")), f.says)
		if got := p.targets(); len(got) != 0 {
			t.Errorf("%s: the proxy got requests for %q, want none", what, got)
		}
	}
}
