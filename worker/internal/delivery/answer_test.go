package delivery

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
)

func TestEveryStatusHasItsClass(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		status, _ := strconv.Atoi(req.path[1:])
		w.WriteHeader(status)
	})
	s := newSender(t, allowing("127.0.0.1"))
	for status := 200; status < 600; status++ {
		a := s.Send(t.Context(), messageTo(fmt.Sprintf("%s/%d", to.URL, status)))
		class, says := ClassStatus, fmt.Sprintf("answered %d", status)
		if status < 300 {
			class, says = ClassDelivered, ""
		}
		if a.Class != class || a.StatusCode != status || !strings.HasPrefix(a.Err, says) || (a.Err == "") != (says == "") || a.WaitsFor != "" {
			t.Errorf("status %d: %s, want class %s and an error that begins with %q", status, describe(a), class, says)
		}
	}
	if n := len(to.requests()); n != 400 {
		t.Errorf("the receiver got %d requests for 400 attempts, want 400", n)
	}
}

// An informational answer does not count: the final one does. If an endpoint sends no final answer, it has reset the
// connection.
func TestInformationalAnswersDoNotCount(t *testing.T) {
	t.Parallel()
	s := newSender(t, allowing("127.0.0.1"))
	for status := 100; status < 200; status++ {
		if status == http.StatusSwitchingProtocols { // this one is final
			continue
		}
		first := fmt.Sprintf("HTTP/1.1 %d Wait\r\n\r\n", status)
		final := newSocket(t, sayAndClose(first+"HTTP/1.1 204 Done\r\n\r\n"))
		if a := s.Send(t.Context(), messageTo(final.URL)); a.Class != ClassDelivered || a.StatusCode != 204 {
			t.Errorf("%d and a final answer 204: %s, want a delivery with 204", status, describe(a))
		}
		if status > 110 {
			continue
		}
		none := newSocket(t, sayAndClose(first))
		if a := s.Send(t.Context(), messageTo(none.URL)); a.Class != ClassReset || a.StatusCode != 0 {
			t.Errorf("%d alone: %s, want class %s", status, describe(a), ClassReset)
		}
	}
}

// A number that is not a status is not recorded as one: the tables could not store it.
func TestANumberThatIsNotAStatusIsAFaultOfTheProtocol(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"000", "042", "099", "600", "999"} {
		to := newSocket(t, sayAndClose("HTTP/1.1 "+status+" Odd\r\nContent-Length: 0\r\n\r\n"))
		if a := sendOnce(t, allowing("127.0.0.1"), messageTo(to.URL)); a.Class != ClassProtocol || a.StatusCode != 0 {
			t.Errorf("status %s: %s, want class %s without a status", status, describe(a), ClassProtocol)
		}
	}
}

// After this status net/http hands the connection over, and a read of it has no timeout.
func TestSwitchingProtocolsEndsTheAttempt(t *testing.T) {
	t.Parallel()
	for what, upgrade := range map[string]string{"with an upgrade": "Connection: Upgrade\r\nUpgrade: h2c\r\n", "with nothing": ""} {
		to := newSocket(t, say("HTTP/1.1 101 Switching Protocols\r\n"+upgrade+"\r\n"))
		t.Cleanup(to.close) // before the Sender's, so that a Send that hangs would return
		if a := sendOnce(t, allowing("127.0.0.1"), messageTo(to.URL)); a.Class != ClassStatus || a.StatusCode != 101 {
			t.Errorf("%s: %s, want class %s with 101", what, describe(a), ClassStatus)
		}
	}
}

// The path and the query of a redirect may hold a token, and errors go into rows and logs.
func TestARedirectIsNotFollowedAndItsOriginIsNamed(t *testing.T) {
	t.Parallel()
	target := newReceiver(t, nil)
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		w.Header().Set("Location", strings.Replace(target.URL, "http://", "http://top-secret@", 1)+"/moved/top-secret?token=top-secret")
		status, _ := strconv.Atoi(req.path[1:])
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "over there")
	})
	s := newSender(t, allowing("127.0.0.1"))
	for _, status := range []string{"301", "302", "303", "307", "308"} {
		a := s.Send(t.Context(), messageTo(to.URL+"/"+status))
		if a.Class != ClassStatus || strconv.Itoa(a.StatusCode) != status || a.Response != "over there" ||
			!strings.Contains(a.Err, target.URL) || strings.Contains(a.Err, "top-secret") || !strings.Contains(a.Err, "not followed") {
			t.Errorf("status %s: %s: %q, want the status, the answer, and the origin of the redirect alone", status, describe(a), a.Response)
		}
	}
	if n := len(target.requests()); n > 0 {
		t.Errorf("the target of the redirects got %d requests, want none", n)
	}
}

func TestRetryAfterOfAnAnswerIsKeptUnlessItIsADelivery(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		w.Header().Set("Retry-After", "600")
		status, _ := strconv.Atoi(req.path[1:])
		w.WriteHeader(status)
	})
	for status, want := range map[string]time.Duration{"429": 10 * time.Minute, "503": 10 * time.Minute, "200": 0} {
		if a := sendOnce(t, allowing("127.0.0.1"), messageTo(to.URL+"/"+status)); a.RetryAfter != want {
			t.Errorf("status %s: Retry-After is %v, want %v", status, a.RetryAfter, want)
		}
	}
}

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	const longest = math.MaxUint32 * time.Second
	for value, want := range map[string]time.Duration{
		"0":                                  0,
		"120":                                2 * time.Minute,
		"4294967295":                         longest,
		"4294967296":                         longest,
		"99999999999999999999999999":         longest,
		"Mon, 04 May 2026 03:02:31 GMT":      30 * time.Second,
		"Monday, 04-May-26 03:02:31 GMT":     30 * time.Second, // RFC 850, which a recipient must accept (RFC 9110)
		"Mon May  4 03:02:31 2026":           30 * time.Second, // asctime
		"Mon, 04 May 2026 03:02:00 GMT":      0,
		"Thu, 01 Jan 1970 00:00:00 GMT":      0,
		"":                                   0,
		"-5":                                 0,
		"+5":                                 0,
		"1.5":                                0,
		"5 s":                                0,
		"soon":                               0,
		"2026-05-04T03:02:31Z":               0,
		"Mon, 04 May 2026 03:02:31 GMT, 120": 0,
	} {
		if got := parseRetryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	if got := parseRetryAfter("Fri, 31 Dec 9999 23:59:59 GMT", now); got <= 0 {
		t.Errorf("a date too late for a time.Duration gives %v, want a positive one", got)
	}
}

// One endpoint serves many tenants, so no cookie is kept between requests.
func TestNoCookieIsKept(t *testing.T) {
	t.Parallel()
	to := newReceiver(t, func(w http.ResponseWriter, _ request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "of somebody", Path: "/"})
	})
	s := newSender(t, allowing("127.0.0.1"))
	for range 3 {
		wantDelivered(t, "a message", s.Send(t.Context(), messageTo(to.URL)))
	}
	for i, got := range to.requests() {
		if cookies := got.header["Cookie"]; cookies != nil {
			t.Errorf("request %d has the cookies %q, want none", i, cookies)
		}
	}
}

// The request does not ask for compression, and a few compressed bytes may become gigabytes.
func TestACompressedAnswerIsNotDecompressed(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 4<<20)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	to := newReceiver(t, func(w http.ResponseWriter, _ request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	a := sendOnce(t, allowing("127.0.0.1"), messageTo(to.URL))
	wantDelivered(t, "a message", a)
	if got := to.last(t).header["Accept-Encoding"]; got != nil {
		t.Errorf("the request asks for the encoding %q, want none", got)
	}
	if want := cleantext.Of(string(trimIncomplete(bomb.Bytes()[:responseBytesKept]))); a.Response != want {
		t.Errorf("the start is kept as %.40q…, want %.40q…", a.Response, want)
	}
}

// The start of an answer is kept as valid UTF-8 without NUL. When our own cut breaks a character, the whole character is
// left out. A character that the body itself breaks becomes U+FFFD, like any other invalid UTF-8.
func TestTheStartOfAnAnswerIsKeptAsTextThatPostgresCanStore(t *testing.T) {
	t.Parallel()
	const bad = "\uFFFD"
	x := func(n int) string { return strings.Repeat("x", n) }
	type body struct{ sent, want string }
	bodies := map[string]body{
		"empty":                    {"", ""},
		"short":                    {"thank you", "thank you"},
		"NUL":                      {"a\x00b", "a" + bad + "b"},
		"at the limit":             {x(1024), x(1024)},
		"one byte more":            {x(1025), x(1024)},
		"long":                     {x(100_000), x(1024)},
		"binary":                   {strings.Repeat("\xff\x00", 700), strings.Repeat(bad, 1024)},
		"binary at the cut":        {x(1023) + "\xff" + x(9), x(1023) + bad},
		"a stray byte at the cut":  {x(1023) + "\x80" + x(9), x(1023) + bad},
		"a body of broken bytes":   {strings.Repeat("\x80", 2000), bad},
		"ends within a character":  {"thank you \xc3", "thank you " + bad},
		"ends so, at the limit":    {x(1022) + "\xf0\x9f", x(1022) + bad},
		"whole before the cut":     {x(1022) + "üü", x(1022) + "ü"},
		"many cut characters":      {"x" + strings.Repeat("ü", 2000), "x" + strings.Repeat("ü", 511)},
		"a bad start, then a cut":  {x(1020) + "\xf0\x80" + "\xf0\x9f" + x(9), x(1020) + bad},
		"a character, byte by one": {x(1021) + "\xf0\x9f\x98" + "\x80", x(1021)},
	}
	for _, character := range []string{"ü", "€", "😀"} {
		for before := 1; before <= len(character); before++ { // how many of its bytes are before the cut
			want := x(1024 - before)
			if before == len(character) {
				want += character
			}
			bodies[fmt.Sprintf("%s cut after %d", character, before)] = body{x(1024-before) + character + x(99), want}
		}
	}
	to := newReceiver(t, func(w http.ResponseWriter, got request) { _, _ = io.WriteString(w, bodies[got.body].sent) })
	s := newSender(t, allowing("127.0.0.1"))
	for what, b := range bodies {
		m := messageTo(to.URL)
		m.Body = []byte(what)
		a := s.Send(t.Context(), m)
		wantDelivered(t, what, a)
		if a.Response != b.want || !utf8.ValidString(a.Response) {
			t.Errorf("%s: kept as …%q, want …%q", what, a.Response[max(0, len(a.Response)-20):], b.want[max(0, len(b.want)-20):])
		}
	}
}

// A body may end at the limit by itself, in the middle of a character. Then the cut is not ours.
func TestABodyThatBreaksOffAtTheLimitKeepsItsBrokenCharacter(t *testing.T) {
	t.Parallel()
	start := strings.Repeat("x", 1023) + "\xc3"
	to := newSocket(t, sayAndClose("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n"+start))
	a := sendOnce(t, allowing("127.0.0.1"), messageTo(to.URL))
	if want := strings.Repeat("x", 1023) + "\uFFFD"; a.Class != ClassReset || a.Response != want {
		t.Errorf("%s: kept as …%q, want …%q", describe(a), a.Response[max(0, len(a.Response)-20):], want[len(want)-20:])
	}
}

// trimIncomplete removes at most three bytes, and only those that more bytes could complete.
func TestTrimIncompleteRemovesOnlyWhatMoreBytesCouldComplete(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"", "a", "ü", "€", "😀", "\xc3", "\xe2", "\xe2\x82", "\xf0", "\xf0\x9f", "\xf0\x9f\x98", "\x80", "\xff", "\xf0\x80", "\xc0"}
	for range 20_000 {
		var b []byte
		for range rng.IntN(4) {
			b = append(b, pieces[rng.IntN(len(pieces))]...)
		}
		got := trimIncomplete(b)
		tail := b[len(got):]
		if !bytes.HasPrefix(b, got) || len(tail) > 0 && utf8.FullRune(tail) {
			t.Fatalf("%q becomes %q, want it without its incomplete character only", b, got)
		}
		for i := max(0, len(got)-utf8.UTFMax+1); i < len(got); i++ {
			if len(tail) == 0 && utf8.RuneStart(got[i]) && !utf8.FullRune(got[i:]) {
				t.Fatalf("%q keeps the incomplete %q", b, got[i:])
			}
		}
	}
}

// net/http sends a request again by itself, over any other connection, if one of its headers says that this does no harm. An
// attempt sends it once more only, and over a new connection: at most two requests.
func TestAHeaderDoesNotMakeAnAttemptMoreRequests(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"X-Tenant", "Idempotency-Key", "X-Idempotency-Key"} {
		var requests atomic.Int64
		to := newSocket(t, func(conn net.Conn) { // it answers the first request, and closes the connection at each later one
			read := bufio.NewReader(conn)
			for {
				req, err := http.ReadRequest(read)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				if requests.Add(1) > 1 {
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
			}
		})
		s := newSender(t, allowing("127.0.0.1"))
		wantDelivered(t, name, s.Send(t.Context(), messageTo(to.URL)))
		a := s.Send(t.Context(), messageTo(to.URL).forwarding(t, map[string]string{name: "1"}))
		if n := requests.Load(); n != 3 || a.Class != ClassReset {
			t.Errorf("%s: %d requests, want one for the first attempt and two for the second; %s", name, n, describe(a))
		}
	}
}
