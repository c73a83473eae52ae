package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
)

// pruneAll prunes until Prune returns that there is no more, as the retention job does.
func (r *rig) pruneAll(p *Pruner) (total Pruned) {
	r.t.Helper()
	for more := true; more; {
		n, again, err := p.Prune(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		total.Delivered, total.Dead, more = total.Delivered+n.Delivered, total.Dead+n.Dead, again
	}
	return total
}

// TestALockedRowStopsNoPruning: its message is left, and a later run prunes it.
func TestALockedRowStopsNoPruning(t *testing.T) {
	t.Parallel()
	for what, lock := range map[string]string{
		"an attempt":                   `SELECT FROM outbox.attempt a JOIN outbox.message ON id = message_id WHERE run_id = 'delivered#7' FOR UPDATE OF a`,
		"a message":                    `SELECT FROM outbox.message WHERE run_id = 'delivered#7' FOR UPDATE`,
		"an attempt of a dead message": `SELECT FROM outbox.attempt a JOIN outbox.message ON id = message_id WHERE run_id = 'dead#7' FOR UPDATE OF a`,
		"a dead row":                   `SELECT FROM outbox.dead d JOIN outbox.message ON id = message_id WHERE run_id = 'dead#7' FOR UPDATE OF d`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.history("delivered", 40, 2*time.Hour)
			r.history("dead", 40, 2*time.Hour)
			release := faulty.Hold(t, r.Pool, sqlschema.In(lock, r.Schema))
			p := r.pruner(r.Pool, time.Hour, time.Hour)
			if n := r.pruneAll(p); n.Delivered+n.Dead != 79 {
				t.Errorf("pruned %+v, want all but one", n)
			}
			release()
			if n := r.pruneAll(p); n.Delivered+n.Dead != 1 {
				t.Errorf("pruned %+v in the end, want the last one", n)
			}
		})
	}
}

// TestRowsThatCannotBeDeletedStopNoPruning, even if they are the oldest and fill a batch.
func TestRowsThatCannotBeDeletedStopNoPruning(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.history("delivered, kept", pruneBatch+5, 3*time.Hour)
	r.history("delivered", 10, 2*time.Hour)
	r.history("dead, kept", pruneBatch+5, 3*time.Hour)
	r.history("dead", 10, 2*time.Hour)
	r.exec(`CREATE FUNCTION outbox.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'kept'; END $$;
CREATE TRIGGER keep BEFORE DELETE ON outbox.message FOR EACH ROW WHEN (OLD.run_id LIKE '%kept%') EXECUTE FUNCTION outbox.keep()`)
	p := r.pruner(r.Pool, time.Hour, time.Hour)
	for range 2 { // the second run begins from the start
		r.pruneAll(p)
		for state, want := range map[string]int{"delivered": 0, "dead": 0, "delivered, kept": pruneBatch + 5, "dead, kept": pruneBatch + 5} {
			if n := r.count(`SELECT count(*) FROM outbox.message m JOIN outbox.attempt a ON a.message_id = m.id WHERE run_id LIKE $1 || '#%'`, state); n != want {
				t.Errorf("%s: %d messages are left, want %d", state, n, want)
			}
		}
		r.history("delivered", 10, 2*time.Hour)
		r.history("dead", 10, 2*time.Hour)
	}
}

func TestALockedEndpointStopsNoPruningOfOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, reason) SELECT 'https://e' || i || '.test', '' FROM generate_series(1, 9) i`)
	release := faulty.Hold(t, r.Pool, sqlschema.In(`SELECT FROM outbox.endpoint WHERE endpoint = 'https://e5.test' FOR UPDATE`, r.Schema))
	p := r.pruner(r.Pool, 0, 0)
	for _, want := range []int{1, 0} {
		if err := p.PruneEndpoints(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.count(`SELECT count(*) FROM outbox.endpoint`); n != want {
			t.Errorf("%d endpoints are left, want %d", n, want)
		}
		release()
	}
}

// TestRowsWithoutAMessageArePruned, a part of the table at a time.
func TestRowsWithoutAMessageArePruned(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.history("delivered", orphanBatch, 2*time.Hour)
	r.history("dead", 10, 2*time.Hour)
	r.exec(`INSERT INTO outbox.attempt (message_id, attempt, started_at, class, worker)
SELECT gen_random_uuid(), 1 + i % 2, now() - interval '2 h', 'timeout', 'one' FROM generate_series(1, 20) i`)
	r.exec(`INSERT INTO outbox.attempt (message_id, attempt, started_at, class, worker) SELECT gen_random_uuid(), 1, now(), 'timeout', 'young'`)
	r.exec(`INSERT INTO outbox.dead (message_id, endpoint, reason, error, at) SELECT gen_random_uuid(), '', 'gone', '', now() - interval '2 h'`)
	p := r.pruner(r.Pool, time.Hour, time.Hour)
	for range 3 {
		if err := p.PruneOrphans(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.count(`SELECT count(*) FROM outbox.attempt`); n != orphanBatch+10+1 {
		t.Errorf("%d attempts are left, want %d", n, orphanBatch+10+1)
	}
	if n := r.count(`SELECT count(*) FROM outbox.dead`); n != 10 {
		t.Errorf("%d dead rows are left, want 10", n)
	}
}

func TestABatchThatCannotBeDeletedIsTriedInABoundedNumberOfParts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	tries := 0
	err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error {
		n, err := removeParts(t.Context(), tx, make([]string, 1000), func(context.Context, pgx.Tx, []string) (int64, error) {
			tries++
			return 0, &pgconn.PgError{Code: "23503"}
		})
		if n != 0 {
			t.Errorf("%d rows are removed, want none", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if tries != pruneParts {
		t.Errorf("it was tried %d times, want %d", tries, pruneParts)
	}
}
