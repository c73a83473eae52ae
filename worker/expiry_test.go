package worker

import (
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestAMessageBehindManyThatExpiredIsDelivered: an expired message is not sent, so no answer leads to the next claim, and
// the worker claims all the same.
func TestAMessageBehindManyThatExpiredIsDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	box := newReceiver(t, nil)
	const many = 300
	for range many {
		r.write(outbox.Message{Outcome: testdb.Outcome("late", box.URL), URL: box.URL, Options: outbox.Options{ExpireAfter: time.Second}})
	}
	r.exec(`UPDATE outbox.message SET created_at = created_at - interval '1 h'`)
	id := r.writeTo(box.URL, "fresh")
	r.run(r.config())
	r.awaitState(id, outbox.StateDelivered)
	r.await("all expired messages are dead", func() bool {
		return r.count(`SELECT count(*) FROM outbox.dead WHERE reason = 'expired'`) == many
	})
	if n := r.count(`SELECT count(*) FROM outbox.attempt`); n != 1 {
		t.Errorf("%d attempts, want 1, of the fresh message", n)
	}
}
