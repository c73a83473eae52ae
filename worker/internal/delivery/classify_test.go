package delivery

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestATransportsErrorIsClassifiedByItsType(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for want, errs := range map[string][]error{
		ClassBlocked:  {dial(blockedError{errors.New("no")}), fmt.Errorf("wrapped: %w", blockedError{errors.New("no")})},
		ClassTimeout:  {os.ErrDeadlineExceeded, dial(os.ErrDeadlineExceeded), dial(&net.DNSError{IsTimeout: true})},
		ClassDNS:      {dial(&net.DNSError{IsNotFound: true}), dial(&net.DNSError{IsTemporary: true})},
		ClassConnect:  {dial(errors.New("refused"))},
		ClassProtocol: {errors.New("what is this"), http.ErrLineTooLong},
	} {
		for _, err := range errs {
			if got, _ := classify(err); got != want {
				t.Errorf("%v is of class %s, want %s", err, got, want)
			}
		}
	}
}

func TestAnErrorsTextIsShortAndValid(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"\xff\xfe and NUL \x00", strings.Repeat("ä", 2000), "x" + strings.Repeat("ä", 2000), strings.Repeat("\xff!", 2000),
	} {
		_, got := classify(errors.New(text))
		if !utf8.ValidString(got) || strings.Contains(got, "\x00") || len(got) > errorBytesMax {
			t.Errorf("%.20q… becomes %d bytes, want %d at most; valid UTF-8: %v, want true", text, len(got), errorBytesMax, utf8.ValidString(got))
		}
	}
}

// A URL may contain a secret, so no error quotes it. net/url puts URLs into its errors, and http.Client wraps errors in
// them, but a transport does not: none of its errors is a *url.Error.
func TestNoErrorQuotesTheURL(t *testing.T) {
	t.Parallel()
	const path = "/hook/top-secret?token=top-secret"
	c := allowing("127.0.0.1")
	c.Resolver = newNameserver(t, func(string, int) []netip.Addr { return nil }).resolver()
	s := newSender(t, c)
	sockets := map[string]*socket{
		"garbage": newSocket(t, say("what is this\r\n\r\n")), "a close": newSocket(t, sayAndClose("")),
		"half a body": newSocket(t, sayAndClose("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")), "silence": newSocket(t, hang),
	}
	urls := map[string]string{
		"unparsable": "http://[::1" + path, "a bad escape": "http://a.test/%zz" + path, "a control character": "http://a.test" + path + "\x7f",
		"no host": "http://" + path, "another scheme": "ftp://a.test" + path, "no scheme": path, "empty": "", "a bad port": "http://a.test:99999" + path,
		"a user":  "http://top-secret:top-secret@nobody.test" + path,
		"blocked": "http://10.0.0.1" + path, "unknown": "http://nobody.test" + path, "refused": closedPort(t) + path,
	}
	for what, socket := range sockets {
		urls[what], urls[what+" over TLS"] = socket.URL+path, socket.overTLS()+path
	}
	for what, target := range urls {
		m := messageTo(target).with(t, outbox.Options{Timeout: shortWait})
		if a := s.Send(t.Context(), m); a.Class == ClassDelivered || a.Class == ClassStatus || a.Err == "" || strings.Contains(a.Err, "top-secret") {
			t.Errorf("%s: %s, want a failure whose error does not quote the URL", what, describe(a))
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, http.NoBody)
		if err != nil || strings.Contains(what, "silence") {
			continue
		}
		var quotes *url.Error
		if resp, err := s.transport.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		} else if errors.As(err, &quotes) {
			t.Errorf("%s: the error of the transport is a *url.Error: %v, want another type", what, err)
		}
	}
}
