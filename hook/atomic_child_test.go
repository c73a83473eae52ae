package hook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

const writersPerChild = 6

// runWriters is the main function of the child process: it ends runs, some through each way of writing, until it is killed. It
// prints "begun" once all writers are connected, and nothing after that.
func runWriters() int {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // returns when the parent ends
		os.Exit(3)
	}()
	url, schema := testdb.ChildDatabase()
	ctx := context.Background()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return 1
	}
	config.MaxConns = writersPerChild
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return 1
	}
	s, err := newService(pool, schema)
	if err != nil {
		return 1
	}
	failed := make(chan error)
	var connected sync.WaitGroup
	for i := range writersPerChild {
		connected.Add(1)
		go func() {
			end := []func(context.Context, bool) error{s.endWithPgx, s.endWithBatch, s.endWithSQL}[i%3]
			err := end(ctx, true)
			for connected.Done(); err == nil; {
				err = end(ctx, rand.IntN(10) == 0)
			}
			failed <- err
		}()
	}
	connected.Wait()
	fmt.Println("begun")
	err = <-failed
	println("a writer failed before it was killed:", err.Error())
	return 1
}

func TestAKilledWriterAcknowledgesAStepAndWritesItsMessageOrNeither(t *testing.T) {
	t.Parallel()
	const kills, longest = 30, 120 * time.Millisecond
	db := testdb.New(t)
	createService(t, db, 100_000)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var found tally
	for range kills {
		killWriters(t, db, time.Duration(random.Int64N(int64(longest))))
		found = mustBeAtomic(t, db)
	}
	waitForBackends(t, db)
	found = mustBeAtomic(t, db)
	begun := one[int](t, db.Pool, "SELECT last_value FROM "+db.Schema+".begun")
	abandoned := one[int](t, db.Pool, "SELECT last_value FROM "+db.Schema+".abandoned")
	torn := begun - abandoned - found.Acknowledged
	t.Logf("%d steps acknowledged, %d abandoned, %d interrupted by %d kills", found.Acknowledged, abandoned, torn, kills)
	if found.Acknowledged == 0 || torn <= 0 {
		t.Error("no kill hit a transaction; want some steps acknowledged and some interrupted")
	}
}

// killWriters starts a child, lets it work for the given time, and kills it.
func killWriters(t *testing.T, db *testdb.DB, after time.Duration) {
	t.Helper()
	cmd := db.Command("writers")
	in, err := cmd.StdinPipe()
	must(t, err)
	defer func() { _ = in.Close() }()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { _ = cmd.Wait() }() // the error says that it was killed
	defer func() { _ = cmd.Process.Kill() }()
	if _, err := io.ReadFull(out, make([]byte, len("begun\n"))); err != nil {
		t.Fatalf("the child did not begin: %v", err)
	}
	<-time.After(after) // the moment that the seed chose
	if err := cmd.Process.Kill(); errors.Is(err, os.ErrProcessDone) {
		t.Fatal("the child ended by itself")
	}
}

// waitForBackends polls until the backends of the killed writers have released their locks. There is no event for this.
func waitForBackends(t *testing.T, db *testdb.DB) {
	t.Helper()
	const locks = `SELECT count(*) FROM pg_locks WHERE relation = ($1 || '.step')::regclass AND pid <> pg_backend_pid()`
	for one[int](t, db.Pool, locks, db.Schema) > 0 {
		<-time.After(10 * time.Millisecond)
	}
}
