package delivery

import (
	"crypto/tls"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

const proxyUser, proxyPassword = "worker", "hunter2:&/ü"

// The proxy gets the address that the worker has checked, never the name of the host.
func TestADeliveryPassesThroughAProxy(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	identity := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
	for _, kind := range []string{"http", "https", "socks5"} {
		for _, user := range []string{"", proxyUser + ":" + proxyPassword} {
			t.Run(kind+" "+user, func(t *testing.T) {
				t.Parallel()
				p := newEgress(t, kind, user, tunnels, identity)
				plain, secure := newReceiver(t, nil), newTLSReceiver(t, ca.issue(t, nil), nil)
				c := allowing("127.0.0.1")
				c.ProxyURL, c.CAFile = p.URL, ca.file(t)
				c.Resolver = newNameserver(t, always("127.0.0.1")).resolver()
				var want []string
				for _, to := range []*receiver{plain, secure} {
					_, address, _ := strings.Cut(to.URL, "://")
					want = append(want, address)
					named := strings.Replace(to.URL, "127.0.0.1", "receiver.test", 1)
					wantDelivered(t, named, sendOnce(t, c, messageTo(named+"/hook")))
					if got := to.requests(); len(got) != 1 || got[0].host != strings.Replace(address, "127.0.0.1", "receiver.test", 1) ||
						got[0].path != "/hook" || got[0].header.Get("Proxy-Authorization") != "" {
						t.Errorf("the receiver got %+v, want one request to /hook without the credentials of the proxy", got)
					}
				}
				if got := p.targets(); !slices.Equal(got, want) {
					t.Errorf("the proxy was asked for %q, want %q", got, want)
				}
			})
		}
	}
}

// The worker never asks a proxy for a blocked address, because the proxy may be able to connect to it.
func TestAProxyIsNeverAskedForABlockedAddress(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"http", "socks5"} {
		p := newEgress(t, kind, "", tunnels, nil)
		trap := newTrap(t, "127.0.0.1")
		c := allowing("127.0.0.9")
		c.ProxyURL = p.URL
		c.DeniedAddrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.9:9090")}
		c.Resolver = newNameserver(t, always("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1")).resolver()
		s := newSender(t, c)
		for _, host := range append(slices.Clone(loopbackSpellings), otherSpellings...) {
			if strings.Contains(host, "%") {
				continue
			}
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			if a := s.Send(t.Context(), messageTo(httpTo(host, trap.port()))); a.Class != ClassBlocked && a.Class != ClassDNS {
				t.Errorf("%s: %s, want class %s or %s", host, describe(a), ClassBlocked, ClassDNS)
			}
		}
		if a := s.Send(t.Context(), messageTo("http://127.0.0.9:9090/")); a.Class != ClassBlocked {
			t.Errorf("the worker's own listener: %s, want class %s", describe(a), ClassBlocked)
		}
		trap.wantNone(t)
		if n := p.conns.Load(); n != 0 {
			t.Errorf("%s: the proxy got %d connections and requests for %q, want none", kind, n, p.targets())
		}
	}
}

// If a proxy works and cannot reach the endpoint, the fault is that of the endpoint, so this is an attempt.
func TestAProxysRefusalToConnectIsAnAttempt(t *testing.T) {
	t.Parallel()
	answers := func(text string) func(string) string { return func(string) string { return text } }
	for what, c := range map[string]struct {
		kind   string
		answer func(string) string
		says   string
	}{
		"502":                 {"http", answers("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno"), "502"},
		"503":                 {"http", answers("HTTP/1.1 503 Service Unavailable\r\n\r\n"), "503"},
		"504":                 {"http", answers("HTTP/1.0 504 Gateway Timeout\r\n\r\n"), "504"},
		"network unreachable": {"socks5", socksReply(3), "reply 3"},
		"host unreachable":    {"socks5", socksReply(4), "reply 4"},
		"connection refused":  {"socks5", socksReply(5), "reply 5"},
		"time to live":        {"socks5", socksReply(6), "reply 6"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			config := allowing("127.0.0.1")
			config.ProxyURL = newEgress(t, c.kind, proxyUser+":"+proxyPassword, c.answer, nil).URL
			a := sendOnce(t, config, messageTo("http://127.0.0.1:9/"))
			if a.Class != ClassConnect || a.WaitsFor != "" || !strings.Contains(a.Err, "the proxy could not reach it") || !strings.Contains(a.Err, c.says) {
				t.Errorf("%s, want class %s and %q in the error", describe(a), ClassConnect, c.says)
			}
		})
	}
}

// A SOCKS proxy that has sent its greeting works. If it is silent after that, the endpoint does not answer.
func TestSilenceAfterTheGreetingOfASOCKSProxyIsAFaultOfTheEndpoint(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	for _, own := range []bool{true, false} {
		c := allowing("127.0.0.9")
		c.ProxyURL = newEgress(t, "socks5", "", func(string) string { <-release; return "" }, nil).URL
		bound := &c.ConnectTimeout
		if own { // the timeout of the whole request ends it
			bound = &c.Timeout
		}
		*bound = time.Second
		a := sendOnce(t, c, messageTo("http://127.0.0.9/"))
		if a.Class != ClassTimeout || !strings.Contains(a.Err, "connect") || a.WaitsFor != "" {
			t.Errorf("%s, want class %s in the connect", describe(a), ClassTimeout)
		}
	}
}

// Bytes that follow the answer to CONNECT belong to the tunnel, even if they arrive together with it. The bound of the answer
// does not bound the tunnel.
func TestATunnelLosesNoByteThatFollowsTheProxysAnswer(t *testing.T) {
	t.Parallel()
	early := strings.Repeat("early ", proxyHeadBytes/3)
	p := newEgress(t, "http", "", func(string) string { return "HTTP/1.1 200 OK\r\n\r\n" + early }, nil)
	through, err := newProxy(p.URL, testPatience, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := through.dial(t.Context(), netip.MustParseAddrPort("127.0.0.1:9"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != early {
		t.Errorf("got %d bytes (%v), want %d", len(got), err, len(early))
	}
}

func TestTheErrorOfCheckProxyURLNamesTheFaultAndHidesThePassword(t *testing.T) {
	t.Parallel()
	for raw, says := range map[string]string{
		"ftp://worker:hunter2@proxy":                                      "scheme",
		"socks5h://worker:hunter2@proxy":                                  "scheme",
		"worker:hunter2@proxy:3128":                                       "scheme",
		"//worker:hunter2@proxy":                                          "scheme",
		"http://":                                                         "host",
		"http://worker:hunter2@":                                          "host",
		"http://worker:hunter2@:3128":                                     "host",
		"http://worker:hunter2@proxy:0":                                   "port",
		"http://worker:hunter2@proxy:99999":                               "port",
		"http://worker:hunter2@proxy:abc":                                 "parsed",
		"http://worker:hunter2@[::1":                                      "parsed",
		"http://worker:hunter2@proxy\x00":                                 "parsed",
		"socks5://" + strings.Repeat("x", 256) + ":hunter2@proxy":         "255",
		"socks5://worker:hunter2" + strings.Repeat("x", 256) + "@proxy":   "255",
		strings.Repeat("hunter", 100) + "://worker:hunter2@proxy.example": "scheme",
	} {
		err := CheckProxyURL(raw)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 200 {
			t.Errorf("%.60q: the error is %v; want one about its %s, without the password", raw, err, says)
		}
	}
	for _, raw := range []string{"", "http://proxy", "https://proxy:8443", "socks5://proxy", "http://[::1]:3128", "socks5://worker@proxy", "http://a:b@proxy/"} {
		if err := CheckProxyURL(raw); err != nil {
			t.Errorf("%q: got the error %v, want none", raw, err)
		}
	}
}
