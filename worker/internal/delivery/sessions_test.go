package delivery

import (
	"crypto/tls"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// resuming returns a receiver that closes each connection after its answer. resumed counts the handshakes that resumed a session.
func resuming(t *testing.T, ca *authority, change func(*tls.Config)) (to *receiver, full, resumed *atomic.Int64) {
	t.Helper()
	full, resumed = new(atomic.Int64), new(atomic.Int64)
	to = newTLSReceiver(t, ca.issue(t, nil), func(s *httptest.Server) {
		change(s.TLS)
		s.TLS.VerifyConnection = func(state tls.ConnectionState) error {
			if state.DidResume {
				resumed.Add(1)
			} else {
				full.Add(1)
			}
			return nil
		}
		s.Config.SetKeepAlivesEnabled(false)
	})
	return to, full, resumed
}

func TestATLSSessionIsResumed(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	s := newSender(t, c)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		to, full, resumed := resuming(t, ca, func(c *tls.Config) { c.MaxVersion = version })
		for range 10 {
			wantDelivered(t, tls.VersionName(version), s.Send(t.Context(), messageTo(to.URL)))
		}
		if full.Load() != 1 || resumed.Load() != 9 {
			t.Errorf("%s: %d full handshakes and %d resumed, want 1 and 9", tls.VersionName(version), full.Load(), resumed.Load())
		}
	}
}

// A resumed session is not verified with the roots again, so the worker drops all sessions when the roots change.
func TestNewRootsEndTheSessions(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	s := newSender(t, c)
	to, _, _ := resuming(t, ca, func(*tls.Config) {})
	wantDelivered(t, "by the first roots", s.Send(t.Context(), messageTo(to.URL)))
	write(t, c.CAFile, pemOf("CERTIFICATE", newAuthority(t).certificate.Raw))
	for _, file := range s.Reread() {
		if file.Err != nil {
			t.Errorf("the report of %s has the error %v, want none", file.Name, file.Err)
		}
	}
	if a := s.Send(t.Context(), messageTo(to.URL)); a.Class != ClassTLS {
		t.Errorf("%s, want class %s", describe(a), ClassTLS)
	}
}

// The receiver chooses the size of a session, so the worker bounds it.
func TestALongSessionIsNotKept(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c := allowing("127.0.0.1")
	c.CAFile = ca.file(t)
	s := newSender(t, c)
	var tickets tls.Config
	tickets.SetSessionTicketKeys([][32]byte{{1}})
	to, full, resumed := resuming(t, ca, func(c *tls.Config) {
		c.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
			session.Extra = append(session.Extra, make([]byte, 2*sessionBytesMax))
			return tickets.EncryptTicket(state, session)
		}
		c.UnwrapSession = tickets.DecryptTicket
	})
	for range 3 {
		wantDelivered(t, "a message", s.Send(t.Context(), messageTo(to.URL)))
	}
	if full.Load() != 3 || resumed.Load() != 0 {
		t.Errorf("%d full handshakes and %d resumed, want 3 and 0", full.Load(), resumed.Load())
	}
}
