package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// hotSettings go before each hot statement, in its round trip and its transaction, so that none of them stays with the
// caller's connection.
//
// synchronous_commit = off: a crash of the database may undo the last fraction of a second of claims and records. They
// are then made again, and the message is delivered again under its id. At-least-once allows that, and the fence keeps
// the two attempts apart. What the application committed is not affected.
//
// plan_cache_mode = force_generic_plan: planning a small claim for each batch took a third of its time.
//
// enable_… = off: the form of each statement says which index to use, and any other plan becomes worse as the tables grow. With
// its statistics alone, the planner scans a whole table that was nearly empty when it was last analysed, and still does so when
// it has a million rows.
//
// jit = off: none of them runs long enough to be worth compiling.
const hotSettings = `SELECT set_config('synchronous_commit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true), set_config('jit', 'off', true)`

// hotBatch runs statements under hotSettings, in one round trip: queue puts them into the batch, read reads their rows.
func hotBatch(ctx context.Context, db *DB, queue func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	return hotBatchUnder(ctx, db, hotSettings, queue, read)
}

// hotBatchUnder is hotBatch under settings that begin with hotSettings.
func hotBatchUnder(ctx context.Context, db *DB, settings string, queue func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	results := db.batch(ctx, func(b *pgx.Batch) {
		b.Queue(settings)
		queue(b)
	})
	err := db.skipBeginning(results)
	if err == nil {
		_, err = results.Exec()
	}
	if err == nil {
		err = read(results)
	}
	// The transaction ends here. Rows that were read before are valid only if it committed.
	if closed := results.Close(); err == nil {
		err = closed
	}
	return err
}

// collect reads the rows of a batch's next statement.
func collect[T any](results pgx.BatchResults, scan pgx.RowToFunc[T]) ([]T, error) {
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// within runs an operation, the wait for a connection included, for at most most. Its error names the operation,
// and says so when the time was over.
//
// A transaction that Postgres ended for the sake of others is no fault of the database: run is called again, at once and
// then after growing pauses. A deadlock with a migration is an example: a claim locks its tables in one order when it is
// planned, and in another order when its plan is cached.
func within(ctx context.Context, operation string, most time.Duration, run func(context.Context) error) error {
	tooLong := fmt.Errorf("took longer than %v", most)
	ctx, cancel := context.WithTimeoutCause(ctx, most, tooLong)
	defer cancel()
	err := run(ctx)
	for n := range conflictsMost {
		if !IsConflict(err) || !sleep(ctx, time.Duration(n)*conflictPause) {
			break
		}
		err = run(ctx)
	}
	switch {
	case err == nil:
		return nil
	case context.Cause(ctx) == tooLong:
		return fmt.Errorf("%s: %w: %w", operation, tooLong, err)
	}
	return fmt.Errorf("%s: %w", operation, err)
}

const (
	conflictsMost = 8
	conflictPause = 10 * time.Millisecond // longer each time
)

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
