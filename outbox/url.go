package outbox

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckURL returns the endpoint of a callback URL: its origin, in lower case, without the default port. A URL that can
// never be delivered to is an error that names its fault, never the URL's own text beyond the scheme, for it may hold a
// secret.
func CheckURL(raw string) (endpoint string, err error) {
	if len(raw) > URLBytesMax {
		return "", fmt.Errorf("url: %d bytes, the limit is %d", len(raw), URLBytesMax)
	}
	if !utf8.ValidString(raw) {
		return "", errors.New("url: not valid UTF-8; write such bytes as %XX")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("url: cannot be parsed: %w", unquotedCause(err))
	}
	switch scheme := strings.ToLower(u.Scheme); scheme {
	case "":
		return "", errors.New("url: relative; want https://host/path")
	case "http", "https":
	default:
		return "", fmt.Errorf("url: scheme %q; want https or http", u.Scheme)
	}
	if u.User != nil {
		return "", errors.New("url: holds a user name or password; put credentials into a header or the query")
	}
	if u.Opaque != "" || u.Hostname() == "" {
		return "", errors.New("url: host is empty; want https://host/path")
	}
	return endpointOf(u)
}

func endpointOf(u *url.URL) (string, error) {
	host, err := canonicalHost(u)
	if err != nil {
		return "", err
	}
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	if port != "" {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return "", fmt.Errorf("url: port %.16s is not in 1 to 65535", port)
		}
		port = strconv.Itoa(n)
	}
	if port == "" || scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		return scheme + "://" + host, nil
	}
	return scheme + "://" + host + ":" + port, nil
}

// hostBytesMax is the longest name that DNS knows (RFC 1035, section 2.3.4). It also keeps an endpoint within what an
// index can hold: what is over that would be the database's error, and so the run's.
const hostBytesMax = 253

// canonicalHost returns the host in lower case, an IPv6 address in brackets and in its one short form. It lets through
// what may be a name, of any script; whether there is such a host is for DNS to say.
func canonicalHost(u *url.URL) (string, error) {
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(u.Hostname())
		if err != nil || addr.Zone() != "" {
			return "", errors.New("url: host is not an IPv6 address, or has a zone, which means nothing elsewhere")
		}
		return "[" + addr.String() + "]", nil
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if len(host) > hostBytesMax {
		return "", fmt.Errorf("url: host has %d bytes, the limit is %d", len(host), hostBytesMax)
	}
	if slices.Contains(strings.Split(host, "."), "") || strings.ContainsFunc(host, notInHost) {
		return "", errors.New("url: host is not a name or an address")
	}
	return host, nil
}

func notInHost(r rune) bool {
	if r < utf8.RuneSelf {
		return r != '-' && r != '.' && r != '_' && !('a' <= r && r <= 'z') && !('0' <= r && r <= '9')
	}
	return r == utf8.RuneError || !unicode.In(r, unicode.L, unicode.M, unicode.N)
}

// unquotedCause drops the URL's text from url.Parse's error: it goes into rows and logs.
func unquotedCause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var escape url.EscapeError
	var host url.InvalidHostError
	switch {
	case errors.As(err, &escape):
		return errors.New("an escape (%…) is not valid")
	case errors.As(err, &host):
		return errors.New("the host is not valid")
	case strings.Contains(err.Error(), "invalid control character"):
		return errors.New("it holds a control character")
	case strings.Contains(err.Error(), "invalid port"):
		return errors.New("the port is not a number")
	}
	return errors.New("it is not a URL")
}
