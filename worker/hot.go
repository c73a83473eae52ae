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
// plan_cache_mode = force_generic_plan: the statements say themselves, by their form, which index to go by; planning
// them anew for each batch was a third of a small claim's time.
const hotSettings = `SELECT set_config('synchronous_commit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)`

// hotQuery runs a statement under hotSettings and collects its rows.
func hotQuery[T any](ctx context.Context, pool *pgxpool.Pool, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	var batch pgx.Batch
	batch.Queue(hotSettings)
	batch.Queue(sql, args...)
	results := pool.SendBatch(ctx, &batch)
	found, err := collectSecond(results, scan)
	if closed := results.Close(); err == nil { // the end of the transaction: nothing is found that is not committed
		err = closed
	}
	return found, err
}

func collectSecond[T any](results pgx.BatchResults, scan pgx.RowToFunc[T]) ([]T, error) {
	if _, err := results.Exec(); err != nil {
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}
