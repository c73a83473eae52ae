package main

import (
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/httpmethod"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// Bounds of what a receiver holds of one request.
const (
	bodyBytesKept = 1 << 20  // shown with --body
	bodyBytesMax  = 64 << 20 // read at all; what the outbox can send is less
)

// receiver is the HTTP handler of the command receive.
type receiver struct {
	flags  receiveFlags
	record *record
	print  func(delivery)
	ended  <-chan struct{} // the command's end
}

// delivery is one request and its outcome.
type delivery struct {
	Type        string    `json:"type"` // "delivery"
	Time        time.Time `json:"time"` // of its arrival
	WebhookID   string    `json:"webhook_id"`
	RunID       string    `json:"run_id"`
	RunStatus   string    `json:"run_status"`
	Answer      int       `json:"answer"` // 0: none was given
	Bytes       int64     `json:"bytes"`
	Attempt     int       `json:"attempt"`   // how often this id came, this time included
	Duplicate   bool      `json:"duplicate"` // an earlier one was accepted
	Body        *string   `json:"body,omitempty"`
	Verified    *bool     `json:"verified,omitempty"`     // nil without keys
	Key         int       `json:"key,omitempty"`          // which of the keys signed it, from 1; 0: none
	NotVerified string    `json:"not_verified,omitempty"` // why not

	fault string // why none was given
}

// handler returns the receiver behind the method's check and, with keys, the verification.
func (r *receiver) handler(keys webhook.Keys) (http.Handler, error) {
	var verified http.Handler = r
	if len(keys) > 0 {
		var err error
		verified, err = webhook.NewHandler(r, webhook.HandlerConfig{
			Verifier: webhook.Verifier{Keys: keys}, BodyBytesMax: bodyBytesMax, OnError: r.refused,
		})
		if err != nil {
			return nil, err
		}
	}
	methods := strings.Join(httpmethod.All(), ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if !httpmethod.Valid(q.Method) {
			w.Header().Set("Allow", methods)
			http.Error(w, "this is outbox-worker receive: it takes webhooks, by "+methods, http.StatusMethodNotAllowed)
			return
		}
		verified.ServeHTTP(w, q)
	}), nil
}

func newDelivery(q *http.Request) delivery {
	return delivery{
		Type: "delivery", Time: time.Now(), WebhookID: q.Header.Get(webhook.HeaderID),
		RunID: q.Header.Get("Workflow-Run-Id"), RunStatus: q.Header.Get("Workflow-Run-Status"),
	}
}

// refused prints a request that was not verified, just before it is answered. Its id is not remembered, because anybody can
// choose it.
func (r *receiver) refused(q *http.Request, err error) {
	d := newDelivery(q)
	d.Answer, d.Bytes, d.Attempt = webhook.DefaultStatus(err), max(q.ContentLength, 0), 1
	d.Verified, d.NotVerified = new(bool), err.Error()
	r.record.refused()
	r.print(d)
}

// ServeHTTP reads, waits, prints and answers, in this order: the line is there before the sender sees the answer.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	d := newDelivery(q)
	if verified, ok := webhook.FromContext(q.Context()); ok {
		d.Verified, d.Key = &ok, verified.KeyIndex+1
	}
	body, bytes, err := readBody(q.Body)
	d.Bytes = bytes
	if r.flags.body {
		text := string(body)
		d.Body = &text
	}
	d.Attempt = r.record.arrived(d.WebhookID)
	switch {
	case err != nil:
		d.fault = "broken off"
	case r.flags.hang:
		d.fault = r.wait(q, nil)
	case r.flags.delay > 0:
		timer := time.NewTimer(r.flags.delay)
		defer timer.Stop()
		d.fault = r.wait(q, timer.C)
	}
	if d.fault == "" {
		d.Answer = r.decide(d.Attempt)
	}
	d.Duplicate = r.record.answered(d.WebhookID, d.Attempt, d.Answer)
	r.print(d)
	if d.fault != "" {
		panic(http.ErrAbortHandler) // closes the connection without an answer; net/http recovers it silently
	}
	if d.Answer/100 != 2 && r.flags.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(r.flags.retryAfter/time.Second)))
	}
	w.WriteHeader(d.Answer)
}

// wait waits for the timer, or returns who stopped waiting first.
func (r *receiver) wait(q *http.Request, timer <-chan time.Time) (fault string) {
	select {
	case <-timer:
		return ""
	case <-q.Context().Done():
		return "gave up"
	case <-r.ended:
		return "stopped"
	}
}

func (r *receiver) decide(attempt int) int {
	const hundred = 100
	if attempt <= r.flags.failFirst || rand.Float64()*hundred < float64(r.flags.fail) {
		return r.flags.badly
	}
	return r.flags.status
}

// readBody keeps the start of a body and counts the rest.
func readBody(body io.Reader) (start []byte, bytes int64, err error) {
	start, err = io.ReadAll(io.LimitReader(body, bodyBytesKept))
	if err != nil {
		return start, int64(len(start)), err
	}
	rest, err := io.Copy(io.Discard, io.LimitReader(body, bodyBytesMax))
	bytes = int64(len(start)) + rest
	if err == nil && rest == bodyBytesMax {
		err = errors.New("endless")
	}
	return start, bytes, err
}
