package worker

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestHangingReceiversDelayNoOthers: they keep their share of the slots, and the other slots serve the other receivers.
func TestHangingReceiversDelayNoOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var urls []string
	hanging := make([]*socket, 3)
	for i := range hanging {
		hanging[i] = newSocket(t, hang)
		urls = append(urls, strings.Split(strings.Repeat(hanging[i].URL+" ", 20), " ")[:20]...)
	}
	r.writeAll(urls...)
	c := r.config()
	c.DeliveryTimeout, c.Lease = testPatience, testPatience+LeaseMargin
	c.MaxInFlight, c.EndpointMaxInFlight = 8, 2
	_, stop := r.run(c)
	// Two receivers have a window of 2 each. Then half of the slots are taken, and the third receiver gets one.
	held := func() bool { return hanging[0].conns.Load()+hanging[1].conns.Load()+hanging[2].conns.Load() == 5 }
	r.await("each hanging receiver has its share of requests", held)

	healthy := newReceiver(t, nil)
	ids := r.writeAll(strings.Split(strings.Repeat(healthy.URL+" ", 10), " ")[:10]...)
	for _, id := range ids {
		r.awaitState(id, outbox.StateDelivered)
	}
	if n := r.count(`SELECT count(*) FROM outbox.status WHERE state = 'delivering'`); n != 5 || !held() {
		t.Errorf("%d messages are delivering, want 5 at the receivers that hang", n)
	}
	stop()
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE attempt > 0 OR locked_by IS NOT NULL`); n > 0 {
		t.Errorf("%d messages have a lease or an attempt after the stop, want none", n)
	}
}

func TestRequestsUnderWayAreBoundedOverallAndPerEndpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var (
		mu            sync.Mutex
		now, most     = map[string]int{}, map[string]int{}
		all, mostEver int
	)
	met := make(chan struct{}) // closed once more requests are in flight than one endpoint may have
	answer := func(_ http.ResponseWriter, req request) {
		mu.Lock()
		now[req.host]++
		all++
		if most[req.host], mostEver = max(most[req.host], now[req.host]), max(mostEver, all); mostEver == 4 {
			select {
			case <-met:
			default:
				close(met)
			}
		}
		mu.Unlock()
		<-met
		time.Sleep(time.Millisecond) // a receiver's work, so that requests overlap
		mu.Lock()
		now[req.host]--
		all--
		mu.Unlock()
	}
	var urls []string
	for range 3 {
		to := newReceiver(t, answer)
		urls = append(urls, strings.Split(strings.Repeat(to.URL+" ", 60), " ")[:60]...)
	}
	r.writeAll(urls...)
	c := r.config()
	c.MaxInFlight, c.EndpointMaxInFlight = 7, 3
	r.run(c)
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	mu.Lock()
	defer mu.Unlock()
	for host, n := range most {
		if n > c.EndpointMaxInFlight {
			t.Errorf("%s had %d requests at once, want at most %d", host, n, c.EndpointMaxInFlight)
		}
	}
	if mostEver > c.MaxInFlight || mostEver <= c.EndpointMaxInFlight {
		t.Errorf("%d requests at once, want more than %d and at most %d", mostEver, c.EndpointMaxInFlight, c.MaxInFlight)
	}
}
