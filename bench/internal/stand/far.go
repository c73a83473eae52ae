package stand

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Far describes distant endpoints: they use TLS, and answer after a delay. net/rpc needs the exported names.
type Far struct {
	Endpoints int
	After     time.Duration // from a request to its answer
	HTTP2     bool
	Anew      bool // each connection carries one request
	Full      bool // no TLS session is resumed
}

// FarEndpoints are endpoints that were opened, and the certificate in PEM to trust them by.
type FarEndpoints struct {
	URLs      []string
	Authority []byte
}

// OpenFar opens endpoints for one trial, each a port of its own on loopback.
func (b *Inbox) OpenFar(f Far, opened *FarEndpoints) error {
	certificate, authority, err := selfSigned()
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: f.Full}
	if f.HTTP2 {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	if b.far != nil { // left from the trial before
		_ = b.far.Close()
	}
	quiet := log.New(io.Discard, "", 0) // of handshakes that a worker gave up
	b.far = &http.Server{TLSConfig: config, ConnState: b.server.ConnState, ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b.ServeHTTP(w, req)
		sleep(req.Context(), f.After)
	})}
	b.far.SetKeepAlivesEnabled(!f.Anew)
	opened.Authority = authority
	for range f.Endpoints {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		go func() { _ = b.far.Serve(tls.NewListener(l, config)) }() // until the server is closed
		opened.URLs = append(opened.URLs, "https://"+l.Addr().String()+"/hook")
	}
	return nil
}

// selfSigned makes a certificate for loopback that is its own authority.
func selfSigned() (certificate tls.Certificate, authority []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return certificate, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// NewFarLoad opens far endpoints and tells the receiver what to expect. The authority's certificate is in a file of the directory.
func (s *Stand) NewFarLoad(messages int, f Far, directory string) (l Load, caFile string, err error) {
	var opened FarEndpoints
	if err := s.Receiver.call("Inbox.OpenFar", f, &opened); err != nil {
		return l, "", err
	}
	caFile = filepath.Join(directory, "authority.pem")
	if err := os.WriteFile(caFile, opened.Authority, 0o600); err != nil {
		return l, "", err
	}
	number, err := s.Receiver.expect(messages)
	return Load{Trial: number, Messages: messages, URLs: opened.URLs}, caFile, err
}
