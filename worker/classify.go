package worker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
)

// classify names the kind of a transport's fault, by the error's type. The text is what the attempt keeps.
func classify(err error) (class, text string) {
	err = cause(err)
	text = shortText(err)
	var (
		blocked errBlocked
		dns     *net.DNSError
		op      *net.OpError
		at      phaseError
	)
	errors.As(err, &at)
	switch {
	case errors.As(err, &blocked):
		return classBlocked, text
	case isTimeout(err):
		return classTimeout, text
	case errors.As(err, &dns):
		return classDNS, text
	case isTLS(err):
		return classTLS, text
	case errors.As(err, &op) && op.Op == "dial", at.phase == phaseConnect:
		return classConnect, text
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF):
		return classReset, text
	case at.phase == phaseTLS: // most of its faults are plain text
		return classTLS, text
	}
	return classProtocol, text
}

// shortText is an error's text as a row can hold it: somebody else may have had a hand in it.
func shortText(err error) string {
	text := validText([]byte(err.Error()))
	if len(text) > 1000 {
		text = strings.ToValidUTF8(text[:1000], "")
	}
	return text
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

func isTLS(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		alert        tls.AlertError
		unknown      x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
		op           *net.OpError
	)
	return errors.As(err, &verification) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.As(err, &unknown) || errors.As(err, &hostname) || errors.As(err, &invalid) ||
		errors.As(err, &op) && (op.Op == "local error" || op.Op == "remote error") ||
		errors.Is(err, http.ErrSchemeMismatch) // plain HTTP came back
}

// cause unwraps the error that http.Client puts around every other, for that one quotes the URL, which may hold a
// secret.
func cause(err error) error {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	return err
}
