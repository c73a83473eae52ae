package delivery

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
)

// distrusted is a server whose TLS must not be trusted, or that does not speak TLS.
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
		"another authority": {receiver(newAuthority(t).issue(t, nil), nil), ClassTLS, "unknown authority"},
		"no authority":      {receiver(selfSigned(t), nil), ClassTLS, "unknown authority"},
		"expired":           {receiver(ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), nil), ClassTLS, "expired"},
		"not yet valid":     {receiver(ca.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }), nil), ClassTLS, "not yet valid"},
		"another name":      {named(receiver(ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"other.test"} }), nil)), ClassTLS, "receiver.test"},
		"another address":   {receiver(ca.issue(t, func(c *x509.Certificate) { c.IPAddresses = nil }), nil), ClassTLS, "127.0.0.1"},
		"for clients only":  {receiver(ca.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }), nil), ClassTLS, "key usage"},
		"TLS 1.0":           {only(tls.VersionTLS10), ClassTLS, "protocol version"},
		"TLS 1.1":           {only(tls.VersionTLS11), ClassTLS, "protocol version"},
		"TLS 1.0 all the same": {raw(func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4<<10))
			_, _ = conn.Write(serverHelloTLS10())
			hang(conn)
		}), ClassTLS, "version"},
		"plain HTTP": {raw(sayAndClose("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")), ClassTLS, "HTTP response to HTTPS"},
		"garbage":    {raw(func(conn net.Conn) { _, _ = io.WriteString(conn, "220 mail.example ESMTP\r\n"); hang(conn) }), ClassTLS, "does not look like a TLS handshake"},
		"an alert": {raw(func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4<<10))
			_, _ = conn.Write([]byte{21, 3, 3, 0, 2, 2, 40})
			hang(conn)
		}), ClassTLS, "handshake failure"},
		"closes in the handshake":     {raw(func(conn net.Conn) { _, _ = conn.Read(make([]byte, 4<<10)) }), ClassReset, "TLS handshake"},
		"wants a certificate of ours": {receiver(ca.issue(t, nil), func(s *httptest.Server) { s.TLS.ClientAuth = tls.RequireAnyClientCert }), ClassTLS, "certificate required"},
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	self := newAuthority(t)
	self.certificate.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	return tls.Certificate{Certificate: [][]byte{self.sign(t, self.certificate, &self.key.PublicKey).Raw}, PrivateKey: self.key}
}

// serverHelloTLS10 chooses TLS 1.0, whatever the client offered (RFC 2246, section 7.4.1.3).
func serverHelloTLS10() []byte {
	hello := append([]byte{3, 1}, make([]byte, 32)...) // version, random
	hello = append(hello, 0 /* session id */, 0xc0, 0x13, 0 /* cipher, compression */)
	record := append([]byte{2, 0, 0, byte(len(hello))}, hello...)
	return append([]byte{22, 3, 1, 0, byte(len(record))}, record...)
}

// An attempt at a server that cannot be trusted fails, and its class and error say why.
func TestAServerThatCannotBeTrustedGetsNoRequest(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	c.Resolver = newNameserver(t, always("127.0.0.1")).resolver()
	s := newSender(t, c)
	for what, d := range distrustedServers(t, ca) {
		a := s.Send(t.Context(), messageTo(d.url+"/secret"))
		if a.Class != d.class || a.StatusCode != 0 || !strings.Contains(a.Err, d.says) {
			t.Errorf("%s: %s; want class %q and an error that says %q", what, describe(a), d.class, d.says)
		}
		if strings.Contains(a.Err, "https://") || strings.Contains(a.Err, "secret") {
			t.Errorf("%s: the error quotes the URL: %s", what, a.Err)
		}
	}
	trusted := newTLSReceiver(t, ca.issue(t, nil), nil)
	wantDelivered(t, "a server to be trusted", s.Send(t.Context(), messageTo(strings.Replace(trusted.URL, "127.0.0.1", "receiver.test", 1))))
}

// CAFile adds to the system's roots. If it replaced them, no public endpoint could be trusted.
func TestCAFileIsTrustedInAdditionToTheSystemsRoots(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to := newTLSReceiver(t, ca.issue(t, nil), nil)
	c := allowing("127.0.0.1")
	if a := sendOnce(t, c, messageTo(to.URL)); a.Class != ClassTLS {
		t.Errorf("without CAFile: class %s: %s; want class %s", a.Class, a.Err, ClassTLS)
	}
	c.CAFile = ca.file(t)
	if a := sendOnce(t, c, messageTo(to.URL)); a.Class != ClassDelivered {
		t.Errorf("with CAFile: class %s: %s; want a delivery", a.Class, a.Err)
	}
	config, err := newClientTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	want, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	want.AddCert(ca.certificate)
	if !config.roots().Equal(want) {
		t.Error("the roots are not those of the system and of CAFile")
	}
}

func TestTLSVersions12And13AreUsed(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		to := newTLSReceiver(t, ca.issue(t, nil), func(s *httptest.Server) { s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, version })
		c := allowing("127.0.0.1")
		c.CAFile = ca.file(t)
		if a := sendOnce(t, c, messageTo(to.URL)); a.Class != ClassDelivered {
			t.Errorf("%s: class %s: %s; want a delivery", tls.VersionName(version), a.Class, a.Err)
		}
	}
}

// A host may end in a dot, but the name in its certificate does not.
func TestATrailingDotOfAHostIsNotPartOfItsCertificatesName(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	to := newTLSReceiver(t, ca.issue(t, nil), nil)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	c.Resolver = newNameserver(t, always("127.0.0.1")).resolver()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(to.URL, "https://"))
	for _, host := range []string{"receiver.test", "receiver.test.", "RECEIVER.test"} {
		if a := sendOnce(t, c, messageTo(fmt.Sprintf("https://%s:%s/", host, port))); a.Class != ClassDelivered {
			t.Errorf("%s: class %s: %s; want a delivery", host, a.Class, a.Err)
		}
	}
}
