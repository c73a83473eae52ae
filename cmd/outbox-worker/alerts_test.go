package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// stage is a set of workers, each with an outbox of its own on one server, and a Prometheus with the rules.
type stage struct {
	t       *testing.T
	server  string
	workers []*staged
	base    string
	fired   []string
}

type staged struct {
	*running
	db    *testdb.DB
	admin string
}

// worker starts a worker. Prometheus must scrape it before anything is broken: the first value of a series does not count as an increase.
func (s *stage) worker(settings ...string) *staged {
	s.t.Helper()
	db := testdb.NewAt(s.t, s.server)
	r, admin := beginWorker(s.t, append(append(environment(db), "OUTBOX_SAMPLE_INTERVAL=1s", "OUTBOX_POLL_INTERVAL=100ms"), settings...))
	w := &staged{r, db, admin}
	s.workers = append(s.workers, w)
	return w
}

// sooner writes a copy of the rules with short durations and low thresholds.
func sooner(t *testing.T) (file string) {
	t.Helper()
	text, err := os.ReadFile("../../monitoring/outbox.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`for: \d+m`).ReplaceAllString(string(text), "for: 0s")
	for was, is := range map[string]string{
		"(outbox_oldest_due_age_seconds) > 300":     "(outbox_oldest_due_age_seconds) > 1",
		"(outbox_oldest_due_age_seconds) > 60\n":    "(outbox_oldest_due_age_seconds) > 1\n",
		"outbox_unrecorded_age_seconds > 30":        "outbox_unrecorded_age_seconds > 1",
		"(outbox_breakers_open) > 10":               "(outbox_breakers_open) > 0",
		"(outbox_sample_age_seconds) > 120":         "(outbox_sample_age_seconds) > 3",
		"(outbox_mvcc_horizon_age_seconds) > 3600":  "(outbox_mvcc_horizon_age_seconds) > 1",
		"(outbox_retention_overdue_seconds) > 3600": "(outbox_retention_overdue_seconds) > 1",
	} {
		if strings.Count(rules, was) != 1 {
			t.Fatalf("the rules contain %q not exactly once", was)
		}
		rules = strings.Replace(rules, was, is, 1)
	}
	file = filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// watch starts Prometheus, and waits until it has scraped all workers.
func (s *stage) watch() {
	s.t.Helper()
	var admins []string
	for _, w := range s.workers {
		admins = append(admins, w.admin)
	}
	s.base = scrapeAll(s.t, sooner(s.t), admins...)
	for _, w := range s.workers {
		s.awaits(fmt.Sprintf(`outbox_ready{outbox=%q} == 1 and on (outbox) outbox_sample_age_seconds`, w.db.Schema))
	}
}

// awaits waits until a query has a result.
func (s *stage) awaits(query string) {
	s.t.Helper()
	for deadline := time.Now().Add(3 * patience); ; time.Sleep(100 * time.Millisecond) { // no event tells when Prometheus has scraped
		if values, err := results(s.base, query); err == nil && len(values) > 0 {
			return
		}
		if time.Now().After(deadline) {
			firing, err := results(s.base, "ALERTS")
			s.t.Fatalf("the query %s has no result, want one; %d alerts, %v", query, len(firing), err)
		}
	}
}

// fires waits until alerts of this worker's outbox fire.
func (s *stage) fires(w *staged, alerts ...string) {
	s.t.Helper()
	for _, alert := range alerts {
		s.awaits(fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing",outbox=%q}`, alert, w.db.Schema))
		s.fired = append(s.fired, alert)
	}
}

// faultyReceiver is a receiver whose path says how it answers.
func faultyReceiver(t *testing.T) (url string) {
	t.Helper()
	ends := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hangs":
			<-ends
		case "/fails":
			w.WriteHeader(http.StatusInternalServerError)
		case "/refuses":
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(receiver.Close)
	t.Cleanup(func() { close(ends) })
	return receiver.URL
}

// write writes messages for a URL.
func (w *staged) write(t *testing.T, n int, url string, options outbox.Options) (last outbox.ID) {
	t.Helper()
	for range n {
		last = written(t, w.db, outbox.Message{Outcome: testdb.Outcome("run", url), URL: url, Options: options})
	}
	return last
}

// forget begins a transaction, which stays open until end is called.
func (w *staged) forget(t *testing.T, sql string) (end func()) {
	t.Helper()
	tx, err := w.db.Pool.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), strings.ReplaceAll(sql, "outbox.", w.db.Schema+"."), pgx.QueryExecModeSimpleProtocol)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }
}

// refuse creates a trigger that refuses changes of a table.
func (w *staged) refuse(t *testing.T, when, table, condition string) {
	t.Helper()
	execute(t, w.db, `CREATE FUNCTION outbox.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = '23514'; END $$`)
	execute(t, w.db, `CREATE TRIGGER refuse BEFORE `+when+` ON outbox.`+table+` FOR EACH ROW `+condition+` EXECUTE FUNCTION outbox.refuse()`)
}

// lockOut makes an answer arrive while another session has locked the row of its message. release ends the lock.
func (w *staged) lockOut(t *testing.T) (release func()) {
	t.Helper()
	arrived, answer := make(chan struct{}, 10), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-answer
	}))
	t.Cleanup(receiver.Close)
	w.write(t, 1, receiver.URL, outbox.Options{})
	<-arrived // the message is claimed before the lock, because a claim skips locked rows
	release = w.forget(t, "SELECT 1 FROM outbox.due FOR UPDATE")
	close(answer)
	return release
}

// breakMessages writes messages that are refused, that fail, that lack a key, and one that cannot be claimed.
func (w *staged) breakMessages(t *testing.T, url string) {
	t.Helper()
	w.write(t, 20, url+"/refuses", outbox.Options{})
	w.write(t, 2, url+"/fails", outbox.Options{})
	w.write(t, 1, url, outbox.Options{SigningKey: "nobody"})
	bad := w.write(t, 1, url, outbox.Options{Delay: 2 * time.Second}) // because of the delay, it is not claimed before the trigger exists
	w.refuse(t, "UPDATE", "due", "WHEN (OLD.message_id = '"+bad.String()+"')")
}

// TestEachAlertFiresAfterItsFault in a real Prometheus, with the rules of sooner. promtool's tests of the rules show that they
// do not fire without a fault.
func TestEachAlertFiresAfterItsFault(t *testing.T) {
	t.Parallel()
	tool(t, "prometheus")
	url := faultyReceiver(t)
	s := &stage{t: t, server: testdb.OwnServer(t).URL()}
	full := s.worker("OUTBOX_MAX_IN_FLIGHT=1", "OUTBOX_DELIVERY_TIMEOUT=10m", "OUTBOX_LEASE=11m", "OUTBOX_SHUTDOWN_TIMEOUT=1s")
	sick := s.worker("OUTBOX_OPEN_AFTER=1", "OUTBOX_OPEN_FOR=1h", "OUTBOX_OPEN_FOR_MAX=1h")
	blocked := s.worker()
	lacking := s.worker("OUTBOX_PROXY_URL=http://127.0.0.1:1")
	blind := s.worker("OUTBOX_RETENTION=1s")
	s.watch()

	// A forgotten snapshot, which every outbox of the server sees; a full worker; messages that fail; a lock; a proxy that is
	// away; a retention that the database refuses.
	defer sick.forget(t, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM outbox.due")()
	full.write(t, 3, url+"/hangs", outbox.Options{})
	sick.breakMessages(t, url)
	release := blocked.lockOut(t)
	defer release()
	lacking.write(t, 1, url, outbox.Options{})
	blind.refuse(t, "DELETE", "message", "")
	blind.write(t, 1, url, outbox.Options{})

	s.fires(full, "OutboxOldestDueTooOld", "OutboxNothingSettles", "OutboxHorizonPinned")
	s.fires(sick, "OutboxMessagesDie", "OutboxBreakersOpen", "OutboxMessagesWaitForAKey", "OutboxSetAside", "OutboxStatementsRefused")
	s.fires(blocked, "OutboxAnswersUnrecorded", "OutboxNotReady")
	s.fires(lacking, "OutboxMessagesWait")
	s.fires(blind, "OutboxRetentionBehind")

	execute(t, blind.db, "DROP TABLE outbox.sample") // no worker can sample any more
	s.fires(blind, "OutboxSampleStale")

	release()
	lacking.end()
	s.awaits(fmt.Sprintf(`ALERTS{alertname="OutboxWorkerDown",alertstate="firing",instance=%q}`, lacking.admin))
	for _, w := range s.workers {
		w.stop()
	}
	s.awaits(`ALERTS{alertname="OutboxNoWorker",alertstate="firing"}`)

	s.fired = append(s.fired, "OutboxWorkerDown", "OutboxNoWorker", "OutboxClocksDiffer") // the last one has its own test
	for _, r := range alertRules(t) {
		if !slices.Contains(s.fired, r.Alert) {
			t.Errorf("the alert %s did not fire in any test, want each one to fire", r.Alert)
		}
	}
}

func TestTheAlertAboutClocksFiresWhenTheyDiffer(t *testing.T) {
	t.Parallel()
	tool(t, "prometheus")
	s := &stage{t: t, server: testdb.ServerWithClock(t, -30*time.Second).URL()}
	w := s.worker()
	s.watch()
	s.fires(w, "OutboxClocksDiffer")
}
