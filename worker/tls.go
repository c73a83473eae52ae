package worker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// clientTLS is how the worker talks TLS to endpoints: 1.2 and up, the system's roots and those of CAFile, and a client
// certificate where an endpoint asks for one.
func clientTLS(c Config) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if c.CAFile != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool() // a system without roots: then ours alone
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

// certificate is read again when one of its files changed, looked at no more than once a second. While the new files
// cannot be read, or do not belong together (yet), the old certificate goes on.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	version [2]fileVersion
	lookAt  time.Time
}

// fileVersion tells a file from its successor.
type fileVersion struct {
	modified time.Time
	size     int64
}

const lookAtFilesEvery = time.Second

func (c *certificate) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && time.Now().Before(c.lookAt) {
		return c.current, nil
	}
	c.lookAt = time.Now().Add(lookAtFilesEvery)
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
