package webhook_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

func TestTheHandlerPassesTheUnchangedBodyOn(t *testing.T) {
	t.Parallel()
	for _, body := range bodies() {
		rig := newRig(t, func(w http.ResponseWriter, r *http.Request) {
			d, ok := webhook.FromContext(r.Context())
			got, err := io.ReadAll(r.Body)
			if !ok || d.ID != "id" || err != nil || !bytes.Equal(got, body) || r.ContentLength != int64(len(body)) {
				t.Errorf("next got %+v, %v, and %d of %d bytes, %v; want the delivery and the whole body", d, ok, len(got), len(body), err)
			}
			w.WriteHeader(http.StatusAccepted)
		}, nil)
		if got := rig.deliver(t, "id", body); got != http.StatusAccepted {
			t.Errorf("the answer is %d, want that of next, 202", got)
		}
		chunked := rig.request(t, "id", body)
		chunked.Body, chunked.ContentLength = io.NopCloser(bytes.NewReader(body)), -1
		if got, text := rig.answerTo(chunked); got != http.StatusAccepted {
			t.Errorf("for a body in chunks the answer is %d %s, want that of next, 202", got, text)
		}
	}
}

func TestWithoutAHandlerTheContextHasNoDelivery(t *testing.T) {
	t.Parallel()
	if d, ok := webhook.FromContext(t.Context()); ok || d != (webhook.Delivery{}) {
		t.Errorf("FromContext returns %+v, %v; want no delivery", d, ok)
	}
}

func TestARefusedRequestDoesNotReachNext(t *testing.T) {
	t.Parallel()
	rig := newRig(t, func(http.ResponseWriter, *http.Request) { t.Error("next is called, want that it is not") }, nil)
	stale := time.Now().Add(-time.Hour)
	for _, c := range []struct {
		name   string
		change func(http.Header)
		status int
		want   error
	}{
		{"no id", func(h http.Header) { h.Del(webhook.HeaderID) }, 400, webhook.ErrMissingHeader},
		{"two ids", func(h http.Header) { h.Add(webhook.HeaderID, "id") }, 400, webhook.ErrInvalidHeader},
		{"an id with a full stop", func(h http.Header) { h.Set(webhook.HeaderID, "a.b") }, 400, webhook.ErrInvalidHeader},
		{"another id", func(h http.Header) { h.Set(webhook.HeaderID, "ie") }, 401, webhook.ErrSignature},
		{"a stale one", func(h http.Header) {
			h.Set(webhook.HeaderTimestamp, webhook.Timestamp(stale))
			h.Set(webhook.HeaderSignature, webhook.Keys{rig.key}.Sign("id", stale, nil))
		}, 425, webhook.ErrTimestamp},
	} {
		q := rig.request(t, "id", nil)
		c.change(q.Header)
		status, text := rig.answerTo(q)
		if status != c.status || strings.TrimSpace(text) != c.want.Error() {
			t.Errorf("%s: the answer is %d %q, want %d %q", c.name, status, text, c.status, c.want)
		}
		if faults := rig.faults(); !errors.Is(faults[len(faults)-1], c.want) {
			t.Errorf("%s: OnError got %v, want %v", c.name, faults[len(faults)-1], c.want)
		}
	}
}

func TestA401NamesAScheme(t *testing.T) {
	t.Parallel()
	rig := newRig(t, func(http.ResponseWriter, *http.Request) {}, nil)
	q := rig.request(t, "id", nil)
	q.Header.Set(webhook.HeaderSignature, "v1,none")
	resp, err := rig.client.Do(q)
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("the answer is %d with the header %v, want 401 with WWW-Authenticate", resp.StatusCode, resp.Header)
	}
}

func TestTheStatusOfARefusalCanBeChosenButNeverAccepts(t *testing.T) {
	t.Parallel()
	for chosen, want := range map[int]int{503: 503, 599: 599, 400: 400, 200: 500, 302: 500, 0: 500, 600: 500, 100: 500} {
		rig := newRig(t, func(http.ResponseWriter, *http.Request) { t.Error("next is called, want that it is not") }, func(c *webhook.HandlerConfig) {
			c.Status = func(err error) int {
				if errors.Is(err, webhook.ErrSignature) {
					return chosen
				}
				return webhook.DefaultStatus(err)
			}
		})
		q := rig.request(t, "id", nil)
		q.Header.Set(webhook.HeaderSignature, "v1,none")
		if got, _ := rig.answerTo(q); got != want {
			t.Errorf("with the status %d the answer is %d, want %d", chosen, got, want)
		}
		q.Header.Del(webhook.HeaderSignature)
		if got, _ := rig.answerTo(q); got != 400 {
			t.Errorf("the answer to another fault is %d, want 400", got)
		}
	}
}

func TestABodyOverTheLimitIsRefusedWhole(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	handled := 0
	rig := newRig(t, func(http.ResponseWriter, *http.Request) { handled++ }, func(c *webhook.HandlerConfig) {
		c.BodyBytesMax = limit
	})
	for size, want := range map[int]int{0: 200, limit: 200, limit + 1: 413, 3 * limit: 413} {
		for _, chunked := range []bool{false, true} {
			q := rig.request(t, "id", make([]byte, size))
			if chunked {
				q.Body, q.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, size))), -1
			}
			if got, text := rig.answerTo(q); got != want {
				t.Errorf("%d bytes, chunked %v: the answer is %d %s, want %d", size, chunked, got, text, want)
			}
		}
	}
	if handled != 4 {
		t.Errorf("%d requests were handled, want 4", handled)
	}
}

func TestADefaultResultFitsInTheDefaultLimit(t *testing.T) {
	t.Parallel()
	rig := newRig(t, func(http.ResponseWriter, *http.Request) {}, nil)
	if got := rig.deliver(t, "id", make([]byte, webhook.DefaultBodyBytesMax)); got != 200 {
		t.Errorf("the answer to a body at the limit is %d, want 200", got)
	}
	if got := rig.deliver(t, "id", make([]byte, webhook.DefaultBodyBytesMax+1)); got != 413 {
		t.Errorf("the answer to one byte more is %d, want 413", got)
	}
}

func TestARequestWhoseBodyBreaksOffIsNotHandled(t *testing.T) {
	t.Parallel()
	faults := make(chan error, 1)
	rig := newRig(t, func(http.ResponseWriter, *http.Request) { t.Error("next is called, want that it is not") }, func(c *webhook.HandlerConfig) {
		c.OnError = func(_ *http.Request, err error) { faults <- err }
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(rig.url, "http://"))
	must(t, err)
	q := rig.request(t, "id", []byte("whole"))
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n")
	must(t, err)
	must(t, q.Header.Write(conn))
	_, err = conn.Write([]byte("\r\nwho"))
	must(t, err)
	must(t, conn.Close())
	if err := <-faults; !errors.Is(err, webhook.ErrBody) {
		t.Error(err)
	}
}

// A request with invalid headers is answered before its body has arrived. Otherwise anybody could make the receiver read and
// keep large bodies.
func TestHeadersAreCheckedBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	rig := newRig(t, func(http.ResponseWriter, *http.Request) { t.Error("next is called, want that it is not") }, nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(rig.url, "http://"))
	must(t, err)
	defer func() { _ = conn.Close() }()
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\nwebhook-id: id\r\n\r\n")
	must(t, err)
	start := make([]byte, len("HTTP/1.1 400"))
	if _, err = io.ReadFull(conn, start); err != nil || string(start) != "HTTP/1.1 400" {
		t.Errorf("the answer begins with %q, %v; want a 400 before the body", start, err)
	}
}

func TestEveryFaultOfAHandlersConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	_, err := webhook.NewHandler(nil, webhook.HandlerConfig{BodyBytesMax: -1})
	for _, want := range []string{"Keys is empty", "BodyBytesMax is -1", "next is nil"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
	if !errors.Is(err, webhook.ErrVerifier) {
		t.Error(err)
	}
}
