package worker

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// gate is a receiver that accepts only requests that one of its present keys verifies.
type gate struct {
	*receiver
	mu       sync.Mutex
	verifier webhook.Verifier
	letIn    map[int]int // by the index of the key that matched
	rejected []string
}

func newGate(t *testing.T, keys ...webhook.Key) *gate {
	t.Helper()
	g := &gate{letIn: map[int]int{}}
	g.accept(keys...)
	g.receiver = newReceiver(t, func(w http.ResponseWriter, got request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		d, err := g.verifier.Verify(got.header, []byte(got.body))
		if err != nil {
			g.rejected = append(g.rejected, got.runID+": "+err.Error())
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		g.letIn[d.KeyIndex]++
	})
	return g
}

func (g *gate) accept(keys ...webhook.Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.verifier = webhook.Verifier{Keys: keys}
	g.letIn = map[int]int{}
}

// by returns how many requests the key of that index has verified since the keys were last changed.
func (g *gate) by(index int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.letIn[index]
}

// TestKeysAreRotatedUnderLoadWithoutARejectedDelivery, in the order that package webhook describes: the receiver accepts the
// new key as well, the sender signs with both, the receiver drops the old key, and so does the sender.
func TestKeysAreRotatedUnderLoadWithoutARejectedDelivery(t *testing.T) {
	t.Parallel()
	for _, kind := range []webhook.Kind{webhook.HMAC, webhook.Ed25519} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			old, next := generate(t, kind), generate(t, kind)
			theirOld, theirNext := old, next // HMAC: both sides have the same secret
			if kind == webhook.Ed25519 {
				theirOld, theirNext = publicOf(t, old), publicOf(t, next)
			}
			to, keys := newGate(t, theirOld), newRing(map[string]webhook.Keys{"": {old}})
			c := r.patient()
			c.Keys = keys
			c.MaxInFlight, c.EndpointMaxInFlight = 16, 16
			r.run(c)

			written := 0
			more := func() { written += r.writeMany(to.URL, written, 100) }
			// half returns while a batch is being delivered, so that the next change happens in the middle of it.
			half := func() {
				r.await("half of the batch is delivered", func() bool { return len(to.requests()) >= written-50 })
			}
			settled := func(upTo int) { // returns when none of the first messages is under way any more
				r.await("the messages that were under way have arrived", func() bool { return len(byRun(to.requests())) >= upTo && r.olderDue(upTo) == 0 })
			}
			more()
			half()
			to.accept(theirNext, theirOld)
			more()
			half()
			keys.set("", next, old)
			signedByOldOnly := written
			more()
			half()
			settled(signedByOldOnly)
			to.accept(theirNext)
			more()
			half()
			keys.set("", next)
			more()
			r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })

			if len(to.rejected) > 0 {
				t.Errorf("%d deliveries were rejected, want none: %.500v", len(to.rejected), to.rejected)
			}
			if n := r.count(`SELECT count(*) FROM outbox.status WHERE state <> 'delivered' OR attempts <> 1`); n > 0 || len(byRun(to.requests())) != written {
				t.Errorf("%d of %d messages were not delivered by their first attempt, and %d arrived; want none, and all", n, written, len(byRun(to.requests())))
			}
			if to.by(0) < 100 {
				t.Errorf("the new key alone verified %d requests, want 100 at least", to.by(0))
			}
			last := byRun(to.requests())[fmt.Sprint("run-", written-1)]
			if err := verify(last, theirOld); err == nil {
				t.Error("the old key verifies the last request, want that only the new one does")
			}
		})
	}
}

// writeMany commits n messages in one transaction. Their runs are numbered from first on.
func (r *rig) writeMany(url string, first, n int) int {
	r.t.Helper()
	err := pgx.BeginFunc(r.t.Context(), r.Pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		for i := range n {
			if _, err := r.writer.Queue(batch, outbox.Message{Outcome: testdb.Outcome(fmt.Sprint("run-", first+i), ""), URL: url}); err != nil {
				return err
			}
		}
		return tx.SendBatch(r.t.Context(), batch).Close()
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// olderDue counts how many of the first messages are still due.
func (r *rig) olderDue(first int) int {
	r.t.Helper()
	return r.count(`SELECT count(*) FROM outbox.due JOIN outbox.message m ON m.id = message_id WHERE substr(m.run_id, 5)::integer < $1`, first)
}
