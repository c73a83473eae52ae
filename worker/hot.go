package worker

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// hotSettings go before each hot statement, in its round trip and its transaction, so that nothing of them stays with
// the caller's connection.
//
// synchronous_commit = off: a claim or a record that a crash of the database undoes (its last fraction of a second) is
// made again, and the message delivered again under its id, which at-least-once allows and the fence keeps apart. What
// the application committed is not touched by this.
//
// plan_cache_mode = force_generic_plan: planning them anew for each batch was a third of a small claim's time.
//
// enable_… = off: the statements say by their form which index to go by, and no other way is ever better for long. Left
// to its figures, the planner reads a table from end to end that was nearly empty when it was last analysed, and goes on
// doing so when a million rows have come. jit = off: nor is any of them ever worth compiling.
const hotSettings = `SELECT set_config('synchronous_commit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true), set_config('jit', 'off', true)`

// hotBatch runs statements under hotSettings, in one round trip: queue puts them into the batch, read takes their rows.
func hotBatch(ctx context.Context, pool *pgxpool.Pool, queue func(*pgx.Batch), read func(pgx.BatchResults) error) error {
	var batch pgx.Batch
	batch.Queue(hotSettings)
	queue(&batch)
	results := pool.SendBatch(ctx, &batch)
	_, err := results.Exec()
	if err == nil {
		err = read(results)
	}
	if closed := results.Close(); err == nil { // the end of the transaction: nothing is found that is not committed
		err = closed
	}
	return err
}

// collect takes the rows of a batch's next statement.
func collect[T any](results pgx.BatchResults, scan pgx.RowToFunc[T]) ([]T, error) {
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}
