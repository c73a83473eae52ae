package postgres

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestRecordsDoNotDeadlock: several workers record results of every kind at the same endpoints, in random order, while others
// claim. The server detects a deadlock before a record gives up its wait, and after TryRecord does. TryRecord locks in no
// order, because it waits only for rows that are being inserted.
func TestRecordsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	server := testdb.OwnServer(t)
	r := newRigOn(t, testdb.NewAt(t, server.URL()))
	r.exec(`ALTER SYSTEM SET deadlock_timeout = '120ms'`)
	r.exec(`SELECT pg_reload_conf()`)
	const workers, rounds, endpoints, each = 4, 60, 16, 2
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var running sync.WaitGroup
	for w := range workers {
		random := rand.New(rand.NewPCG(seed, uint64(w)))
		worker := fmt.Sprint("w", w)
		running.Go(func() {
			for range rounds {
				batch := r.leased(worker, random, endpoints, each)
				var err error
				if random.IntN(4) == 0 {
					_, err = r.recorder(worker).TryRecord(t.Context(), batch, false)
				} else {
					_, err = r.recorder(worker).Record(t.Context(), batch)
				}
				if err != nil && !IsLocked(err) {
					t.Errorf("%s: the record returns %v, want nil or a lock that was not free in time", worker, err)
				}
			}
		})
	}
	recorded := make(chan struct{})
	var claiming sync.WaitGroup
	claiming.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-recorded:
				return
			default:
			}
			r.exec(`UPDATE outbox.endpoint SET open_until = now() WHERE failures > 0 AND endpoint = $1`, fmt.Sprintf("https://e%02d.test", i%endpoints))
			r.claim("claimer")
		}
	})
	running.Wait()
	close(recorded)
	claiming.Wait()
	if n := r.count(`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); n > 0 {
		t.Errorf("%d deadlocks, want none", n)
	}
}

// leased writes some messages for each endpoint, leased to a worker, and returns results for them in random order. It deletes
// the rows of some endpoints, so that they are inserted again.
func (r *rig) leased(worker string, random *rand.Rand, endpoints, each int) (batch []Result) {
	r.t.Helper()
	rows, err := r.Pool.Query(r.t.Context(), sqlschema.In(`INSERT INTO outbox.due (message_id, endpoint, attempt, locked_by, locked_until)
SELECT gen_random_uuid(), 'https://e' || lpad((i % $2)::text, 2, '0') || '.test', 1, $1, now() + interval '1 h' FROM generate_series(1, $2::integer * $3::integer) i
RETURNING message_id, endpoint`, r.Schema), worker, endpoints, each)
	if err != nil {
		r.t.Error(err)
		return nil
	}
	kinds := map[string]string{}
	var id outbox.ID
	var endpoint string
	_, err = pgx.ForEachRow(rows, []any{&id, &endpoint}, func() error {
		if kinds[endpoint] == "" {
			kinds[endpoint] = []string{"delivered", "delivered", "failed", "retried", "gone", "refused"}[random.IntN(6)]
		}
		batch = append(batch, results(Message{ID: id, Endpoint: endpoint, Attempt: 1})[kinds[endpoint]])
		return nil
	})
	if err != nil {
		r.t.Error(err)
	}
	if random.IntN(8) == 0 {
		_, _ = r.Pool.Exec(r.t.Context(), sqlschema.In(`DELETE FROM outbox.endpoint WHERE endpoint IN (SELECT endpoint FROM outbox.endpoint
WHERE random() < 0.2 FOR UPDATE SKIP LOCKED)`, r.Schema))
	}
	random.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
	return batch
}
