package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func (r *rig) pruner(pool *pgxpool.Pool, delivered, dead time.Duration) *Pruner {
	return NewPruner(Direct(pool), PrunerConfig{Schema: r.Schema, Delivered: delivered, Dead: dead})
}

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

func TestOldFinishedMessagesArePruned(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const day = 24 * time.Hour
	r.history("delivered, old", 3, 8*day)
	r.history("delivered, young", 3, 6*day)
	r.history("due, old", 3, 100*day)
	r.history("dead, older", 3, 31*day)
	r.history("dead, old", 3, 29*day)
	// A message that was dead for a long time, was replayed, and died again yesterday.
	r.history("dead, again", 1, 100*day)
	r.exec(`UPDATE outbox.dead SET at = now() - interval '1 day' WHERE message_id = (SELECT id FROM outbox.message WHERE run_id = 'dead, again#1')`)
	if n, more, err := r.pruner(r.Pool, 7*day, 30*day).Prune(t.Context()); err != nil || more || n != (Pruned{3, 3}) {
		t.Fatalf("pruned %+v, more: %v, %v; want 3 delivered and 3 dead, and no more", n, more, err)
	}
	for state, want := range map[string]int{
		"delivered, old": 0, "delivered, young": 3, "due, old": 3, "dead, older": 0, "dead, old": 3, "dead, again": 1,
	} {
		messages := r.count(`SELECT count(*) FROM outbox.message WHERE run_id LIKE $1 || '#%'`, state)
		if messages != want {
			t.Errorf("%s: %d messages are left, want %d", state, messages, want)
		}
	}
	if n := r.count(`SELECT count(*) FROM outbox.attempt`); n != r.count(`SELECT count(*) FROM outbox.message`) {
		t.Errorf("%d attempts are left, want one per message", n)
	}
	if n := r.count(`SELECT count(*) FROM outbox.dead WHERE message_id NOT IN (SELECT id FROM outbox.message)`); n > 0 {
		t.Errorf("%d dead rows are left without their messages, want none", n)
	}
}

func TestEndpointsThatNothingHoldsBackArePruned(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, open_until, max_in_flight, rate_per_second, failures, since, reason) VALUES
('keep: paused', true, NULL, NULL, NULL, 0, now(), ''), ('keep: paused, was held', true, now() - interval '1 s', NULL, NULL, 0, now(), ''),
('keep: held', false, now() + interval '1 h', NULL, NULL, 0, now(), ''), ('keep: in flight', false, NULL, 3, NULL, 0, now(), ''),
('keep: rate', false, NULL, NULL, 3, 0, now(), ''), ('keep: fails', false, now() - interval '1 s', NULL, NULL, 3, now(), ''),
('was held', false, now() - interval '1 s', NULL, NULL, 0, now(), ''), ('nothing', false, NULL, NULL, NULL, 0, now(), ''),
('failed long ago', false, NULL, NULL, NULL, 3, now() - interval '25 h', '')`)
	if err := r.pruner(r.Pool, 0, 0).PruneEndpoints(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept := r.count(`SELECT count(*) FROM outbox.endpoint WHERE endpoint LIKE 'keep:%'`)
	if all := r.count(`SELECT count(*) FROM outbox.endpoint`); kept != 6 || all != 6 {
		t.Errorf("%d endpoints are left, and %d of the 6 to be kept; want these 6", all, kept)
	}
}

func TestPruningGoesInBoundedBatches(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.history("delivered", pruneBatch+500, 2*time.Hour)
	r.history("dead", pruneBatch+1, 2*time.Hour)
	p := r.pruner(r.Pool, time.Hour, time.Hour)
	for i, want := range []Pruned{{pruneBatch, pruneBatch}, {500, 1}, {0, 0}} {
		got, more, err := p.Prune(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got != want || more != (i == 0) {
			t.Errorf("batch %d pruned %+v, more: %v; want %+v, and more after the first only", i, got, more, want)
		}
	}
}

// TestAReplayIsNeverLostToPruning: either the message is due, or both its rows are gone, whichever comes first.
func TestAReplayIsNeverLostToPruning(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const rounds, each = 25, 20
	replayed := 0
	for round := range rounds {
		r.history(fmt.Sprintf("delivered %d", round), each, 2*time.Hour)
		r.history(fmt.Sprintf("dead %d", round), each, 2*time.Hour)
		replayed += r.replayWhilePruning()
	}
	t.Logf("%d of %d messages were replayed before they were pruned", replayed, 2*each*rounds)
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE message_id NOT IN (SELECT id FROM outbox.message)`); n > 0 {
		t.Errorf("%d due rows have no message, want none", n)
	}
	if n := r.count(`SELECT count(*) FROM outbox.due`); n != replayed {
		t.Errorf("%d messages are due, want the %d whose replay succeeded", n, replayed)
	}
}

func (r *rig) replayWhilePruning() (replayed int) {
	r.t.Helper()
	list, err := r.store.List(r.t.Context(), operator.Filter{States: []outbox.State{outbox.StateDelivered, outbox.StateDead}, Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	var racing sync.WaitGroup
	racing.Go(func() {
		if _, _, err := r.pruner(r.Pool, 0, 0).Prune(r.t.Context()); err != nil {
			r.t.Error(err)
		}
	})
	racing.Go(func() {
		for _, m := range list {
			_, err := r.store.Replay(r.t.Context(), []outbox.ID{m.ID}, "")
			if err == nil {
				replayed++
			} else if !errors.Is(err, operator.ErrNotFound) {
				r.t.Error(err)
			}
		}
	})
	racing.Wait()
	return replayed
}

// TestAReplayThatOvertakesPruningKeepsItsMessage is the narrowest case of that race: the replay commits after the pruner read
// the message, and before the pruner locked it.
func TestAReplayThatOvertakesPruningKeepsItsMessage(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"read committed", "repeatable read"} { // a database may have either as its default
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.history("delivered", 1, 2*time.Hour)
			list, err := r.store.List(t.Context(), operator.Filter{})
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			pool := r.NewPool(t, func(c *pgxpool.Config) {
				c.ConnConfig.RuntimeParams["default_transaction_isolation"] = isolation
			})
			p := r.pruner(pool, time.Hour, time.Hour)
			const seen = "pg_advisory_xact_lock_shared(hashtext(current_setting('application_name')))::text = ''"
			p.sql.oldDelivered = strings.Replace(p.sql.oldDelivered, "WHERE", "WHERE "+seen+" AND", 1)

			var pruning sync.WaitGroup
			err = pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(hashtext(current_setting('application_name')))`)
				if err != nil {
					return err
				}
				pruning.Go(func() {
					if _, _, err := p.Prune(context.WithoutCancel(t.Context())); err != nil {
						t.Log(err) // the pruning may fail, as long as it deletes nothing
					}
				})
				r.await("the pruner has its snapshot", func() bool {
					return r.count(`SELECT count(*) FROM pg_stat_activity
WHERE application_name = current_setting('application_name') AND wait_event = 'advisory'`) == 1
				})
				_, err = r.store.Replay(t.Context(), []outbox.ID{list[0].ID}, "")
				return err
			})
			pruning.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if n := r.count(`SELECT count(*) FROM outbox.due d JOIN outbox.message m ON m.id = d.message_id`); n != 1 {
				t.Errorf("%d due rows have their message, want 1; there are %d due rows", n, r.count(`SELECT count(*) FROM outbox.due`))
			}
		})
	}
}

// await polls until another session has done something. No event tells the test when.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	const patience = time.Minute
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited %v, and this did not happen: %s", patience, what)
		}
	}
}
