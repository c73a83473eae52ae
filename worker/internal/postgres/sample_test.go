package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func (r *rig) sampler() *Sampler {
	return NewSampler(Direct(r.Pool), SamplerConfig{
		Schema: r.Schema, Worker: "one", Interval: time.Second, Delivered: time.Hour, Dead: 2 * time.Hour, WorkerSeenMax: 15 * time.Second,
	})
}

// sample measures once, and returns what was found.
func (r *rig) sample() operator.Sample {
	r.t.Helper()
	r.exec(`DELETE FROM outbox.sample WHERE at > now() - interval '1 day'`) // otherwise the next sample would not be due yet
	if err := r.sampler().Sample(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	x, _, err := r.store.Sample(r.t.Context())
	if err != nil || x == nil {
		r.t.Fatalf("Sample returns %v, %v; want a sample", x, err)
	}
	return *x
}

func TestASampleHoldsTheFiguresOfTheOutbox(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if x := r.sample(); x.OldestDue != nil || *x.Pending != 0 || len(x.Dead) != 0 || x.RetentionFrom != nil || len(x.Missing) != 0 || len(x.Estimated) != 0 {
		t.Errorf("the sample of an empty outbox is %+v, want no messages and no times", x)
	}
	r.due("http://free.example", 3, 100)
	r.due("http://paused.example", 2, 1000)
	r.due("http://leased.example", 4, 2000)
	r.due("http://open.example", 1, 3000)
	r.due("http://later.example", 1, -5000)
	r.exec(`UPDATE outbox.due SET locked_by = 'x', locked_until = now() + interval '1 h' WHERE endpoint = 'http://leased.example'`)
	r.exec(`UPDATE outbox.due SET attempt = 2 WHERE endpoint = 'http://paused.example'`)
	r.exec(`UPDATE outbox.due SET waits_for = 'signing key "a": this worker has none' WHERE endpoint = 'http://later.example'`)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, failures, open_until, reason) VALUES ('http://paused.example', true, 0, NULL, ''),
    ('http://open.example', false, 10, now() + interval '1 h', ''), ('http://fails.example', false, 3, NULL, '')`)
	r.exec(`WITH d AS (INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint, created_at)
    SELECT gen_random_uuid(), 'dead', 'succeeded', '{}', 0, 'http://a', 'http://a', now() - interval '3 h' FROM generate_series(1, 3) RETURNING id)
INSERT INTO outbox.dead (message_id, endpoint, reason, error) SELECT id, 'http://a', 'gone', '' FROM d`)
	r.exec(`INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint, created_at)
VALUES ('00000000-0000-7000-8000-000000000001', 'delivered', 'succeeded', '{}', 0, 'http://a', 'http://a', now() - interval '90 min')`)
	r.exec(`INSERT INTO outbox.worker (name, host, version, pid, backend_start, started, seen, lease_ms) VALUES
    ('one', '', '', 1, now(), now(), now(), 1), ('gone', '', '', 1, now(), now(), now() - interval '1 min', 1)`)
	x := r.sample()
	for what, n := range map[string][2]int64{
		"pending": {*x.Pending, 5}, "delivering": {*x.Delivering, 4}, "retrying": {*x.Retrying, 2}, "gone": {x.Dead["gone"], 3},
		"waits": {x.Waits["signing_key"], 1}, "open": {*x.BreakersOpen, 1}, "paused": {*x.Paused, 1}, "workers": {*x.Workers, 1},
	} {
		if n[0] != n[1] {
			t.Errorf("%s is %d; want %d", what, n[0], n[1])
		}
	}
	var oldest, overdue time.Time
	err := r.Pool.QueryRow(t.Context(), sqlschema.In(`SELECT (SELECT min(due_at) FROM outbox.due WHERE endpoint = 'http://free.example'),
    (SELECT created_at + interval '1 h' FROM outbox.message WHERE run_id = 'delivered')`, r.Schema)).Scan(&oldest, &overdue)
	if err != nil {
		t.Fatal(err)
	}
	if x.OldestDue == nil || !x.OldestDue.Equal(oldest) {
		t.Errorf("the oldest message that nothing holds back is due since %v; want %v", x.OldestDue, oldest)
	}
	if x.RetentionFrom == nil || !x.RetentionFrom.Equal(overdue) {
		t.Errorf("retention is behind since %v; want %v", x.RetentionFrom, overdue)
	}
	if x.Worker != "one" || x.IntervalMS != 1000 || len(x.Missing) != 0 {
		t.Errorf("the sample is %+v, want it of worker one, with an interval of a second and nothing missing", x)
	}
}

func TestASampleSaysSinceWhenTheHorizonIsPinned(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	tx, err := r.NewPool(t, nil).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	var since time.Time
	if err := tx.QueryRow(t.Context(), `SELECT now() FROM txid_current()`).Scan(&since); err != nil { // the transaction has a snapshot while it has an id
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `DECLARE forgotten CURSOR FOR SELECT 1`); err != nil {
		t.Fatal(err)
	}
	if x := r.sample(); x.HorizonSince == nil || x.HorizonSince.After(since) || x.DueDeadRows == nil || x.HorizonXIDs == nil {
		t.Errorf("the horizon has been pinned since %v or earlier; the sample is %+v, want that time in it", since, x)
	}
}

func TestAFigureThatTakesTooLongIsLeftOutOfTheSample(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("http://free.example", 3, 100)
	tx, err := r.NewPool(t, nil).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), sqlschema.In(`LOCK TABLE outbox.worker`, r.Schema)); err != nil {
		t.Fatal(err)
	}
	x := r.sample()
	if !slices.Equal(x.Missing, []string{"workers"}) || x.Workers != nil || *x.Pending != 3 || x.OldestDue == nil {
		t.Errorf("missing are %v, and the sample is %+v; want only the workers missing", x.Missing, x)
	}
}

func TestSamplesAreKeptForThirtyDays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.sample (at, worker, interval_ms, took_ms) VALUES (now() - interval '31 days', '', 1, 1), (now() - interval '29 days', '', 1, 1)`)
	r.sample()
	var kept int
	if err := r.Pool.QueryRow(t.Context(), sqlschema.In(`SELECT count(*) FROM outbox.sample`, r.Schema)).Scan(&kept); err != nil || kept != 2 {
		t.Errorf("%d samples are kept, %v; want that of 29 days ago and the new one", kept, err)
	}
}

func TestWithinAnIntervalThereIsOneSample(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.sample()
	s := r.sampler()
	s.config.Interval = time.Hour
	if err := s.Sample(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x, _, err := r.store.Sample(t.Context()); err != nil || !x.At.Equal(first.At) {
		t.Errorf("the newest sample is %+v, %v; want the first one", x, err)
	}
}

func TestTablesOfAnEarlierVersionAreNotSampled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`DROP TABLE outbox.sample`)
	if err := r.sampler().Sample(t.Context()); err != nil {
		t.Error(err)
	}
	if x, _, err := r.store.Sample(t.Context()); x != nil || err != nil {
		t.Errorf("Sample returns %v, %v; want neither a sample nor an error", x, err)
	}
}
