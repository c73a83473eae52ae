package worker

import (
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestAMessageThatIsCommittedLateIsDelivered: its due time is before that of messages of its endpoint that were claimed already.
func TestAMessageThatIsCommittedLateIsDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	r.run(r.config())
	r.awaitState(r.writeTo(to.URL, "early"), outbox.StateDelivered)
	r.exec(`INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint)
VALUES (gen_random_uuid(), 'late', 'succeeded', '', 0, $1::text, $1::text)`, to.URL)
	r.exec(`INSERT INTO outbox.due (message_id, endpoint, due_at) SELECT id, endpoint, now() - interval '1 h' FROM outbox.message WHERE run_id = 'late'`)
	r.await("the late message is delivered", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 && len(to.requests()) == 2 })
}
