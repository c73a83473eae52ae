package worker

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestAProgramsDialControlAndTLSOpenNoBlockedAddress: the worker uses what the embedding program gives, and the guard still
// blocks every address that it blocks otherwise.
func TestAProgramsDialControlAndTLSOpenNoBlockedAddress(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	for name, open := range map[string]bool{"open": true, "closed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			id := r.writeTo(server.URL, "run")
			var dials atomic.Int64
			c := r.config()
			c.TLSConfig = &tls.Config{RootCAs: x509.NewCertPool()}
			c.TLSConfig.RootCAs.AddCert(server.Certificate())
			c.DialControl = func(_, address string, _ syscall.RawConn) error {
				dials.Add(1)
				return nil
			}
			want := outbox.StateDelivered
			if !open {
				c.AllowedCIDRs, want = nil, outbox.StateDead
			}
			r.run(c)
			r.awaitState(id, want)
			if dialled := dials.Load() > 0; dialled != open {
				t.Errorf("DialControl was called %d times, want calls: %v", dials.Load(), open)
			}
		})
	}
}

func TestATLSConfigurationThatTrustsAnybodyIsRefused(t *testing.T) {
	t.Parallel()
	err := Config{TLSConfig: &tls.Config{InsecureSkipVerify: true, RootCAs: x509.NewCertPool()}, CAFile: "ca.pem"}.Validate()
	for _, want := range []string{"InsecureSkipVerify", "RootCAs, and CAFile is set too"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate returns %[2]v, want %[1]q in it", want, err)
		}
	}
}
