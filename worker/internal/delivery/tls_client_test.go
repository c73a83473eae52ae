package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// clientFiles are the paths of a client certificate and its key.
type clientFiles struct{ certificate, key string }

func newClientFiles(t *testing.T) clientFiles {
	t.Helper()
	dir := t.TempDir()
	return clientFiles{filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")}
}

// issueSerial writes a new certificate and key. The serial number identifies them.
func (f clientFiles) issueSerial(t *testing.T, ca *authority, serial int64) {
	t.Helper()
	certificate, key := pairOf(t, ca.issue(t, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(serial) }))
	write(t, f.certificate, certificate)
	write(t, f.key, key)
}

// callers counts the client certificates that a receiver saw, by their serial numbers.
type callers struct {
	mu      sync.Mutex
	serials map[int64]int
}

func (c *callers) times(serial int64) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serials[serial]
}

// newMutualReceiver accepts only clients with a certificate of the authority. Each request has a handshake of its own.
func newMutualReceiver(t *testing.T, ca *authority) (*receiver, *callers) {
	t.Helper()
	seen := &callers{serials: map[int64]int{}}
	to := newTLSReceiver(t, ca.issue(t, nil), func(s *httptest.Server) {
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool()
		s.TLS.VerifyConnection = func(state tls.ConnectionState) error {
			seen.mu.Lock()
			defer seen.mu.Unlock()
			seen.serials[state.PeerCertificates[0].SerialNumber.Int64()]++
			return nil
		}
		s.Config.SetKeepAlivesEnabled(false)
	})
	return to, seen
}

func TestAClientCertificateIsShownToServersThatAsk(t *testing.T) {
	t.Parallel()
	ca, files := newAuthority(t), newClientFiles(t)
	files.issueSerial(t, ca, 7)
	to, seen := newMutualReceiver(t, ca)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	if a := sendOnce(t, c, messageTo(to.URL)); a.Class != ClassTLS {
		t.Errorf("without a certificate: %s, want class %s", describe(a), ClassTLS)
	}
	c.ClientCertFile, c.ClientKeyFile = files.certificate, files.key
	c.ClientCertOrigins = []string{to.URL, "https://other.example"}
	wantDelivered(t, "with a certificate", sendOnce(t, c, messageTo(to.URL)))
	if n := seen.times(7); n != 1 {
		t.Errorf("the certificate was shown %d times, want 1", n)
	}
	wantDelivered(t, "to a server that does not ask", sendOnce(t, c, messageTo(newTLSReceiver(t, ca.issue(t, nil), nil).URL)))
}

// The worker does not show its certificate to any other server that asks for one: that server would learn who the worker is.
func TestAClientCertificateIsShownToItsOriginsOnly(t *testing.T) {
	t.Parallel()
	ca, files := newAuthority(t), newClientFiles(t)
	files.issueSerial(t, ca, 7)
	own, seen := newMutualReceiver(t, ca)
	stranger := newTLSReceiver(t, ca.issue(t, nil), func(s *httptest.Server) {
		s.TLS.ClientAuth = tls.RequestClientCert
		s.TLS.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) > 0 {
				t.Error("another origin saw the certificate, want not")
			}
			return nil
		}
	})
	c := allowing("127.0.0.1")
	c.CAFile, c.ClientCertFile, c.ClientKeyFile = ca.file(t), files.certificate, files.key
	c.ClientCertOrigins = []string{strings.Replace(own.URL, "https:", "HTTPS:", 1) + "/"}
	s := newSender(t, c)
	wantDelivered(t, "another origin", s.Send(t.Context(), messageTo(stranger.URL)))
	wantDelivered(t, "its origin", s.Send(t.Context(), messageTo(own.URL)))
	if n := seen.times(7); n != 1 {
		t.Errorf("the certificate was shown %d times to its origin, want 1", n)
	}
	for _, origin := range []string{"own.example", "https://own.example/path", "https://own.example?a", "ftp://own.example"} {
		c.ClientCertOrigins = []string{origin}
		if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), "ClientCertOrigins: ") {
			t.Errorf("%s: the error is %v, want one of ClientCertOrigins", origin, err)
		}
	}
}

// A client certificate is replaced while messages are sent, and no attempt fails, although for some time the two files do
// not belong together.
func TestAClientCertificateIsReplacedWithoutAFailedAttempt(t *testing.T) {
	t.Parallel()
	ca, files := newAuthority(t), newClientFiles(t)
	files.issueSerial(t, ca, 1)
	to, seen := newMutualReceiver(t, ca)
	c := allowing("127.0.0.1")
	c.CAFile, c.ClientCertFile, c.ClientKeyFile = ca.file(t), files.certificate, files.key
	c.ClientCertOrigins = []string{to.URL}
	s := newSender(t, c)
	next, nextKey := pairOf(t, ca.issue(t, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(2) }))
	end := time.Now().Add(testPatience)
	for n := 1; seen.times(2) < 20; n++ {
		switch n {
		case 20:
			write(t, files.certificate, next) // the old key does not belong to it
		case 40:
			write(t, files.key, nextKey)
		}
		wantDelivered(t, fmt.Sprint("attempt ", n), s.Send(t.Context(), messageTo(to.URL)))
		if t.Failed() || time.Now().After(end) {
			t.Fatalf("after %d attempts the second certificate was shown %d times, want 20", n, seen.times(2))
		}
	}
	if n := seen.times(1); n < 20 {
		t.Errorf("the first certificate was shown %d times, want 20 at least", n)
	}
}

func TestTheOldCertificateStaysInUseWhileTheFilesAreBroken(t *testing.T) {
	t.Parallel()
	ca, files := newAuthority(t), newClientFiles(t)
	files.issueSerial(t, ca, 1)
	own := &certificate{certFile: files.certificate, keyFile: files.key}
	old, err := own.get()
	if err != nil {
		t.Fatal(err)
	}
	next, nextKey := pairOf(t, ca.issue(t, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(2) }))
	for what, change := range []func(){
		func() { write(t, files.certificate, next) }, // the old key does not belong to it
		func() { write(t, files.certificate, next[:len(next)/2]) },
		func() { write(t, files.key, nil) },
		func() { _ = os.Remove(files.certificate) },
		func() { _ = os.Remove(files.key) },
		func() { write(t, files.certificate, next) },
	} {
		change()
		if got, err := own.get(); err != nil || got != old {
			t.Errorf("change %d, before the files are checked: the old certificate is not in use (%v)", what, err)
		}
		own.nextCheck = time.Time{} // as if fileCheckInterval had passed
		if got, err := own.get(); err != nil || got != old {
			t.Errorf("change %d: the old certificate is not in use any more (%v)", what, err)
		}
	}
	write(t, files.key, nextKey)
	own.nextCheck = time.Time{}
	got, err := own.get()
	if err != nil || got == old || got.Leaf.SerialNumber.Int64() != 2 {
		t.Errorf("the new certificate is not in use: %v", err)
	}
}

// TestFilesAreReadAgainOnDemand: that of the authority, too. The report names a file with a fault, and the content from before
// stays in use.
func TestFilesAreReadAgainOnDemand(t *testing.T) {
	t.Parallel()
	old, next, files := newAuthority(t), newAuthority(t), newClientFiles(t)
	files.issueSerial(t, old, 1)
	toOld, seen := newMutualReceiver(t, old)
	toNext := newTLSReceiver(t, next.issue(t, nil), func(s *httptest.Server) { s.Config.SetKeepAlivesEnabled(false) })
	c := allowing("127.0.0.1")
	c.CAFile, c.ClientCertFile, c.ClientKeyFile = old.file(t), files.certificate, files.key
	c.ClientCertOrigins = []string{toOld.URL}
	s := newSender(t, c)
	wantDelivered(t, "at first", s.Send(t.Context(), messageTo(toOld.URL)))
	faults := func(want ...bool) {
		t.Helper()
		for i, file := range s.Reread() {
			if file.Name != []string{"CAFile", "ClientCertFile"}[i] || (file.Err != nil) != want[i] {
				t.Errorf("the report of file %d is %s: %v, want an error: %v", i, file.Name, file.Err, want[i])
			}
		}
	}
	write(t, c.CAFile, []byte("nothing"))
	write(t, c.ClientKeyFile, []byte("nothing"))
	faults(true, true)
	wantDelivered(t, "with wrong files", s.Send(t.Context(), messageTo(toOld.URL)))
	both := append(pemOf("CERTIFICATE", old.certificate.Raw), pemOf("CERTIFICATE", next.certificate.Raw)...)
	write(t, c.CAFile, both)
	files.issueSerial(t, old, 2)
	if a := s.Send(t.Context(), messageTo(toNext.URL)); a.Class != ClassTLS {
		t.Errorf("before the files are read again: %s, want class %s", describe(a), ClassTLS)
	}
	faults(false, false)
	wantDelivered(t, "of the new authority", s.Send(t.Context(), messageTo(toNext.URL)))
	wantDelivered(t, "of the old authority", s.Send(t.Context(), messageTo(toOld.URL)))
	if seen.times(2) == 0 {
		t.Error("the new certificate was not shown, want that it is in use")
	}
}

// The error of New about a file or the URL of the proxy begins with the name of the field.
func TestNewNamesTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	ca, files := newAuthority(t), newClientFiles(t)
	files.issueSerial(t, ca, 1)
	other := newClientFiles(t)
	other.issueSerial(t, ca, 2)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	write(t, empty, []byte("no certificate\n"))
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for what, f := range map[string]struct {
		change func(*Config)
		field  string
		says   string
	}{
		"no CA file":        {func(c *Config) { c.CAFile = missing }, "CAFile", missing},
		"an empty CA file":  {func(c *Config) { c.CAFile = empty }, "CAFile", empty + " holds no certificate in PEM"},
		"no certificate":    {func(c *Config) { c.ClientCertFile, c.ClientKeyFile = missing, files.key }, "ClientCertFile", missing},
		"no key":            {func(c *Config) { c.ClientCertFile, c.ClientKeyFile = files.certificate, missing }, "ClientCertFile", missing},
		"another key":       {func(c *Config) { c.ClientCertFile, c.ClientKeyFile = files.certificate, other.key }, "ClientCertFile", "does not match"},
		"not a certificate": {func(c *Config) { c.ClientCertFile, c.ClientKeyFile = empty, files.key }, "ClientCertFile", ""},
		"a bad proxy URL":   {func(c *Config) { c.ProxyURL = "ftp://proxy.test" }, "ProxyURL", "scheme"},
	} {
		c := allowing()
		f.change(&c)
		s, err := New(c)
		if s != nil || err == nil || !strings.HasPrefix(err.Error(), f.field+": ") || !strings.Contains(err.Error(), f.says) {
			t.Errorf("%s: %v, %v; want an error of %s that says %q", what, s, err, f.field, f.says)
		}
	}
}
