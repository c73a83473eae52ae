package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
)

// fail records why no complete answer came. When the whole request's time is up, that is the reason, whatever error the
// transport returned because of it.
func (a *Answer) fail(t *trip, err error) {
	var (
		timeout timeoutError
		at      phaseError
		proxy   proxyError
	)
	a.Unreached = t.phase() < phaseAnswer
	if errors.Is(context.Cause(t), errTooManyConnections) {
		err = errTooManyConnections
	}
	timeIsUp := errors.As(context.Cause(t), &timeout)
	if timeIsUp && !errors.As(err, &at) {
		at.phase = t.phase()
	}
	short, isShort := shortageOf(err)
	switch {
	case isShort:
		a.WaitsFor = short.Error()
	case errors.As(err, &proxy):
		a.WaitsFor = shortText(proxy.Error())
	case timeIsUp && at.phase == phaseProxy:
		a.WaitsFor = shortText(proxyError{errProxySilent}.Error())
	case timeIsUp:
		a.Class, a.Err = ClassTimeout, timeout.Error()+", in its "+at.phase.String()
	default:
		a.Class, a.Err = classify(err)
	}
}

// classify returns the class of a transport's error, by its type, and the text that the attempt keeps.
func classify(err error) (class, text string) {
	text = shortText(err.Error())
	var (
		blocked blockedError
		dns     *net.DNSError
		op      *net.OpError
		at      phaseError
	)
	errors.As(err, &at)
	switch {
	case errors.As(err, &blocked):
		return ClassBlocked, text
	case isTimeout(err):
		return ClassTimeout, text
	case errors.As(err, &dns):
		return ClassDNS, text
	case isTLS(err):
		return ClassTLS, text
	case errors.As(err, &op) && op.Op == "dial", at.phase == phaseConnect:
		return ClassConnect, text
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF):
		return ClassReset, text
	case at.phase == phaseTLS: // most errors of a handshake have no type
		return ClassTLS, text
	}
	return ClassProtocol, shortText(withoutQuotes(err))
}

// withoutQuotes is the text of an error of net/http's without what it quotes: bytes of the answer, which may repeat the
// request with its tokens.
func withoutQuotes(err error) string {
	text := err.Error()
	if i := strings.IndexByte(text, '"'); i >= 0 {
		text = text[:i]
	}
	for _, line := range []string{"malformed MIME header line", "malformed MIME header"} { // of net/textproto, which quotes without quotation marks
		if i := strings.Index(text, line); i >= 0 {
			text = text[:i+len(line)]
			break
		}
	}
	return strings.TrimRight(text, " :")
}

// errorBytesMax bounds an error's text.
const errorBytesMax = 1000

// shortText returns an error's text as a column can hold it. The text may quote bytes that the other side sent.
func shortText(text string) string {
	return cleantext.Cut(cleantext.Of(text), errorBytesMax)
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
		errors.Is(err, http.ErrSchemeMismatch) // the answer was plain HTTP
}
