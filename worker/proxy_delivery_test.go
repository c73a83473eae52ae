package worker

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

const proxyUser, proxyPassword = "worker", "hunter2:&/ü"

// TestADeliveryPassesThroughAProxy, which is given the address that was checked here, never the name.
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
				c := direct("127.0.0.1")
				c.ProxyURL, c.CAFile = p.URL, ca.file(t)
				c.resolver = newNameserver(t, always("127.0.0.1")).resolver()
				var want []string
				for _, to := range []*receiver{plain, secure} {
					_, address, _ := strings.Cut(to.URL, "://")
					want = append(want, address)
					named := strings.Replace(to.URL, "127.0.0.1", "receiver.test", 1)
					if a := deliverOnce(t, c, messageTo(named+"/hook")); a.class != classDelivered {
						t.Fatalf("%s: %s: %s %s", named, a.class, a.err, a.waitsFor)
					}
					if got := to.requests(); len(got) != 1 || got[0].host != strings.Replace(address, "127.0.0.1", "receiver.test", 1) ||
						got[0].path != "/hook" || got[0].header.Get("Proxy-Authorization") != "" {
						t.Errorf("the receiver got %+v", got)
					}
				}
				if got := p.targets(); !slices.Equal(got, want) {
					t.Errorf("the proxy was asked for %q, want %q", got, want)
				}
			})
		}
	}
}

// TestAProxyIsNeverAskedForAClosedAddress: it might well connect to it.
func TestAProxyIsNeverAskedForAClosedAddress(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"http", "socks5"} {
		p := newEgress(t, kind, "", tunnels, nil)
		trap := newTrap(t, "127.0.0.1")
		c := direct("127.0.0.9")
		c.ProxyURL = p.URL
		c.DeniedAddrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.9:9090")}
		c.resolver = newNameserver(t, always("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1")).resolver()
		for _, host := range append(slices.Clone(loopbackSpellings), otherSpellings...) {
			if strings.Contains(host, "%") {
				continue
			}
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			if a := deliverOnce(t, c, messageTo(httpTo(host, trap.port()))); a.class != classBlocked && a.class != classDNS {
				t.Errorf("%s: %s: %s %s", host, a.class, a.err, a.waitsFor)
			}
		}
		if a := deliverOnce(t, c, messageTo("http://127.0.0.9:9090/")); a.class != classBlocked {
			t.Errorf("the own listener: %s: %s", a.class, a.err)
		}
		trap.wantNone(t)
		if n := p.conns.Load(); n != 0 {
			t.Errorf("%s: %d connections to the proxy, which was asked for %q", kind, n, p.targets())
		}
	}
}

// TestWhatAProxySaysOfTheEndpointIsAnAttempt: those are the answers of a proxy that is well and could not get through.
func TestWhatAProxySaysOfTheEndpointIsAnAttempt(t *testing.T) {
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
			r := newRig(t)
			config := r.patientOnce()
			config.ProxyURL = newEgress(t, c.kind, proxyUser+":"+proxyPassword, c.answer, nil).URL
			id := r.writeTo("http://127.0.0.1:9/", "run-1")
			r.run(config)
			d := r.awaitState(id, outbox.StateRetrying)
			if len(d.AttemptList) != 1 || *d.LastClass != classConnect || d.WaitsFor != nil ||
				!strings.Contains(*d.LastError, "the proxy could not reach it") || !strings.Contains(*d.LastError, c.says) {
				t.Errorf("%d attempts, %s: %s", len(d.AttemptList), *d.LastClass, *d.LastError)
			}
		})
	}
}

// TestSilenceBehindASOCKSProxyIsTheEndpoints: the proxy was there to greet, so it is the endpoint that swallows.
func TestSilenceBehindASOCKSProxyIsTheEndpoints(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	for _, own := range []bool{true, false} {
		c := direct("127.0.0.9")
		c.ProxyURL = newEgress(t, "socks5", "", func(string) string { <-release; return "" }, nil).URL
		bound := &c.ConnectTimeout
		if own { // the request's own deadline passes first
			bound = &c.DeliveryTimeout
		}
		*bound = time.Second
		a := deliverOnce(t, c, messageTo("http://127.0.0.9/"))
		if a.class != classTimeout || !strings.Contains(a.err, "connect") || a.waitsFor != "" {
			t.Errorf("%s: %s %s", a.class, a.err, a.waitsFor)
		}
	}
}

func TestAProxysURLIsCheckedBeforeAnythingStarts(t *testing.T) {
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
		err := Config{ProxyURL: raw}.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "ProxyURL: ") || !strings.Contains(err.Error(), says) ||
			strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 200 {
			t.Errorf("%.60q: %v; want a fault of its %s, without the password", raw, err, says)
		}
	}
	for _, raw := range []string{"", "http://proxy", "https://proxy:8443", "socks5://proxy", "http://[::1]:3128", "socks5://worker@proxy", "http://a:b@proxy/"} {
		if err := (Config{ProxyURL: raw}).Validate(); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
}
