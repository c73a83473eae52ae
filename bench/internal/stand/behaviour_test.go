package stand

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/rpc"
	"testing"
	"time"
)

// inboxOf returns the parent's side of a receiver in this process, which awaits the first half of the messages, and a
// function that posts one of the messages to an endpoint.
func inboxOf(t *testing.T, endpoints, messages int) (r *Receiver, post func(ctx context.Context, endpoint, n int) (int, error)) {
	t.Helper()
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- serveInbox(far) }()
	r = &Receiver{calls: rpc.NewClient(near)}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		_ = r.calls.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	urls, err := r.Open(endpoints)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ExpectFirst(messages/2, messages); err != nil {
		t.Fatal(err)
	}
	return r, func(ctx context.Context, endpoint, n int) (int, error) {
		l := Load{Trial: r.trial, Messages: messages, URLs: urls}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, urls[endpoint], bytes.NewReader(l.Body(n)))
		if err != nil {
			return 0, err
		}
		answer, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		return answer.StatusCode, answer.Body.Close()
	}
}

func progressOf(t *testing.T, r *Receiver) Progress {
	t.Helper()
	p, err := r.Progress()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOnlyTheAwaitedMessagesEndATrial(t *testing.T) {
	t.Parallel()
	r, post := inboxOf(t, 1, 4)
	for n := 3; n >= 0; n-- {
		if status, err := post(t.Context(), 0, n); status != http.StatusOK || err != nil {
			t.Fatalf("message %d: status %d, %v", n, status, err)
		}
		if want := max(2-n, 0); progressOf(t, r).Distinct != want {
			t.Fatalf("after message %d: %+v; want %d awaited ones", n, progressOf(t, r), want)
		}
	}
	if p, err := r.Await(t.Context()); err != nil || p.Requests != 4 {
		t.Errorf("got %+v, %v; want 4 requests", p, err)
	}
}

func TestAHangingEndpointNeverAnswers(t *testing.T) {
	t.Parallel()
	r, post := inboxOf(t, 3, 6)
	if err := r.Behave(Behaviour{From: 1, To: 2, Hang: true}); err != nil {
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	gone := make(chan error)
	for n := range 2 {
		go func() {
			_, err := post(ctx, 1, n)
			gone <- err
		}()
	}
	await(t, "two requests hang", func() bool { return progressOf(t, r).Hanging == 2 })
	for _, endpoint := range []int{0, 2} {
		if status, err := post(t.Context(), endpoint, 2+endpoint); status != http.StatusOK || err != nil {
			t.Errorf("endpoint %d, which does not hang: status %d, %v", endpoint, status, err)
		}
	}
	giveUp()
	for range 2 {
		if err := <-gone; err == nil {
			t.Error("a hanging endpoint has answered, want an error")
		}
	}
	await(t, "the requests are gone", func() bool { return progressOf(t, r).Hanging == 0 })
	if p := progressOf(t, r); p.HangingMax != 2 || p.Distinct != 1 || p.Requests != 2 {
		t.Errorf("got %+v; want two requests that hung and two others, one of them awaited", p)
	}
}

func TestAFailingEndpointsMessagesDoNotArrive(t *testing.T) {
	t.Parallel()
	r, post := inboxOf(t, 2, 6)
	if err := r.Behave(Behaviour{From: 0, To: 2, FailPercent: 100}); err != nil {
		t.Fatal(err)
	}
	if err := r.Behave(Behaviour{From: 1, To: 2}); err != nil { // healthy again
		t.Fatal(err)
	}
	for endpoint, want := range []int{http.StatusInternalServerError, http.StatusOK} {
		if status, err := post(t.Context(), endpoint, endpoint); status != want || err != nil {
			t.Errorf("endpoint %d: status %d, %v; want %d", endpoint, status, err, want)
		}
	}
	if p := progressOf(t, r); p.Refused != 1 || p.Requests != 1 || p.Distinct != 1 {
		t.Errorf("%+v; want one refused and one arrived", p)
	}
}

func TestEachPathOfAnOriginHasItsOwnBehaviour(t *testing.T) {
	t.Parallel()
	r, _ := inboxOf(t, 1, 4)
	urls, err := r.OpenShared(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Behave(Behaviour{From: 1, To: 2, Status: http.StatusTooManyRequests, RetryAfter: 60}); err != nil {
		t.Fatal(err)
	}
	l := Load{Trial: r.trial, Messages: 4, URLs: urls}
	for n, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
		answer, err := http.Post(l.URL(n), "application/json", bytes.NewReader(l.Body(n)))
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if after := answer.Header.Get("Retry-After"); answer.StatusCode != want || (after == "60") != (n == 1) {
			t.Errorf("%s: status %d, Retry-After %q; want %d", l.URL(n), answer.StatusCode, after, want)
		}
	}
	if p := progressOf(t, r); p.Refused != 1 || p.Distinct != 1 {
		t.Errorf("%+v; want one arrived and one refused", p)
	}
}

func TestASlowEndpointAnswersLate(t *testing.T) {
	t.Parallel()
	const slow = 50 * time.Millisecond
	r, post := inboxOf(t, 1, 2)
	if err := r.Behave(Behaviour{From: 0, To: 1, SlowPercent: 100, Slow: slow, SlowSpread: slow}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if status, err := post(t.Context(), 0, 0); status != http.StatusOK || err != nil {
		t.Fatalf("got the status %d, %v; want 200", status, err)
	}
	if took := time.Since(begun); took < slow {
		t.Errorf("answered after %v; want at least %v", took, slow)
	}
	if p := progressOf(t, r); p.Distinct != 1 {
		t.Errorf("%+v; want the message to have arrived", p)
	}
}

func TestATrialBeginsWithoutBehaviours(t *testing.T) {
	t.Parallel()
	r, post := inboxOf(t, 1, 2)
	if err := r.Behave(Behaviour{From: 0, To: 1, FailPercent: 100}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.expect(2); err != nil {
		t.Fatal(err)
	}
	if status, err := post(t.Context(), 0, 0); status != http.StatusOK || err != nil {
		t.Errorf("got the status %d, %v; want 200", status, err)
	}
	if p := progressOf(t, r); p.Refused != 0 || p.Distinct != 1 {
		t.Errorf("%+v; want one arrived and none refused", p)
	}
}

func TestAnInvalidBehaviourIsAnError(t *testing.T) {
	t.Parallel()
	r, _ := inboxOf(t, 1, 2)
	for _, wrong := range []Behaviour{
		{From: 0, To: 2}, {To: 1, Status: 99}, {To: 1, Status: 500, RetryAfter: -1}, {From: -1, To: 1}, {From: 1, To: 1}, {To: 1, FailPercent: 101}, {To: 1, SlowPercent: -1}, {To: 1, SlowPercent: 5},
		{To: 1, SlowPercent: 5, Slow: 1, SlowSpread: -1},
	} {
		if err := r.Behave(wrong); err == nil {
			t.Errorf("Behave(%+v) returns no error, want one", wrong)
		}
	}
}

// await waits until something holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for until := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) { // the receiver sends no event for what is awaited
		if time.Now().After(until) {
			t.Fatalf("waited a minute, and this did not happen: %s", what)
		}
	}
}
