package worker

import (
	"crypto/tls"
	"net"
	"net/netip"
	"reflect"
	"syscall"
	"testing"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
)

// When every field of Config is set, every field of package delivery's configuration is set.
func TestEveryFieldReachesTheDelivery(t *testing.T) {
	t.Parallel()
	c := Config{
		AllowHTTP: true, AllowedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, AllowedPorts: []uint16{443},
		DeniedAddrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}, ProxyURL: "http://proxy", CAFile: "ca",
		ClientCertFile: "cert", ClientKeyFile: "key", ClientCertOrigins: []string{"https://a.example"}, SecretHeadersFile: "headers", EventsURL: "https://ops", Keys: newRing(nil), Resolver: new(net.Resolver),
		DialControl: func(string, string, syscall.RawConn) error { return nil }, TLSConfig: new(tls.Config), instruments: new(instruments.Maker),
		TracerProvider: noop.NewTracerProvider(),
	}.WithDefaults()
	d := reflect.ValueOf(deliveryConfig(c, []delivery.Service{{What: "the database"}}))
	for i := range d.NumField() {
		if d.Field(i).IsZero() {
			t.Errorf("delivery.Config.%s is not set, want a value from Config", d.Type().Field(i).Name)
		}
	}
}
