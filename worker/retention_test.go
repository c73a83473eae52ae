package worker

import (
	"testing"
	"time"
)

// history writes n messages of this age and state, each with an attempt. Their run ids are the state and a number.
func (r *rig) history(state string, n int, age time.Duration) {
	r.t.Helper()
	r.exec(`INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint, created_at)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000' || '8' || substr(md5($1 || i), 1, 15))::uuid,
       $1 || '#' || i, 'succeeded', '', 0, 'https://a.test', 'https://a.test', at
FROM generate_series(1, $2::integer) i, LATERAL (SELECT now() - $3::interval AS at) x`, state, n, age)
	r.exec(`INSERT INTO outbox.attempt (message_id, attempt, started_at, class, worker)
SELECT id, 1, created_at, 'timeout', 'one' FROM outbox.message WHERE run_id LIKE $1 || '#%'`, state)
	r.exec(`INSERT INTO outbox.due (message_id, endpoint, attempt) SELECT id, endpoint, 1 FROM outbox.message
WHERE run_id LIKE $1 || '#%' AND $1 LIKE 'due%'`, state)
	r.exec(`INSERT INTO outbox.dead (message_id, endpoint, reason, error, at) SELECT id, endpoint, 'exhausted', '', created_at
FROM outbox.message WHERE run_id LIKE $1 || '#%' AND $1 LIKE 'dead%'`, state)
}

func TestAWorkerPrunesByItself(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.history("delivered", 1001, 2*time.Hour) // more than one batch
	c := r.config()
	c.Retention = time.Hour
	r.run(c)
	r.await("all messages are pruned", func() bool { return r.count(`SELECT count(*) FROM outbox.message`) == 0 })
}
