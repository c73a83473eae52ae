package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// clientTLS is how the Sender talks TLS to endpoints: version 1.2 or newer, with the system's roots and those of CAFile, and
// with a client certificate for endpoints that ask for one.
type clientTLS struct {
	caFile string
	own    *certificate // nil without one
	config atomic.Pointer[tls.Config]
}

func newClientTLS(c Config) (*clientTLS, error) {
	t := &clientTLS{caFile: c.CAFile}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if c.CAFile != "" {
		roots, err := rootsWith(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CAFile: %w", err)
		}
		config.RootCAs = roots
	}
	if c.ClientCertFile != "" {
		t.own = &certificate{certFile: c.ClientCertFile, keyFile: c.ClientKeyFile}
		if _, err := t.own.get(); err != nil {
			return nil, fmt.Errorf("ClientCertFile: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.own.get() }
	}
	t.config.Store(config)
	return t, nil
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
	Err  error  // why what was in force stays; nil when the file is in force now
}

// reread reads the files again, for connections that are made from now on.
func (t *clientTLS) reread() (files []Reread) {
	if t.caFile != "" {
		roots, err := rootsWith(t.caFile)
		if err == nil {
			config := t.config.Load().Clone()
			config.RootCAs = roots
			t.config.Store(config)
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

// fileVersion tells a file from the file that replaces it.
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
