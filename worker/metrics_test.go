package worker

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/measured"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// measure gives a configuration a MeterProvider whose metrics the test can read.
func measure(t *testing.T, c *Config) *measured.Metrics {
	m := measured.New(t)
	c.MeterProvider = m.Provider()
	return m
}

// awaitSeries waits until a series has this value.
func (r *rig) awaitSeries(m *measured.Metrics, series string, value float64) {
	r.t.Helper()
	var now float64
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s is %v", series, now)
		}
	}()
	r.await(series, func() bool { now = m.Series()[series]; return now == value })
}

func TestMetricsCountEachAttemptAndMessageByItsResult(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := newReceiver(t, func(w http.ResponseWriter, req request) {
		switch req.path {
		case "/refuses":
			w.WriteHeader(http.StatusNotFound)
		case "/fails":
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	c := r.patient()
	c.RetrySchedule = []time.Duration{time.Millisecond}
	m := measure(t, &c)
	r.run(c)
	for _, path := range []string{"/fails", "/refuses", "/", "/", "/"} {
		r.awaitSettled(r.writeTo(receiver.URL+path, "run"))
	}
	r.awaitSettled(r.writeTo("http://169.254.169.254/", "run"))
	r.awaitSeries(m, "outbox.settlement.duration{}", 6)
	got := m.Series()
	for series, want := range map[string]float64{
		"outbox.attempts{class=delivered,status_class=2xx}": 3,
		"outbox.attempts{class=status,status_class=4xx}":    1,
		"outbox.attempts{class=status,status_class=5xx}":    2,
		"outbox.attempts{class=blocked,status_class=none}":  1,
		"outbox.attempt.duration{class=delivered}":          3,
		"outbox.first_attempt.delay{}":                      6,
		"outbox.settled{result=delivered}":                  3,
		"outbox.settled{result=refused}":                    2,
		"outbox.settled{result=exhausted}":                  1,
		"outbox.connections{result=opened}":                 1,
		"outbox.connections{result=failed}":                 1,
		"outbox.requests{connection=new}":                   1,
		"outbox.requests{connection=reused}":                5,
		"outbox.ready{}":                                    1,
		"outbox.requests.in_flight{}":                       0,
		"outbox.slot.waiting{}":                             0,
		"outbox.large_bodies{}":                             0,
		"outbox.pool.limit{}":                               float64(r.Pool.Config().MaxConns - 1),
	} {
		if got[series] != want {
			t.Errorf("%s is %v; want %v", series, got[series], want)
		}
	}
	for _, series := range []string{
		"outbox.claim.duration{}", "outbox.claim.messages{}", "outbox.record.duration{}", "outbox.record.results{}", "outbox.scan.duration{kind=full}",
		"outbox.pool.wait{cause=claim}", "outbox.pool.wait{cause=scan}", "outbox.pool.wait{cause=record}", "outbox.pool.wait{cause=other}",
	} {
		if got[series] == 0 {
			t.Errorf("%s is 0; want more", series)
		}
	}
	if _, ok := got["outbox.clock.ahead{}"]; !ok {
		t.Error("outbox.clock.ahead has no value, want one")
	}
	if t.Failed() {
		t.Log(got)
	}
}

// awaitSettled waits until a message is delivered or dead.
func (r *rig) awaitSettled(id outbox.ID) {
	r.t.Helper()
	r.await("the message is settled", func() bool {
		state := r.state(id).State
		return state == outbox.StateDelivered || state == outbox.StateDead
	})
}

// If a stranger could choose a label's values, he could make any number of series.
func TestNoLabelOfAMetricComesFromAMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := newReceiver(t, nil)
	c := r.config()
	m := measure(t, &c)
	r.run(c)
	r.awaitSettled(r.writeTo(receiver.URL, "run-4711"))
	r.awaitSettled(r.writeTo("http://nowhere.invalid", "run-4712"))
	r.awaitSeries(m, "outbox.settlement.duration{}", 2)
	known := []string{"class", "status_class", "result", "connection", "cause", "kind", "statement", "what", "state", "reason", "for"}
	for series := range m.Series() {
		_, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
		for _, label := range strings.FieldsFunc(labels, func(r rune) bool { return r == ',' }) {
			if name, _, _ := strings.Cut(label, "="); !slices.Contains(known, name) {
				t.Errorf("%s has the label %s; want only the labels named here", series, name)
			}
		}
		for _, secret := range []string{"127.0.0.1", "nowhere", "4711", "test/"} {
			if strings.Contains(series, secret) {
				t.Errorf("%s contains %q, which comes from a message or a worker; want no such label", series, secret)
			}
		}
	}
}

func TestEndpointsThatTheConfigurationNamesHaveMetricsOfTheirOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	named, other := newReceiver(t, nil), newReceiver(t, nil)
	c := r.config()
	c.MetricsEndpoints = []string{named.URL}
	m := measure(t, &c)
	r.run(c)
	ofTenant := outbox.Message{Outcome: testdb.Outcome("run", named.URL), URL: named.URL, Tenant: "acme"}
	for _, id := range []outbox.ID{r.writeTo(named.URL+"/a", "run"), r.write(ofTenant), r.writeTo(other.URL, "run")} {
		r.awaitSettled(id)
	}
	r.awaitSeries(m, "outbox.settlement.duration{}", 3)
	got := m.Series()
	if n := got["outbox.endpoint.attempts{class=delivered,endpoint="+named.URL+",status_class=2xx}"]; n != 2 {
		t.Errorf("%v attempts are counted; want 2", n)
	}
	if n := got["outbox.endpoint.attempt.duration{endpoint="+named.URL+"}"]; n != 2 {
		t.Errorf("the durations of %v attempts are measured; want 2", n)
	}
	for series := range got {
		if strings.Contains(series, other.URL) {
			t.Errorf("%s is about an endpoint that the configuration does not name", series)
		}
	}
}

func TestMetricsCountRefusedStatementsAndMessagesThatAreSetAside(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := newReceiver(t, nil)
	bad := r.writeTo(receiver.URL, "bad")
	r.exec(`CREATE FUNCTION outbox.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = '23514'; END $$`)
	r.exec(`CREATE TRIGGER refuse BEFORE UPDATE ON outbox.due FOR EACH ROW WHEN (OLD.message_id = '` + bad.String() + `') EXECUTE FUNCTION outbox.refuse()`)
	c := r.config()
	m := measure(t, &c)
	r.run(c)
	r.awaitSettled(bad)
	r.awaitSeries(m, "outbox.set_aside{what=poison}", 1)
	if m.Series()["outbox.refused_statements{statement=claim}"] == 0 {
		t.Error("outbox.refused_statements is 0, want more")
	}
}

// After a worker's end nobody must call its gauges: a program may make another worker with the same provider.
func TestGaugesEndWithTheWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.config()
	m := measure(t, &c)
	_, stop := r.run(c)
	r.awaitSeries(m, "outbox.ready{}", 1)
	stop()
	if _, still := m.Series()["outbox.ready{}"]; still {
		t.Error("outbox.ready still has a value, want none after the stop")
	}
}

// When a counter appears with its first event, Prometheus sees no increase, and an alert would miss the event.
func TestCountersOfKnownLabelsBeginAtZero(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.config()
	m := measure(t, &c)
	r.run(c)
	r.awaitSeries(m, "outbox.ready{}", 1)
	got := m.Series()
	for _, series := range []string{
		"outbox.settled{result=delivered}", "outbox.settled{result=exhausted}", "outbox.set_aside{what=poison}", "outbox.dropped{what=answer}",
		"outbox.refused_statements{statement=claim}", "outbox.refused_statements{statement=record}", "outbox.connections{result=failed}",
	} {
		if n, there := got[series]; !there || n != 0 {
			t.Errorf("%s is %v, present: %v; want 0, present", series, n, there)
		}
	}
}
