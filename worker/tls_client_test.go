package worker

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// clientFiles are a client certificate's files, and what they may become.
type clientFiles struct{ certificate, key string }

func newClientFiles(t *testing.T) clientFiles {
	t.Helper()
	dir := t.TempDir()
	return clientFiles{filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")}
}

// issueSerial writes a new pair, told by its serial number.
func (f clientFiles) issueSerial(t *testing.T, ca *authority, serial int64) {
	t.Helper()
	certificate, key := pairOf(t, ca.issue(t, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(serial) }))
	write(t, f.certificate, certificate)
	write(t, f.key, key)
}

// callers are the serial numbers of the client certificates that a receiver saw.
type callers struct {
	mu      sync.Mutex
	serials map[int64]int
}

func (c *callers) times(serial int64) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serials[serial]
}

// newMutualReceiver lets in only those who show a certificate of the authority. Each request shows it anew.
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

func TestAClientCertificateIsShownToThoseWhoAsk(t *testing.T) {
	t.Parallel()
	ca, files := newAuthority(t), newClientFiles(t)
	files.issueSerial(t, ca, 7)
	to, seen := newMutualReceiver(t, ca)
	c := direct("127.0.0.1")
	c.CAFile = ca.file(t)
	if a := deliverOnce(t, c, messageTo(to.URL)); a.class != classTLS {
		t.Errorf("without one: %s: %s", a.class, a.err)
	}
	c.ClientCertFile, c.ClientKeyFile = files.certificate, files.key
	if a := deliverOnce(t, c, messageTo(to.URL)); a.class != classDelivered || seen.times(7) != 1 {
		t.Errorf("with one: %s: %s; it was seen %d times", a.class, a.err, seen.times(7))
	}
	if a := deliverOnce(t, c, messageTo(newTLSReceiver(t, ca.issue(t, nil), nil).URL)); a.class != classDelivered {
		t.Errorf("to one that does not ask: %s: %s", a.class, a.err)
	}
}

// TestAClientCertificateIsRotatedUnderLoad without one failed delivery, although for a while its two files do not belong
// together.
func TestAClientCertificateIsRotatedUnderLoad(t *testing.T) {
	t.Parallel()
	r, ca, files := newRig(t), newAuthority(t), newClientFiles(t)
	files.issueSerial(t, ca, 1)
	to, seen := newMutualReceiver(t, ca)
	c := r.patientOnce()
	c.CAFile, c.ClientCertFile, c.ClientKeyFile = ca.file(t), files.certificate, files.key
	r.run(c)
	next, nextKey := pairOf(t, ca.issue(t, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(2) }))
	n := 0
	r.await("the second certificate is shown", func() bool {
		switch n++; n {
		case 20:
			write(t, files.certificate, next) // which the old key does not belong to
		case 40:
			write(t, files.key, nextKey)
		}
		r.writeTo(to.URL, "run")
		return seen.times(2) > 20
	})
	r.await("everything is delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	if failed := r.count(`SELECT count(*) FROM outbox.attempt WHERE class <> 'delivered'`); failed > 0 || seen.times(1) < 20 {
		t.Errorf("%d attempts failed; the first certificate was shown %d times", failed, seen.times(1))
	}
}

// TestWhileACertificatesFilesAreBrokenTheOldOneGoesOn.
func TestWhileACertificatesFilesAreBrokenTheOldOneGoesOn(t *testing.T) {
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
		func() { write(t, files.certificate, next) }, // which the old key does not belong to
		func() { write(t, files.certificate, next[:len(next)/2]) },
		func() { write(t, files.key, nil) },
		func() { _ = os.Remove(files.certificate) },
		func() { _ = os.Remove(files.key) },
		func() { write(t, files.certificate, next) },
	} {
		change()
		if got, err := own.get(); err != nil || got != old {
			t.Errorf("%d, before the files are looked at: %v", what, err)
		}
		own.lookAt = time.Time{} // the second between two looks goes by
		if got, err := own.get(); err != nil || got != old {
			t.Errorf("%d: the old certificate does not go on: %v", what, err)
		}
	}
	write(t, files.key, nextKey)
	own.lookAt = time.Time{}
	got, err := own.get()
	if err != nil || got == old || got.Leaf.SerialNumber.Int64() != 2 {
		t.Errorf("the new certificate is not taken up: %v", err)
	}
}

func TestFaultsOfCertificateFilesAreReportedAtTheStart(t *testing.T) {
	t.Parallel()
	r, ca, files := newRig(t), newAuthority(t), newClientFiles(t)
	files.issueSerial(t, ca, 1)
	other := newClientFiles(t)
	other.issueSerial(t, ca, 2)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	write(t, empty, []byte("no certificate\n"))
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for what, f := range map[string]struct {
		change func(*Config)
		says   []string
	}{
		"no CA file":         {func(c *Config) { c.CAFile = missing }, []string{"CAFile", missing}},
		"an empty CA file":   {func(c *Config) { c.CAFile = empty }, []string{"CAFile", empty, "PEM"}},
		"no certificate":     {func(c *Config) { c.ClientCertFile, c.ClientKeyFile = missing, files.key }, []string{"ClientCertFile", missing}},
		"no key":             {func(c *Config) { c.ClientCertFile, c.ClientKeyFile = files.certificate, missing }, []string{missing}},
		"another key":        {func(c *Config) { c.ClientCertFile, c.ClientKeyFile = files.certificate, other.key }, []string{"ClientCertFile", "does not match"}},
		"not a certificate":  {func(c *Config) { c.ClientCertFile, c.ClientKeyFile = empty, files.key }, []string{"ClientCertFile"}},
		"a certificate only": {func(c *Config) { c.ClientCertFile = files.certificate }, []string{"ClientCertFile", "ClientKeyFile"}},
		"a key only":         {func(c *Config) { c.ClientKeyFile = files.key }, []string{"ClientCertFile", "ClientKeyFile"}},
	} {
		c := r.patient()
		f.change(&c)
		_, err := New(r.Pool, c)
		for _, says := range f.says {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v; want it to say %q", what, err, says)
			}
		}
	}
}
