package faulty

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Between returns a proxy in front of the server of a database's URL, closed when the test ends, and the URL through it.
func Between(t testing.TB, databaseURL string) (p *Proxy, through string) {
	t.Helper()
	target, err := Target(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = NewProxy(target); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("faulty: %v", err)
		}
	})
	if through, err = p.URL(databaseURL); err != nil {
		t.Fatal(err)
	}
	return p, through
}

// Target returns where the server of a database's URL listens, for [NewProxy]. If the URL has several hosts, it is the first.
func Target(databaseURL string) (string, error) {
	config, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		return "", fmt.Errorf("faulty: the database's URL: %w", err) // pgconn takes the password out
	}
	_, address := pgconn.NetworkAddress(config.Host, config.Port)
	return address, nil
}

// URL returns the database's URL, or its key=value settings, with the proxy's address in place of the server's. All else
// stays, so a server's certificate that is verified for its host's name no longer fits.
func (p *Proxy) URL(databaseURL string) (string, error) {
	host, port, err := net.SplitHostPort(p.Addr())
	if err != nil {
		return "", fmt.Errorf("faulty: %w", err)
	}
	return withAddress(databaseURL, host, port)
}

func withAddress(databaseURL, host, port string) (string, error) {
	if !strings.HasPrefix(databaseURL, "postgres://") && !strings.HasPrefix(databaseURL, "postgresql://") {
		return fmt.Sprintf("%s host=%s port=%s", databaseURL, host, port), nil // the last one counts
	}
	// Several hosts with their ports are no URL to net/url, so the address is replaced in the text.
	scheme, rest, _ := strings.Cut(databaseURL, "://")
	authority, tail := rest, ""
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		authority, tail = rest[:end], rest[end:]
	}
	user := ""
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user = authority[:at+1]
	}
	u, err := url.Parse(scheme + "://" + user + net.JoinHostPort(host, port) + tail)
	if err != nil {
		return "", fmt.Errorf("faulty: the database's URL is not valid")
	}
	query := u.Query()
	for _, name := range []string{"host", "port"} { // they would overrule the address
		query.Del(name)
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}
