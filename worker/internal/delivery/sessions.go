package delivery

import "crypto/tls"

// sessions keeps TLS sessions, so that a new connection needs no full handshake. crypto/tls names a session by
// the server's name alone; here host and port name it, because another port may belong to another server.
type sessions struct{ cache tls.ClientSessionCache }

// sessionsMax bounds how many sessions are kept, and sessionBytesMax each of them: a receiver chooses how long its ticket and
// its certificates are.
const (
	sessionsMax     = 2048
	sessionBytesMax = 16 << 10
)

func newSessions() *sessions { return &sessions{tls.NewLRUClientSessionCache(sessionsMax)} }

// of returns the sessions of one address, host:port.
func (s *sessions) of(address string) tls.ClientSessionCache { return originSessions{s.cache, address} }

type originSessions struct {
	cache   tls.ClientSessionCache
	address string
}

func (o originSessions) Get(string) (*tls.ClientSessionState, bool) { return o.cache.Get(o.address) }

func (o originSessions) Put(_ string, session *tls.ClientSessionState) {
	if session == nil || sessionBytes(session) <= sessionBytesMax {
		o.cache.Put(o.address, session)
	}
}

// sessionBytes is how long a session is with its certificates.
func sessionBytes(session *tls.ClientSessionState) int {
	ticket, state, err := session.ResumptionState()
	if err != nil || state == nil {
		return 0
	}
	encoded, err := state.Bytes()
	if err != nil {
		return sessionBytesMax + 1
	}
	return len(ticket) + len(encoded)
}
