package delivery

import (
	"crypto/tls"
	"maps"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/measured"
)

func TestTheMetricsCountRequestsConnectionsAndHandshakes(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	closes, _, _ := resuming(t, ca, func(*tls.Config) {})
	strange, _, _ := resuming(t, newAuthority(t), func(*tls.Config) {})
	keeps := newReceiver(t, nil)
	nobody := closedPort(t)

	m := measured.New(t)
	c := allowing("127.0.0.1")
	c.CAFile, c.Instruments = ca.file(t), instruments.New(m.Provider(), "test", "outbox")
	s := newSender(t, c)
	want := map[string]float64{
		"outbox.requests{connection=new}": 0, "outbox.requests{connection=reused}": 0,
		"outbox.connections{result=opened}": 0, "outbox.connections{result=failed}": 0,
		"outbox.tls.handshakes{result=full}": 0, "outbox.tls.handshakes{result=resumed}": 0, "outbox.tls.handshakes{result=failed}": 0,
	}
	counts := func(what string, more map[string]float64) {
		t.Helper()
		for name, n := range more {
			want[name] += n
		}
		if got := m.Series(); !maps.Equal(got, want) {
			t.Errorf("%s: the metrics are %v, want %v", what, got, want)
		}
	}
	counts("at first", nil)
	for range 4 {
		wantDelivered(t, "over one connection", s.Send(t.Context(), messageTo(keeps.URL)))
	}
	counts("four requests over one connection", map[string]float64{
		"outbox.requests{connection=new}": 1, "outbox.requests{connection=reused}": 3, "outbox.connections{result=opened}": 1,
	})
	for range 3 {
		wantDelivered(t, "over connections of their own", s.Send(t.Context(), messageTo(closes.URL)))
	}
	counts("three requests over TLS, each with a connection of its own", map[string]float64{
		"outbox.requests{connection=new}": 3, "outbox.connections{result=opened}": 3,
		"outbox.tls.handshakes{result=full}": 1, "outbox.tls.handshakes{result=resumed}": 2,
	})
	if a := s.Send(t.Context(), messageTo(nobody)); a.Class != ClassConnect {
		t.Errorf("%s, want class %s", describe(a), ClassConnect)
	}
	counts("a connection that is refused", map[string]float64{"outbox.connections{result=failed}": 1})
	if a := s.Send(t.Context(), messageTo(strange.URL)); a.Class != ClassTLS {
		t.Errorf("%s, want class %s", describe(a), ClassTLS)
	}
	counts("a certificate of an unknown authority", map[string]float64{
		"outbox.connections{result=opened}": 1, "outbox.tls.handshakes{result=failed}": 1,
	})
}
