package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
)

// Sampler measures the state of the outbox, and keeps it in outbox.sample. It measures in groups of figures: a group that
// takes too long, or that the database refuses, is missing in the row; the other groups are there.
type Sampler struct {
	db                *DB
	config            SamplerConfig
	groups            []sampleGroup
	due, write, prune string
}

// SamplerConfig is checked by the worker, not here.
type SamplerConfig struct {
	Schema          string
	Worker          string
	Interval        time.Duration // between two samples
	Delivered, Dead time.Duration // how long retention keeps delivered and dead messages
	WorkerSeenMax   time.Duration // how long ago a living worker can have been seen
}

const (
	// SampleTimeout bounds one sample, and sampleGroupTimeout each of its groups, by the server.
	SampleTimeout      = 20 * time.Second
	sampleGroupTimeout = 3 * time.Second

	sampleKept  = "30 days"
	samplePrune = 1000 // rows at once; only one more comes each time
)

// sampleGroup is a statement that returns one row of figures: columns of outbox.sample.
type sampleGroup struct {
	name, sql string
	hot       bool // it uses indexes, as the hot statements do
	args      []any
}

// figures are what one sample found, as the columns of outbox.sample.
type figures struct {
	Missing   []string `json:"missing"`
	Estimated []string `json:"estimated"`
	values    map[string]json.RawMessage
}

// Each of these returns one JSON object.
const (
	sampleDueSQL = `SELECT jsonb_build_object('pending', coalesce(sum(messages) FILTER (WHERE state = 'pending'), 0),
    'delivering', coalesce(sum(messages) FILTER (WHERE state = 'delivering'), 0), 'retrying', coalesce(sum(messages) FILTER (WHERE state = 'retrying'), 0),
    'waits', (SELECT coalesce(jsonb_object_agg(waits_for, n), '{}') FROM (SELECT waits_for, sum(messages) AS n FROM c WHERE waits_for IS NOT NULL GROUP BY 1) w),
    'estimated', coalesce(bool_or(estimated), false))
FROM c`

	sampleDeadSQL = `SELECT jsonb_build_object('dead', coalesce(jsonb_object_agg(reason, messages), '{}'), 'estimated', coalesce(bool_or(estimated), false))
FROM outbox.dead_count`

	// sampleOldestSQL is the full scan, reduced to the oldest message that is not in flight and not held back.
	sampleOldestSQL = `SELECT jsonb_build_object('oldest_due', min(since)) FROM (
` + fullScanSQL + `
) AS c (endpoint, since)`

	sampleLanesSQL = `SELECT jsonb_build_object('breakers_open', count(*) FILTER (WHERE failures > 0 AND open_until > now()), 'paused', count(*) FILTER (WHERE paused))
FROM outbox.endpoint`

	// sampleHorizonSQL finds what keeps vacuum from removing rows: sessions with a snapshot, prepared transactions, and replication
	// slots. Where the role may not see other roles' sessions (pg_read_all_stats), the result is a lower bound.
	sampleHorizonSQL = `SELECT jsonb_build_object('due_dead_rows', pg_stat_get_dead_tuples('outbox.due'::regclass),
    'horizon_since', (SELECT min(since) FROM h), 'horizon_xids', (SELECT coalesce(max(xids), 0) FROM h),
    'estimated', EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type IS NULL))`

	// sampleRetentionSQL looks at the oldest messages for one that is neither due nor dead, and at the oldest dead one. When
	// the oldest thousand are all due or dead, it finds none.
	sampleRetentionSQL = `SELECT jsonb_build_object('retention_since', least(
    (SELECT m.created_at + $1::interval FROM (SELECT id, created_at FROM outbox.message ORDER BY id LIMIT 1000) m
     WHERE NOT EXISTS (SELECT FROM outbox.due d WHERE d.message_id = m.id) AND NOT EXISTS (SELECT FROM outbox.dead x WHERE x.message_id = m.id)
       AND m.created_at < now() - $1::interval ORDER BY m.id LIMIT 1),
    (SELECT at + $2::interval FROM outbox.dead WHERE at < now() - $2::interval ORDER BY at LIMIT 1)))`

	sampleWorkersSQL = `SELECT jsonb_build_object('workers', count(*)) FROM outbox.worker WHERE seen > now() - $1::interval`
)

const dueCountedSQL = `WITH c AS MATERIALIZED (SELECT * FROM outbox.due_count) `

const horizonSQL = `WITH h AS (
    SELECT xact_start AS since, age(backend_xmin) AS xids FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker' AND (datname = current_database() OR datname IS NULL)
    UNION ALL
    SELECT prepared, age(transaction) FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL
    SELECT NULL, age(xmin) FROM pg_replication_slots WHERE xmin IS NOT NULL
) `

// sampleWriteSQL takes the figures as one JSON object, by the names of the columns.
const sampleWriteSQL = `INSERT INTO outbox.sample
SELECT * FROM jsonb_populate_record(NULL::outbox.sample, $1::text::jsonb || jsonb_build_object('at', clock_timestamp()))
ON CONFLICT DO NOTHING`

const samplePruneSQL = `DELETE FROM outbox.sample WHERE at < now() - interval '` + sampleKept + `'
AND at <= (SELECT max(at) FROM (SELECT at FROM outbox.sample ORDER BY at LIMIT $1::integer) s)`

// sampleDueNowSQL says whether it is time for another sample: jobs may have piled up, and workers may differ in their interval.
const sampleDueNowSQL = `SELECT NOT EXISTS (SELECT FROM outbox.sample WHERE at > now() - $1::interval / 2)`

// NewSampler returns a sampler of a schema.
func NewSampler(db *DB, c SamplerConfig) *Sampler {
	in := func(sql string) string { return sqlschema.In(sql, c.Schema) }
	return &Sampler{
		db: db, config: c, due: in(sampleDueNowSQL), write: in(sampleWriteSQL), prune: in(samplePruneSQL),
		groups: []sampleGroup{
			{name: "due", sql: in(dueCountedSQL + sampleDueSQL)},
			{name: "dead", sql: in(sampleDeadSQL)},
			{name: "oldest_due", sql: in(sampleOldestSQL), hot: true, args: []any{[]string{}, "", nil}},
			{name: "lanes", sql: in(sampleLanesSQL)},
			{name: "horizon", sql: in(horizonSQL + sampleHorizonSQL)},
			{name: "retention", sql: in(sampleRetentionSQL), hot: true, args: []any{c.Delivered, c.Dead}},
			{name: "workers", sql: in(sampleWorkersSQL), args: []any{c.WorkerSeenMax}},
		},
	}
}

// Sample measures once, if it is time, and removes old samples. It does nothing on tables of a version without samples.
func (s *Sampler) Sample(ctx context.Context) error {
	err := within(ctx, "sample the outbox", SampleTimeout, func(ctx context.Context) error {
		var due bool
		if err := s.ask(ctx, sampleGroup{sql: s.due, args: []any{s.config.Interval}}, &due); err != nil || !due {
			return err
		}
		began := time.Now()
		found, err := s.measure(ctx)
		if err != nil {
			return err
		}
		found.set("took_ms", time.Since(began).Milliseconds())
		row, err := found.row(s.config)
		if err != nil {
			return err
		}
		return s.db.transact(ctx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, s.write, row); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, s.prune, samplePrune)
			return err
		})
	})
	if sqlstate.Of(err) == undefinedTable {
		return nil
	}
	return err
}

const undefinedTable = "42P01"

// measure runs the groups. A failure of a single group is not its error.
func (s *Sampler) measure(ctx context.Context) (figures, error) {
	found := figures{Missing: []string{}, Estimated: []string{}, values: map[string]json.RawMessage{}}
	for _, g := range s.groups {
		var object []byte
		err := s.ask(ctx, g, &object)
		var refused *pgconn.PgError
		switch {
		case err == nil:
			if err := found.add(g.name, object); err != nil {
				return found, err
			}
		case ctx.Err() == nil && errors.As(err, &refused): // too long, not permitted, or not there
			found.Missing = append(found.Missing, g.name)
		default:
			return found, err
		}
	}
	return found, nil
}

// ask reads the one value that a group's statement returns. The bound is set first and alone: in a batch, the statement would
// be prepared, and wait for locks, before it.
func (s *Sampler) ask(ctx context.Context, g sampleGroup, to any) error {
	bound := fmt.Sprintf(`SELECT set_config('statement_timeout', '%d', true), set_config('jit', 'off', true)`, sampleGroupTimeout.Milliseconds())
	return s.db.transact(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, bound)
		if err == nil && g.hot {
			_, err = tx.Exec(ctx, hotSettings)
		}
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, g.sql, g.args...).Scan(to)
	})
}

// add takes a group's object. Its member estimated says that the group's counts are estimates.
func (f *figures) add(group string, object []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return err
	}
	for name, value := range members {
		if name != "estimated" {
			f.values[name] = value
		} else if string(value) == "true" {
			f.Estimated = append(f.Estimated, group)
		}
	}
	return nil
}

func (f *figures) set(name string, value any) {
	f.values[name], _ = json.Marshal(value) // of numbers and texts
}

// row is the sample as one JSON object.
func (f *figures) row(c SamplerConfig) (string, error) {
	f.set("worker", c.Worker)
	f.set("interval_ms", c.Interval.Milliseconds())
	slices.Sort(f.Missing)
	f.set("missing", f.Missing)
	f.set("estimated", f.Estimated)
	row, err := json.Marshal(f.values)
	return string(row), err
}
