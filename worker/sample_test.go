package worker

import (
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/measured"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func TestEveryWorkerExportsTheNewestSample(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("http://127.0.0.1:1", 3, 100)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, reason) VALUES ('http://127.0.0.1:1', true, '')`)
	var all []*measured.Metrics
	for range 2 {
		c := r.config()
		c.SampleInterval = time.Second
		all = append(all, measure(t, &c))
		r.run(c)
	}
	for _, m := range all {
		r.awaitSeries(m, "outbox.messages{state=pending}", 3)
		r.awaitSeries(m, "outbox.paused{}", 1)
		r.awaitSeries(m, "outbox.workers{}", 2)
		got := m.Series()
		for series, want := range map[string]float64{
			"outbox.oldest_due.age{}": 0, "outbox.dead_messages{reason=poison}": 0, "outbox.waiting_messages{for=signing_key}": 0,
			"outbox.retention.overdue{}": 0, "outbox.sample.estimated{}": 0, "outbox.breakers_open{}": 0,
		} {
			if value, there := got[series]; !there || value != want {
				t.Errorf("%s is %v, present: %v; want %v", series, value, there, want)
			}
		}
	}
	r.await("there are more than two samples", func() bool { return r.count(`SELECT count(*) FROM outbox.sample`) > 2 })
}

func TestTheFiguresOfAStaleSampleAreNotExported(t *testing.T) {
	t.Parallel()
	n := int64(7)
	old := func(age time.Duration) map[string]float64 {
		m := measured.New(t)
		var s samples
		s.watch(instruments.New(m.Provider(), "test", "outbox"))
		s.newest.Store(&readSample{operator.Sample{At: time.Now().Add(-age), IntervalMS: 60_000, Pending: &n}, age, time.Now()})
		return m.Series()
	}
	if got := old(2 * time.Minute); got["outbox.messages{state=pending}"] != 7 || got["outbox.sample.age{}"] < 120 {
		t.Errorf("of a sample two intervals old, the metrics are %v; want its figures, and its age", got)
	}
	got := old(4 * time.Minute)
	if got["outbox.sample.age{}"] < 240 || len(got) != 1 {
		t.Errorf("of a sample four intervals old, the metrics are %v; want its age only", got)
	}
}
