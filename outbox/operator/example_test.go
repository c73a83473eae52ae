package operator_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// replayDead makes the newest dead outcomes due again. It leaves events be: an old one tells an operator nothing.
func replayDead(ctx context.Context, store *operator.Store) ([]operator.Replayed, error) {
	dead, err := store.List(ctx, operator.Filter{States: []outbox.State{outbox.StateDead}})
	if err != nil {
		return nil, err
	}
	var ids []outbox.ID
	for _, m := range dead {
		if m.Kind == nil || *m.Kind != operator.KindEvent {
			ids = append(ids, m.ID)
		}
	}
	return store.Replay(ctx, ids, "")
}

// After a receiver was mended: what it refused is sent again.
func ExampleStore_Replay() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	store, err := operator.NewStore(pool, "") // the schema outbox
	if err != nil {
		log.Fatal(err)
	}
	replayed, err := replayDead(ctx, store)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d messages are due again\n", len(replayed))
}

func TestTheExampleReplaysOutcomesAndNoEvents(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	outcome := inState(t, db, outbox.StateDead, fixture.Message("run"))
	event := inState(t, db, outbox.StateDead, fixture.Message("event"))
	fixture.Execute(t, db, `UPDATE %s.message SET kind = 'event' WHERE id = '%s'`, db.Schema, event)
	replayed, err := replayDead(t.Context(), fixture.Store(t, db))
	if err != nil || len(replayed) != 1 || replayed[0].ID != outcome {
		t.Errorf("replayed are %v, %v", replayed, err)
	}
}
