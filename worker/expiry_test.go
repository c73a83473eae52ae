package worker

import (
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestAMessageBehindManyThatExpiredIsDelivered, and none of those is sent: no answer leads to the next claim.
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
	r.await("all that expired are dead", func() bool {
		return r.count(`SELECT count(*) FROM outbox.dead WHERE reason = 'expired'`) == many
	})
	if n := r.count(`SELECT count(*) FROM outbox.attempt`); n != 1 {
		t.Errorf("%d attempts, want the fresh one's", n)
	}
}
