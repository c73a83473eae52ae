package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/fieldfault"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// clientTLS is how the Sender talks TLS to endpoints: version 1.2 or newer, with the system's roots and those of CAFile, and
// with a client certificate for the origins that may see it and ask for one.
type clientTLS struct {
	caFile   string
	own      *certificate // nil without one
	origins  []string     // that own is shown to
	config   atomic.Pointer[tls.Config]
	sessions atomic.Pointer[sessions] // replaced when the roots are: a resumed session is not verified by new roots
}

func newClientTLS(c Config) (*clientTLS, error) {
	t := &clientTLS{caFile: c.CAFile}
	config := &tls.Config{}
	if c.TLSConfig != nil {
		config = c.TLSConfig.Clone()
	}
	config.MinVersion, config.NextProtos = max(config.MinVersion, tls.VersionTLS12), []string{"h2", "http/1.1"}
	config.Certificates, config.GetClientCertificate = nil, nil // a certificate is shown only where ClientCertOrigins allows it
	if c.CAFile != "" {
		roots, err := rootsWith(c.CAFile)
		if err != nil {
			return nil, fieldfault.Wrap("CAFile", err)
		}
		config.RootCAs = roots
	}
	if c.ClientCertFile != "" {
		t.own = &certificate{certFile: c.ClientCertFile, keyFile: c.ClientKeyFile}
		if _, err := t.own.get(); err != nil {
			return nil, fieldfault.Wrap("ClientCertFile", err)
		}
		for _, origin := range c.ClientCertOrigins {
			canonical, err := checkOrigin(origin)
			if err != nil {
				return nil, fieldfault.Wrap("ClientCertOrigins", err)
			}
			t.origins = append(t.origins, canonical)
		}
	}
	t.config.Store(config)
	t.sessions.Store(newSessions())
	return t, nil
}

// configFor is the configuration of a handshake with host:port.
func (t *clientTLS) configFor(address string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config := t.config.Load().Clone()
	config.ServerName = host
	if t.own != nil && t.shownTo(address) { // without a session, which would continue with a certificate that was replaced
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.own.get() }
		return config, nil
	}
	config.ClientSessionCache = t.sessions.Load().of(address)
	return config, nil
}

// shownTo reports whether the client certificate may be shown at an address.
func (t *clientTLS) shownTo(address string) bool {
	origin, err := outbox.CheckURL("https://" + address)
	return err == nil && slices.Contains(t.origins, origin)
}

func (t *clientTLS) roots() *x509.CertPool { return t.config.Load().RootCAs }

// rootsWith returns the system's roots and those of a file.
func rootsWith(file string) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // the system has no roots, so those of the file are the only ones
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return roots, nil
}

// Reread is a file that was read again.
type Reread struct {
	Name string // the field of Config
	Err  error  // why its new content is not used; nil when it is
}

// reread reads the files again, for new connections.
func (t *clientTLS) reread() (files []Reread) {
	if t.caFile != "" {
		roots, err := rootsWith(t.caFile)
		if err == nil {
			config := t.config.Load().Clone()
			config.RootCAs = roots
			t.config.Store(config)
			t.sessions.Store(newSessions())
		}
		files = append(files, Reread{"CAFile", err})
	}
	if t.own != nil {
		files = append(files, Reread{"ClientCertFile", t.own.reread()})
	}
	return files
}

// certificate is a client certificate in two files. It is read again when a file has changed. While the new files cannot
// be read, or do not belong together yet, the old certificate stays in use.
type certificate struct {
	certFile, keyFile string

	mu        sync.Mutex
	current   *tls.Certificate // the certificate in use; nil before the first get. It changes when both new files are good
	version   [2]fileVersion   // of the files that current was read from
	nextCheck time.Time        // before this time the files are not looked at
}

// fileVersion distinguishes a file from the file that replaces it.
type fileVersion struct {
	modified time.Time
	size     int64
}

// fileCheckInterval is the least time between two checks of the certificate's files.
const fileCheckInterval = time.Second

// get returns the certificate in use. It fails only while no certificate was ever read.
func (c *certificate) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && time.Now().Before(c.nextCheck) {
		return c.current, nil
	}
	err := c.read(false)
	if c.current != nil {
		return c.current, nil
	}
	return nil, err
}

// reread reads the files whether or not they seem to have changed.
func (c *certificate) reread() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read(true)
}

// read reads the files if they changed, or always; mu is held.
func (c *certificate) read(always bool) error {
	c.nextCheck = time.Now().Add(fileCheckInterval)
	version, err := versionOf(c.certFile, c.keyFile)
	if err != nil || !always && c.current != nil && version == c.version {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err == nil {
		c.current, c.version = &pair, version
	}
	return err
}

func versionOf(certFile, keyFile string) (version [2]fileVersion, err error) {
	var faults []error
	for i, name := range []string{certFile, keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		version[i] = fileVersion{info.ModTime(), info.Size()}
	}
	return version, errors.Join(faults...)
}
