package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// answer is what the receiver did with a request.
type answer uint8

const (
	accepted  answer = iota // a complete 200, quickly
	failing                 // 500 or 503
	limited                 // 429 with Retry-After
	refusing                // 422
	hanging                 // nothing, until the worker gives up
	resetting               // the connection is reset
	truncated               // 200 and a body that ends too early: the worker may count it as accepted or not
	slow                    // 200, so late that it may exceed the timeout on a busy machine: accepted or not
	garbage                 // an answer that is not HTTP
	answers                 // the number of answers
)

// behaviour is how many of a hundred requests an origin answers in each way. It accepts the others.
type behaviour struct {
	name  string
	share [answers]int
	takes time.Duration // the longest time before an accepting answer
}

// behaviours are those of the origins. The first two are healthy: their messages wait only for the worker. All except the
// first take some time to accept, so that requests are under way when something fails.
var behaviours = []behaviour{
	{name: "healthy"},
	{name: "healthy, not fast", takes: quick * 3 / 4},
	{name: "failing", takes: quick * 3 / 4, share: [answers]int{failing: 25}},
	{name: "limiting", takes: quick * 3 / 4, share: [answers]int{limited: 2, failing: 3}},
	{name: "hanging", takes: quick * 3 / 4, share: [answers]int{hanging: 8, slow: 5}},
	{name: "breaking", takes: quick * 3 / 4, share: [answers]int{resetting: 8, truncated: 5, garbage: 3}},
	{name: "refusing", takes: quick * 3 / 4, share: [answers]int{refusing: 6, failing: 3}},
}

// request is a request that arrived.
type request struct {
	id, run   string
	origin    string
	begin     time.Time
	end       time.Time // when it was answered, or the worker had given up; zero while it is in flight
	answer    answer
	bodySum   [sha256.Size]byte
	complete  bool // the body was read to its end
	status    string
	forwarded string
}

// origin is one server of the receiver.
type origin struct {
	behaviour
	url    string
	server *http.Server
}

// receiver has several origins, and a record of all requests that they got.
type receiver struct {
	seed    uint64
	origins []*origin

	mu       sync.Mutex
	requests []request
	byRun    map[string]int       // requests so far, on which the next answer depends
	last     map[string]time.Time // of each message id
	lastAt   map[string]time.Time // of each origin
}

func startReceiver(seed uint64) (*receiver, error) {
	v := &receiver{seed: seed, byRun: map[string]int{}, last: map[string]time.Time{}, lastAt: map[string]time.Time{}}
	for _, b := range behaviours {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(err, v.stop())
		}
		o := &origin{behaviour: b, url: "http://" + listener.Addr().String()}
		o.server = &http.Server{
			Handler:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { v.serve(o, w, r) }),
			ErrorLog: log.New(io.Discard, "", 0),
		}
		v.origins = append(v.origins, o)
		go func() { _ = o.server.Serve(listener) }() // Serve returns when the server is closed
	}
	return v, nil
}

func (v *receiver) stop() error {
	var faults []error
	for _, o := range v.origins {
		faults = append(faults, o.server.Close())
	}
	return errors.Join(faults...)
}

const hookPath = "/hook"

func (v *receiver) urls() (urls []string) {
	for _, o := range v.origins {
		urls = append(urls, o.url+hookPath)
	}
	return urls
}

// healthyOrigins returns those whose messages wait only for the worker.
func (v *receiver) healthyOrigins() map[string]bool {
	healthy := map[string]bool{}
	for _, o := range v.origins {
		if o.share == [answers]int{} {
			healthy[o.url] = true
		}
	}
	return healthy
}

// choose draws the answer to a run's n-th request from the seed: the same in every trial of that seed.
func (b behaviour) choose(seed uint64, run string, n int) answer {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, seed, " ", run, " ", n)
	at := int(h.Sum64() >> 11 % 100)
	for a, share := range b.share {
		if at -= share; at < 0 {
			return answer(a)
		}
	}
	return accepted
}

func (v *receiver) serve(o *origin, w http.ResponseWriter, r *http.Request) {
	q := request{
		id: r.Header.Get("webhook-id"), run: r.Header.Get("Workflow-Run-Id"), origin: o.url, begin: time.Now(),
		status: r.Header.Get("Workflow-Run-Status"), forwarded: r.Header.Get(forwardedHeader),
	}
	place := v.arrived(&q, o)
	sum := sha256.New()
	_, err := io.Copy(sum, r.Body)
	q.complete = err == nil
	sum.Sum(q.bodySum[:0])
	if q.complete {
		if q.answer == accepted && o.takes > 0 {
			time.Sleep(time.Duration(q.bodySum[0]) * o.takes / 256) // the time that the receiver needs
		}
		q.answer = v.act(q.answer, w, r, q.begin)
	}
	q.end = time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.requests[place] = q
}

// arrived records the request before it is answered, and draws its answer.
func (v *receiver) arrived(q *request, o *origin) (place int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	q.answer = o.choose(v.seed, q.run, v.byRun[q.run])
	v.byRun[q.run]++
	v.last[q.id], v.lastAt[q.origin] = q.begin, q.begin
	v.requests = append(v.requests, *q)
	return len(v.requests) - 1
}

// quick is the longest duration with which an answer counts as certainly received within the worker's timeout.
const quick = deliveryTimeout / 3

// act answers, and returns the answer that counts.
func (v *receiver) act(a answer, w http.ResponseWriter, r *http.Request, begin time.Time) answer {
	switch a {
	case failing:
		w.WriteHeader([]int{http.StatusInternalServerError, http.StatusServiceUnavailable}[begin.UnixNano()/1000%2])
	case limited:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case refusing:
		w.WriteHeader(http.StatusUnprocessableEntity)
	case hanging:
		<-r.Context().Done()
	case slow:
		select {
		case <-r.Context().Done():
		case <-time.After(deliveryTimeout * 7 / 10):
			w.WriteHeader(http.StatusOK)
		}
	case resetting, truncated, garbage:
		breakOff(a, w)
	default:
		// On a busy machine a request may arrive after its worker has given up and closed the connection.
		if err := writeAll(w); err != nil || r.Context().Err() != nil || time.Since(begin) > quick {
			return slow // unknown: it may have been received in time
		}
	}
	return a
}

func writeAll(w http.ResponseWriter) error {
	if _, err := io.WriteString(w, "ok"); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// breakOff sends half an answer, which a server of net/http cannot.
func breakOff(a answer, w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	switch a {
	case truncated:
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
	case garbage:
		_, _ = io.WriteString(conn, "SSH-2.0-nothing\r\n\r\n")
	default:
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	_ = conn.Close()
}

// lastRequest returns when the message was last tried; zero if it was not.
func (v *receiver) lastRequest(id string) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last[id]
}

// lastAtOrigin returns the time of the last request to an origin.
func (v *receiver) lastAtOrigin(url string) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lastAt[url]
}

// count returns how many requests have arrived.
func (v *receiver) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.requests)
}

// record returns all requests so far. Those in flight have no end.
func (v *receiver) record() []request {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]request(nil), v.requests...)
}

// history returns the requests of a message as text, as evidence.
func (v *receiver) history(id string) (text string) {
	for _, q := range v.record() {
		if q.id == id {
			text += fmt.Sprintf("\n      %s a request of run %s to %s: %s", q.begin.Format(timeFormat), q.run, q.origin, answerNames[q.answer])
			if !q.end.IsZero() {
				text += fmt.Sprintf(" after %v", q.end.Sub(q.begin).Round(time.Millisecond))
			}
		}
	}
	return text
}

// awaitIdle returns when no request is in flight, or after a bound.
func (v *receiver) awaitIdle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*deliveryTimeout)
	defer cancel()
	for {
		busy := false
		for _, q := range v.record() {
			busy = busy || q.end.IsZero()
		}
		if !busy || ctx.Err() != nil {
			return
		}
		time.Sleep(20 * time.Millisecond) // there is no event for the end of the last request
	}
}
