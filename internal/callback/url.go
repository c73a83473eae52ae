// Package callback holds the rules for callback URLs and their endpoints.
package callback

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// BytesMax is the longest URL. The tables enforce it too.
const BytesMax = 2048

// Check returns the endpoint of a callback URL: its origin, in lower case and ASCII, without the default port. If the URL can
// never be delivered to, the error names the fault. It quotes at most the scheme of the URL, which may hold a secret.
func Check(raw string) (endpoint string, err error) {
	_, endpoint, err = Normalize(raw)
	return endpoint, err
}

// Normalize returns a callback URL in the form in which it is stored and sent, and its endpoint. The host is in its
// canonical form, and what HTTP does not allow in a path or a query, such as a space, is percent-encoded; existing escapes
// stay. A URL in this form comes back unchanged. The errors are those of [Check].
func Normalize(raw string) (normal, endpoint string, err error) {
	if len(raw) > BytesMax {
		return "", "", fmt.Errorf("url: %d bytes, the limit is %d", len(raw), BytesMax)
	}
	u, err := parseURL(raw)
	if err != nil {
		return "", "", err
	}
	origin, err := originOf(u)
	if err != nil {
		return "", "", err
	}
	normal = origin.scheme + "://" + origin.host
	if strings.HasSuffix(u.Hostname(), ".") {
		normal += "." // a fully qualified name, without a search list
	}
	if u.Port() != "" {
		normal += ":" + u.Port()
	}
	_, rest, _ := strings.Cut(raw, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		normal += percentEncode(rest[i:])
	}
	if len(normal) > BytesMax {
		return "", "", fmt.Errorf("url: %d bytes once it is encoded, the limit is %d", len(normal), BytesMax)
	}
	return normal, origin.String(), nil
}

func parseURL(raw string) (*url.URL, error) {
	if !utf8.ValidString(raw) {
		return nil, errors.New("url: not valid UTF-8; write such bytes as %XX")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("url: cannot be parsed: %w", unquotedCause(err))
	}
	switch scheme := strings.ToLower(u.Scheme); scheme {
	case "":
		return nil, errors.New("url: relative; want https://host/path")
	case "http", "https":
	default:
		return nil, fmt.Errorf("url: scheme %q; want https or http", u.Scheme)
	}
	if u.User != nil {
		return nil, errors.New("url: holds a user name or password; put credentials into a header or the query")
	}
	if u.Opaque != "" || u.Hostname() == "" {
		return nil, errors.New("url: host is empty; want https://host/path")
	}
	return u, nil
}

// urlOrigin is an endpoint.
type urlOrigin struct{ scheme, host, port string } // port is empty when it is the scheme's own

func (o urlOrigin) String() string {
	if o.port == "" {
		return o.scheme + "://" + o.host
	}
	return o.scheme + "://" + o.host + ":" + o.port
}

func originOf(u *url.URL) (o urlOrigin, err error) {
	if o.host, err = canonicalHost(u); err != nil {
		return o, err
	}
	o.scheme = strings.ToLower(u.Scheme)
	if port := u.Port(); port != "" {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > 65535 {
			return o, fmt.Errorf("url: port %.16s is not in 1 to 65535", port)
		}
		if !(o.scheme == "https" && n == 443 || o.scheme == "http" && n == 80) {
			o.port = strconv.Itoa(n)
		}
	}
	return o, nil
}

// percentEncode encodes the bytes that neither a path nor a query may hold (RFC 3986, appendix A). Square brackets stay:
// many queries have them, and they do no harm.
func percentEncode(text string) string {
	if !strings.ContainsFunc(text, notInURL) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; notInURL(rune(c)) {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func notInURL(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.IndexByte("\"<>\\^`{|}", byte(r)) >= 0
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
