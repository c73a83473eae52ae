package worker

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// distrusted is a server that a worker must not talk to, or cannot.
type distrusted struct {
	url   string
	class string
	says  string
}

func distrustedServers(t *testing.T, ca *authority) map[string]distrusted {
	t.Helper()
	receiver := func(certificate tls.Certificate, change func(*httptest.Server)) string {
		return newTLSReceiver(t, certificate, change).URL
	}
	named := func(url string) string { return strings.Replace(url, "127.0.0.1", "receiver.test", 1) }
	only := func(version uint16) string {
		return receiver(ca.issue(t, nil), func(s *httptest.Server) { s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, version })
	}
	raw := func(handle func(net.Conn)) string { return newSocket(t, handle).overTLS() }
	return map[string]distrusted{
		"another authority": {receiver(newAuthority(t).issue(t, nil), nil), classTLS, "unknown authority"},
		"no authority":      {receiver(selfSigned(t), nil), classTLS, "unknown authority"},
		"expired":           {receiver(ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), nil), classTLS, "expired"},
		"not yet valid":     {receiver(ca.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }), nil), classTLS, "not yet valid"},
		"another name":      {named(receiver(ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"other.test"} }), nil)), classTLS, "receiver.test"},
		"another address":   {receiver(ca.issue(t, func(c *x509.Certificate) { c.IPAddresses = nil }), nil), classTLS, "127.0.0.1"},
		"for clients only":  {receiver(ca.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }), nil), classTLS, "key usage"},
		"TLS 1.0":           {only(tls.VersionTLS10), classTLS, "protocol version"},
		"TLS 1.1":           {only(tls.VersionTLS11), classTLS, "protocol version"},
		"TLS 1.0 all the same": {raw(func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4<<10))
			_, _ = conn.Write(serverHelloTLS10())
			hang(conn)
		}), classTLS, "version"},
		"plain HTTP": {raw(sayAndClose("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")), classTLS, "HTTP response to HTTPS"},
		"garbage":    {raw(func(conn net.Conn) { _, _ = io.WriteString(conn, "220 mail.example ESMTP\r\n"); hang(conn) }), classTLS, "does not look like a TLS handshake"},
		"an alert": {raw(func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4<<10))
			_, _ = conn.Write([]byte{21, 3, 3, 0, 2, 2, 40})
			hang(conn)
		}), classTLS, "handshake failure"},
		"closes in the handshake":     {raw(func(conn net.Conn) { _, _ = conn.Read(make([]byte, 4<<10)) }), classReset, "TLS handshake"},
		"wants a certificate of ours": {receiver(ca.issue(t, nil), func(s *httptest.Server) { s.TLS.ClientAuth = tls.RequireAnyClientCert }), classTLS, "certificate required"},
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	self := newAuthority(t)
	self.certificate.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	return tls.Certificate{Certificate: [][]byte{self.sign(t, self.certificate, &self.key.PublicKey).Raw}, PrivateKey: self.key}
}

// serverHelloTLS10 chooses TLS 1.0, whatever was offered (RFC 2246, section 7.4.1.3).
func serverHelloTLS10() []byte {
	hello := append([]byte{3, 1}, make([]byte, 32)...) // version, random
	hello = append(hello, 0 /* session id */, 0xc0, 0x13, 0 /* cipher, compression */)
	record := append([]byte{2, 0, 0, byte(len(hello))}, hello...)
	return append([]byte{22, 3, 1, 0, byte(len(record))}, record...)
}

// TestAServerThatIsNotToBeTrustedCostsOneAttempt, of a class that says what it was, and is tried again: certificates are
// renewed.
func TestAServerThatIsNotToBeTrustedCostsOneAttempt(t *testing.T) {
	t.Parallel()
	r, ca := newRig(t), newAuthority(t)
	c := r.patientOnce()
	c.CAFile = ca.file(t)
	c.resolver = newNameserver(t, always("127.0.0.1")).resolver()
	servers, ids := distrustedServers(t, ca), map[string]outbox.ID{}
	for what, s := range servers {
		ids[what] = r.writeTo(s.url, what)
	}
	good := r.writeTo(strings.Replace(newTLSReceiver(t, ca.issue(t, nil), nil).URL, "127.0.0.1", "receiver.test", 1), "good")
	r.run(c)
	r.awaitState(good, outbox.StateDelivered)
	for what, s := range servers {
		d := r.awaitState(ids[what], outbox.StateRetrying)
		if len(d.AttemptList) != 1 || *d.LastClass != s.class || !strings.Contains(*d.LastError, s.says) {
			t.Errorf("%s: %d attempts, %s: %s; want one of class %s that says %q", what, len(d.AttemptList), *d.LastClass, *d.LastError, s.class, s.says)
		}
		if strings.Contains(*d.LastError, "https://") {
			t.Errorf("%s: the error quotes the URL: %s", what, *d.LastError)
		}
	}
}

// TestTheOwnCAFileIsTrustedBesidesTheSystems: in its place it would cut off everybody else.
func TestTheOwnCAFileIsTrustedBesidesTheSystems(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to := newTLSReceiver(t, ca.issue(t, nil), nil)
	c := direct("127.0.0.1")
	if a := deliverOnce(t, c, messageTo(to.URL)); a.class != classTLS {
		t.Errorf("without it: %s: %s", a.class, a.err)
	}
	c.CAFile = ca.file(t)
	if a := deliverOnce(t, c, messageTo(to.URL)); a.class != classDelivered {
		t.Errorf("with it: %s: %s", a.class, a.err)
	}
	config, err := clientTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	want, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	want.AddCert(ca.certificate)
	if !config.RootCAs.Equal(want) {
		t.Error("the roots are not the system's and ours")
	}
}

// TestTLSIsOfVersion12AndUp, whichever the server likes best.
func TestTLSIsOfVersion12AndUp(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		to := newTLSReceiver(t, ca.issue(t, nil), func(s *httptest.Server) { s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, version })
		c := direct("127.0.0.1")
		c.CAFile = ca.file(t)
		if a := deliverOnce(t, c, messageTo(to.URL)); a.class != classDelivered {
			t.Errorf("%s: %s: %s", tls.VersionName(version), a.class, a.err)
		}
	}
}

// TestAHostsTrailingDotIsNotPartOfItsName as certificates have it.
func TestAHostsTrailingDotIsNotPartOfItsName(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to := newTLSReceiver(t, ca.issue(t, nil), nil)
	c := direct("127.0.0.1")
	c.CAFile = ca.file(t)
	c.resolver = newNameserver(t, always("127.0.0.1")).resolver()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(to.URL, "https://"))
	for _, host := range []string{"receiver.test", "receiver.test.", "RECEIVER.test"} {
		if a := deliverOnce(t, c, messageTo(fmt.Sprintf("https://%s:%s/", host, port))); a.class != classDelivered {
			t.Errorf("%s: %s: %s", host, a.class, a.err)
		}
	}
}
