package postgres

import (
	"testing"
	"time"
)

// written makes a delivered message. id is how long ago its id was made, by the writer's clock; created is how long ago it was
// committed, by the database's.
func (r *rig) written(runID string, id, created time.Duration) {
	r.t.Helper()
	r.exec(`INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint, created_at)
SELECT (lpad(to_hex((extract(epoch FROM now() - $2::interval) * 1000)::bigint), 12, '0') || '70008' || substr(md5($1), 1, 15))::uuid,
       $1, 'succeeded', '', 0, 'https://a.test', 'https://a.test', now() - $3::interval`, runID, id, created)
}

// kept returns the runs whose messages are still there.
func (r *rig) kept() map[string]bool {
	r.t.Helper()
	all := map[string]bool{}
	for _, runID := range one[[]string](r, `SELECT coalesce(array_agg(run_id), '{}') FROM outbox.message`) {
		all[runID] = true
	}
	return all
}

// TestTheDatabasesTimeDecidesWhatIsOld: retention counts from the commit. The clock that made the id may be behind by any time
// and ahead by an hour. With a clock that was further ahead, the message is kept until its id is old as well.
func TestTheDatabasesTimeDecidesWhatIsOld(t *testing.T) {
	t.Parallel()
	const keep, brief = 24 * time.Hour, 2 * time.Minute // longer than the test takes
	r := newRig(t)
	cases := map[string]struct {
		id, created time.Duration
		kept        bool
	}{
		"old":                                  {keep + brief, keep + brief, false},
		"nearly old":                           {keep - brief, keep - brief, true},
		"old, by a clock nearly an hour ahead": {keep - time.Hour + brief, keep + brief, false},
		"old, by one further ahead":            {keep - time.Hour - brief, keep + brief, true},
		"nearly old, by a clock behind":        {100 * keep, keep - brief, true},
		"young, by a clock behind":             {100 * keep, 0, true},
	}
	for runID, c := range cases {
		r.written(runID, c.id, c.created)
	}
	if _, more, err := r.pruner(r.Pool, keep, keep).Prune(t.Context()); err != nil || more {
		t.Fatalf("Prune returns more: %v, %v; want no more, and no error", more, err)
	}
	kept := r.kept()
	for runID, c := range cases {
		if kept[runID] != c.kept {
			t.Errorf("%s: the message is kept: %v, want %v", runID, kept[runID], c.kept)
		}
	}
}

// TestRetentionOfADeadMessageCountsFromItsDeath. For rows without a message their own time counts.
func TestRetentionOfADeadMessageCountsFromItsDeath(t *testing.T) {
	t.Parallel()
	const keep, brief = 24 * time.Hour, 2 * time.Minute
	r := newRig(t)
	for runID, at := range map[string]time.Duration{"old": keep + brief, "nearly old": keep - brief} {
		r.written(runID, 100*keep, 100*keep)
		r.exec(`INSERT INTO outbox.dead (message_id, endpoint, reason, error, at) SELECT id, endpoint, 'gone', '', now() - $2::interval
FROM outbox.message WHERE run_id = $1`, runID, at)
		r.exec(`INSERT INTO outbox.dead (message_id, endpoint, reason, error, at)
SELECT gen_random_uuid(), $1, 'gone', '', now() - $2::interval`, runID, at)
	}
	for worker, at := range map[string]time.Duration{"old": time.Hour + brief, "nearly old": time.Hour - brief} {
		r.exec(`INSERT INTO outbox.attempt (message_id, attempt, started_at, class, worker) SELECT gen_random_uuid(), 1, now() - $2::interval, 'timeout', $1`, worker, at)
	}
	p := r.pruner(r.Pool, keep, keep)
	if n, more, err := p.Prune(t.Context()); err != nil || more || n != (Pruned{0, 1}) {
		t.Errorf("pruned %+v, more: %v, %v; want one dead message, and no more", n, more, err)
	}
	if err := p.PruneOrphans(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kept := r.kept(); len(kept) != 1 || !kept["nearly old"] {
		t.Errorf("kept are %v, want the nearly old one", kept)
	}
	if got := one[string](r, `SELECT concat_ws(', ', (SELECT string_agg(DISTINCT endpoint, ' ') FROM outbox.dead WHERE message_id NOT IN (SELECT id FROM outbox.message)),
(SELECT string_agg(worker, ' ') FROM outbox.attempt))`); got != "nearly old, nearly old" {
		t.Errorf("the rows left without a message are %s, want a nearly old dead row and attempt", got)
	}
}

// TestABatchCanEndAmongEqualTimes: dead messages of the same time are ordered by their ids, and none is skipped.
func TestABatchCanEndAmongEqualTimes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.history("dead", 2*pruneBatch+7, 2*time.Hour) // one statement gives them all the same time
	r.exec(`UPDATE outbox.dead SET at = '2020-01-01'`)
	p := r.pruner(r.Pool, time.Hour, time.Hour)
	for i, want := range []int64{pruneBatch, pruneBatch, 7} {
		if n, more, err := p.Prune(t.Context()); err != nil || n.Dead != want || more != (i < 2) {
			t.Errorf("batch %d pruned %+v, more: %v, %v; want full batches and then 7", i, n, more, err)
		}
	}
}

// TestEndpointsThatStayDoNotFillABatch: more of them than a batch come before those that are pruned.
func TestEndpointsThatStayDoNotFillABatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, reason) SELECT 'https://a' || i || '.test', true, '' FROM generate_series(1, $1::integer) i`, pruneBatch+1)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, reason) SELECT 'https://b' || i || '.test', '' FROM generate_series(1, $1::integer) i`, pruneBatch+1)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason, since) SELECT 'https://c' || i || '.test', 1, '', now() - make_interval(mins => 1440 - 2 + 4 * i)
FROM generate_series(0, 1) i`) // a little less than a day ago, and a little more
	p := r.pruner(r.Pool, 0, 0)
	for _, want := range []int{pruneBatch + 1 + 3, pruneBatch + 1 + 1} {
		if err := p.PruneEndpoints(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.count(`SELECT count(*) FROM outbox.endpoint`); n != want {
			t.Errorf("%d endpoints are left, want %d", n, want)
		}
	}
	if left := one[string](r, `SELECT string_agg(endpoint, ' ') FROM outbox.endpoint WHERE NOT paused`); left != "https://c0.test" {
		t.Errorf("the endpoints left are %s, want c0", left)
	}
}
