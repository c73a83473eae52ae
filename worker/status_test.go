package worker

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
)

// writeAll commits a message to each URL, in one transaction. The run id is the URL.
func (r *rig) writeAll(urls ...string) []outbox.ID {
	r.t.Helper()
	var ids []outbox.ID
	if err := pgx.BeginFunc(r.t.Context(), r.Pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		for _, url := range urls {
			id, err := r.writer.Queue(batch, outbox.Message{Outcome: testdb.Outcome(url, ""), URL: url})
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return tx.SendBatch(r.t.Context(), batch).Close()
	}); err != nil {
		r.t.Fatal(err)
	}
	return ids
}

// awaitAttempts waits until every message was tried and none is under way.
func (r *rig) awaitAttempts() {
	r.t.Helper()
	r.await("every message was tried", func() bool {
		return r.count(`SELECT count(*) FROM outbox.status WHERE state IN ('pending', 'delivering')`) == 0
	})
}

// once is a configuration with a retry after an hour: a test sees the state after the first attempt.
func (r *rig) once() Config {
	c := r.config()
	c.RetrySchedule = []time.Duration{time.Hour}
	return c
}

func wantOfStatus(status int) string {
	switch {
	case status >= 200 && status < 300:
		return "delivered"
	case status == 408, status == 425, status == 429, status >= 500:
		return "retrying"
	}
	return "dead refused"
}

// TestEveryStatusHasItsConsequence is the table of the retry policy, without 410, which sets its URL aside.
func TestEveryStatusHasItsConsequence(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var receivers [16]*receiver // many, so that none fails so often that its circuit breaker opens
	for i := range receivers {
		receivers[i] = newReceiver(t, func(w http.ResponseWriter, req request) {
			status, _ := strconv.Atoi(req.path[1:])
			w.WriteHeader(status)
		})
	}
	want, urls := map[int]string{}, []string{}
	for status := 200; status < 600; status++ {
		if status != http.StatusGone {
			want[status], urls = wantOfStatus(status), append(urls, fmt.Sprintf("%s/%d", receivers[status%16].URL, status))
		}
	}
	ids := r.writeAll(urls...)
	r.run(r.once())
	r.awaitAttempts()

	requests := 0
	for _, to := range receivers {
		requests += len(to.requests())
	}
	if requests != len(urls) {
		t.Errorf("%d requests, want %d", requests, len(urls))
	}
	for i, id := range ids {
		status, _ := strconv.Atoi(urls[i][strings.LastIndex(urls[i], "/")+1:])
		d := r.state(id)
		got := string(d.State)
		if d.DeadReason != nil {
			got += " " + *d.DeadReason
		}
		class := delivery.ClassStatus
		if want[status] == "delivered" {
			class = delivery.ClassDelivered
		}
		if got != want[status] || len(d.AttemptList) != 1 || *d.LastStatusCode != status || *d.LastClass != class {
			t.Errorf("%d: %s with %d attempts, last %s %d; want %s", status, got, d.Attempts, *d.LastClass, *d.LastStatusCode, want[status])
		}
	}
}

// TestInformationalAnswersDoNotCount: the final one counts. An endpoint that sends no final one has reset the connection.
func TestInformationalAnswersDoNotCount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var urls []string
	for status := 100; status < 200; status += 1 {
		if status == http.StatusSwitchingProtocols { // this one is final; package delivery tests it
			continue
		}
		first := fmt.Sprintf("HTTP/1.1 %d Wait\r\n\r\n", status)
		urls = append(urls, newSocket(t, sayAndClose(first+"HTTP/1.1 204 Done\r\n\r\n")).URL+"/final")
		if status < 110 {
			urls = append(urls, newSocket(t, sayAndClose(first)).URL+"/none")
		}
	}
	ids := r.writeAll(urls...)
	r.run(r.once())
	r.awaitAttempts()
	for i, id := range ids {
		d := r.state(id)
		wantState, wantClass := outbox.StateDelivered, delivery.ClassDelivered
		if strings.HasSuffix(urls[i], "/none") {
			wantState, wantClass = outbox.StateRetrying, delivery.ClassReset
		}
		if d.State != wantState || *d.LastClass != wantClass {
			t.Errorf("%d of %d: %s after %s, want %s after %s", i, len(urls), d.State, *d.LastClass, wantState, wantClass)
		}
	}
}

// TestAnAttemptWithAnImpossibleStatusIsRecorded: the tables cannot hold the number, and the attempt is recorded without it.
func TestAnAttemptWithAnImpossibleStatusIsRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var urls []string
	for _, status := range []string{"000", "042", "099", "600", "999"} {
		urls = append(urls, newSocket(t, sayAndClose("HTTP/1.1 "+status+" Odd\r\nContent-Length: 0\r\n\r\n")).URL+"/"+status)
	}
	ids := r.writeAll(urls...)
	r.run(r.once())
	for i, id := range ids {
		r.await("an attempt is recorded for "+urls[i], func() bool { return len(r.state(id).AttemptList) == 1 })
		if d := r.state(id); d.State != outbox.StateRetrying && d.State != outbox.StateDead {
			t.Errorf("%s: the message is %s, want retrying or dead", urls[i], d.State)
		}
	}
}

func TestARedirectIsNotFollowedAndItsTargetIsNamed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	target := newReceiver(t, nil)
	to := newReceiver(t, func(w http.ResponseWriter, req request) {
		w.Header().Set("Location", target.URL+"/moved")
		status, _ := strconv.Atoi(req.path[1:])
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "over there")
	})
	var urls []string
	for _, status := range []string{"301", "302", "303", "307", "308"} {
		urls = append(urls, to.URL+"/"+status)
	}
	ids := r.writeAll(urls...)
	r.run(r.once())
	r.awaitAttempts()
	for i, id := range ids {
		d := r.state(id)
		if d.State != outbox.StateDead || *d.DeadReason != "refused" {
			t.Errorf("%s: the message is %s %v, want dead as refused", urls[i], d.State, d.DeadReason)
		}
		for _, text := range []string{*d.DeadError, *d.AttemptList[0].Error} {
			if !strings.Contains(text, target.URL) || strings.Contains(text, "/moved") || !strings.Contains(text, "not followed") {
				t.Errorf("%s: the error is %q; want the target's origin without its path, and \"not followed\"", urls[i], text)
			}
		}
		if got := *d.AttemptList[0].Response; got != "over there" {
			t.Errorf("%s: the kept start of the answer is %q, want \"over there\"", urls[i], got)
		}
	}
	if n := len(target.requests()); n > 0 {
		t.Errorf("the target of the redirects got %d requests, want none", n)
	}
}
