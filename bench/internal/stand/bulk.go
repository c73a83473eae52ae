package stand

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// The server itself writes a backlog of millions. bulkInsert writes what the hook would have written for the
// messages from $1 to $2, the latter exclusive, with one every bulkStep since $3: ids of version 7 in the order of
// time with random ends, due in that order.
const bulkInsert = `WITH numbered AS (
    SELECT n, $3::timestamptz + n * $4::interval AS at, ($5::text[])[1 + n % cardinality($5::text[])] AS url,
           ($6::text[])[1 + n % cardinality($6::text[])] AS endpoint
    FROM generate_series($1::bigint, $2::bigint - 1) AS n
), timed AS (
    SELECT *, (extract(epoch FROM at) * 1000000)::bigint AS micros FROM numbered
), m AS (
    INSERT INTO bench.message (id, run_id, status, result, headers, final_step, url, endpoint, tenant, created_at)
    SELECT (lpad(to_hex(micros / 1000), 12, '0') || '7' || lpad(to_hex(micros % 1000 * 4096 / 1000), 3, '0')
               || substr(gen_random_uuid()::text, 20))::uuid,
           'run-' || n, 'succeeded', convert_to($7::text || lpad(to_hex(n), 8, '0') || $8::text, 'UTF8'),
           '{}', 3, url, endpoint, $9::text, at
    FROM timed
    RETURNING id, endpoint, created_at
)
INSERT INTO bench.due (message_id, endpoint, due_at) SELECT id, concat_ws(' ', endpoint, $9::text), created_at FROM m`

// bulkStep is the time between two messages of a backlog that was written in bulk: 5 000 a second.
const bulkStep = 200 * time.Microsecond

// WriteBacklog writes the messages from number from up to, but not including, number until. The last one was due when it began.
func WriteBacklog(ctx context.Context, d *Database, l Load, from, until int) error {
	const perStatement, writers = 20_000, 2
	endpoints, err := l.Endpoints()
	if err != nil {
		return err
	}
	now, err := One[time.Time](ctx, d, "SELECT now()")
	if err != nil {
		return err
	}
	var tenant *string
	if l.Tenant != "" {
		tenant = &l.Tenant
	}
	body := l.Body(0)
	before, after := string(body[:numberAt]), string(body[numberEnd:])
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for first := from; first < until; first += perStatement {
		group.Go(func() error {
			err := d.Exec(ctx, bulkInsert, first, min(first+perStatement, until), now.Add(-time.Duration(until)*bulkStep), bulkStep,
				l.URLs, endpoints, before, after, tenant)
			if err != nil {
				return fmt.Errorf("writing a backlog: %w", err)
			}
			return nil
		})
	}
	return group.Wait()
}
