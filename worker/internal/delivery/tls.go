package delivery

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// newClientTLS returns how the Sender talks TLS to endpoints: version 1.2 or newer, with the system's roots and those of
// CAFile, and with a client certificate for endpoints that ask for one.
func newClientTLS(c Config) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if c.CAFile != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool() // the system has no roots, so those of CAFile are the only ones
		}
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CAFile: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CAFile: %s holds no certificate in PEM", c.CAFile)
		}
		t.RootCAs = roots
	}
	if c.ClientCertFile != "" {
		own := &certificate{certFile: c.ClientCertFile, keyFile: c.ClientKeyFile}
		if _, err := own.get(); err != nil {
			return nil, fmt.Errorf("ClientCertFile: %w", err)
		}
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.get() }
	}
	return t, nil
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
	c.nextCheck = time.Now().Add(fileCheckInterval)
	version, err := versionOf(c.certFile, c.keyFile)
	if err == nil && c.current != nil && version == c.version {
		return c.current, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile); err == nil {
			c.current, c.version = &pair, version
		}
	}
	if c.current != nil {
		return c.current, nil
	}
	return nil, err
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
