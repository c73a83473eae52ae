-- The state of the outbox, now and before: figures that one worker at a time measures, for metrics, status and check.
-- The view overview now counts within bounds; before, it read all that was ever delivered.
--
-- Locks: ACCESS EXCLUSIVE on the view overview for milliseconds; otherwise only what is created here.

-- +goose Up

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE SCHEMA IF NOT EXISTS outbox; -- exists since 00001; here so that each file can be run by itself

-- Counts are exact up to 100 000 rows. Beyond that, the rows of about 1 000 pages, chosen at random, are counted and scaled
-- up to all pages; the oldest is then the oldest of these. So a count reads a bounded part of a table,
-- whatever is in it, unless most of the table is empty.

CREATE VIEW outbox.due_count AS
WITH rows AS MATERIALIZED (
    SELECT count(*) > 100000 AS many FROM (SELECT FROM outbox.due LIMIT 100001) d
), exact AS (
    SELECT CASE WHEN d.locked_until > now() THEN 'delivering' WHEN d.attempt > d.attempts_before THEN 'retrying' ELSE 'pending' END AS state,
           CASE WHEN d.waits_for IS NULL THEN NULL WHEN d.waits_for LIKE 'signing key%' THEN 'signing_key' WHEN d.waits_for LIKE 'proxy%' THEN 'proxy'
                WHEN d.waits_for LIKE 'the database%' THEN 'database' ELSE 'other' END AS waits_for,
           count(*) AS messages, min(d.due_at) AS oldest_due, min(d.locked_until) AS oldest_lease_until
    FROM outbox.due d WHERE NOT (SELECT many FROM rows) GROUP BY 1, 2
), part AS (
    SELECT CASE WHEN d.locked_until > now() THEN 'delivering' WHEN d.attempt > d.attempts_before THEN 'retrying' ELSE 'pending' END AS state,
           CASE WHEN d.waits_for IS NULL THEN NULL WHEN d.waits_for LIKE 'signing key%' THEN 'signing_key' WHEN d.waits_for LIKE 'proxy%' THEN 'proxy'
                WHEN d.waits_for LIKE 'the database%' THEN 'database' ELSE 'other' END AS waits_for,
           count(*) AS messages, min(d.due_at) AS oldest_due, min(d.locked_until) AS oldest_lease_until
    FROM outbox.due d TABLESAMPLE SYSTEM (least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.due'), 1)))
    WHERE (SELECT many FROM rows) GROUP BY 1, 2
)
SELECT state, waits_for, messages, false AS estimated, oldest_due, oldest_lease_until FROM exact
UNION ALL
SELECT state, waits_for, round(messages * 100 / least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.due'), 1)))::bigint, true, oldest_due, oldest_lease_until FROM part;

COMMENT ON VIEW outbox.due_count IS 'messages still to be delivered, by state and what of the worker''s own they wait for; estimated beyond 100 000';

CREATE VIEW outbox.dead_count AS
WITH rows AS MATERIALIZED (
    SELECT count(*) > 100000 AS many FROM (SELECT FROM outbox.dead LIMIT 100001) x
), exact AS (
    SELECT x.reason, count(*) AS messages, min(x.at) AS oldest
    FROM outbox.dead x WHERE NOT (SELECT many FROM rows) GROUP BY 1
), part AS (
    SELECT x.reason, count(*) AS messages, min(x.at) AS oldest
    FROM outbox.dead x TABLESAMPLE SYSTEM (least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.dead'), 1)))
    WHERE (SELECT many FROM rows) GROUP BY 1
)
SELECT reason, messages, false AS estimated, oldest FROM exact
UNION ALL
SELECT reason, round(messages * 100 / least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.dead'), 1)))::bigint, true, oldest FROM part;

COMMENT ON VIEW outbox.dead_count IS 'messages given up, by reason; estimated beyond 100 000';

-- A message that is neither due nor dead was delivered.
CREATE OR REPLACE VIEW outbox.overview AS
WITH d AS MATERIALIZED (
    SELECT state, sum(messages) AS messages, bool_or(estimated) AS estimated, min(oldest_due) AS oldest_due, min(oldest_lease_until) AS oldest_lease_until
    FROM outbox.due_count GROUP BY state
), x AS MATERIALIZED (
    SELECT CASE reason WHEN 'cancelled' THEN 'cancelled' ELSE 'dead' END AS state, sum(messages) AS messages, bool_or(estimated) AS estimated, min(oldest) AS oldest
    FROM outbox.dead_count GROUP BY 1
), known AS MATERIALIZED ( -- what the last ANALYZE found, scaled to the present pages; at most 0 before the first one
    SELECT (reltuples * (pg_relation_size('outbox.message') / 8192.0) / greatest(relpages, 1))::bigint AS messages FROM pg_class WHERE oid = 'outbox.message'::regclass
), first_rows AS MATERIALIZED (
    SELECT count(*) AS messages FROM (SELECT FROM outbox.message WHERE (SELECT messages <= 200000 FROM known) LIMIT 100001) m
), kept AS (
    SELECT messages, true AS estimated FROM known WHERE messages > 200000
    UNION ALL
    SELECT messages, false FROM first_rows WHERE messages <= 100000 AND (SELECT messages <= 200000 FROM known)
    UNION ALL
    SELECT round(count(*) * 100 / least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.message'), 1)))::bigint, true
    FROM outbox.message TABLESAMPLE SYSTEM (least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.message'), 1)))
    WHERE (SELECT messages FROM first_rows) > 100000 HAVING (SELECT messages FROM first_rows) > 100000
)
SELECT s.state,
       CASE s.state
           WHEN 'delivered' THEN greatest(k.messages - coalesce((SELECT sum(messages) FROM d), 0) - coalesce((SELECT sum(messages) FROM x), 0), 0)
           ELSE coalesce(d.messages, x.messages, 0) END::bigint AS messages,
       CASE WHEN s.state IN ('pending', 'retrying') THEN d.oldest_due END AS oldest_due,
       CASE WHEN s.state = 'delivering' THEN d.oldest_due END AS oldest_in_flight,
       CASE WHEN s.state = 'delivering' THEN d.oldest_lease_until END AS oldest_lease_until,
       x.oldest AS oldest_dead,
       coalesce(d.estimated, x.estimated, k.estimated, false) AS estimated
FROM (VALUES ('pending', 1), ('delivering', 2), ('retrying', 3), ('delivered', 4), ('dead', 5), ('cancelled', 6)) AS s (state, n)
LEFT JOIN d ON d.state = s.state
LEFT JOIN x ON x.state = s.state
LEFT JOIN kept k ON s.state = 'delivered'
ORDER BY s.n;

COMMENT ON VIEW outbox.overview IS 'messages per state, the oldest due, the oldest in flight; estimated beyond 100 000 rows of a table, the oldest then of a sample';

-- One row for each time that the outbox was measured; kept for 30 days.
CREATE TABLE outbox.sample (
    at                timestamptz PRIMARY KEY DEFAULT statement_timestamp(),
    worker            text        NOT NULL,
    interval_ms       bigint      NOT NULL,
    took_ms           bigint      NOT NULL,
    missing           text[]      NOT NULL DEFAULT '{}',
    estimated         text[]      NOT NULL DEFAULT '{}',
    pending           bigint,
    delivering        bigint,
    retrying          bigint,
    waits             jsonb,
    dead              jsonb,
    oldest_due        timestamptz,
    breakers_open     bigint,
    paused            bigint,
    due_dead_rows     bigint,
    horizon_since     timestamptz,
    horizon_xids      bigint,
    retention_since   timestamptz,
    workers           bigint
);

COMMENT ON TABLE outbox.sample IS 'what the outbox was like, measured by one worker at a time; the newest row is what metrics export';
COMMENT ON COLUMN outbox.sample.worker IS 'who measured';
COMMENT ON COLUMN outbox.sample.interval_ms IS 'until the next sample is due';
COMMENT ON COLUMN outbox.sample.missing IS 'groups of figures that could not be measured in time, or that the role may not see';
COMMENT ON COLUMN outbox.sample.estimated IS 'counts that are estimates: due, dead';
COMMENT ON COLUMN outbox.sample.waits IS 'messages by what of the worker''s own they wait for';
COMMENT ON COLUMN outbox.sample.dead IS 'messages given up, by reason';
COMMENT ON COLUMN outbox.sample.oldest_due IS 'since when the oldest message is due that nobody delivers and nothing holds back; NULL when there is none';
COMMENT ON COLUMN outbox.sample.breakers_open IS 'lanes whose circuit breaker is open';
COMMENT ON COLUMN outbox.sample.paused IS 'lanes that are paused';
COMMENT ON COLUMN outbox.sample.due_dead_rows IS 'row versions of due that vacuum has not removed yet';
COMMENT ON COLUMN outbox.sample.horizon_since IS 'since when the oldest transaction or snapshot keeps vacuum from removing rows; NULL when nothing does';
COMMENT ON COLUMN outbox.sample.horizon_xids IS 'the same in transactions, replication slots included';
COMMENT ON COLUMN outbox.sample.retention_since IS 'since when the oldest row is there that retention should have removed; NULL when there is none';
COMMENT ON COLUMN outbox.sample.workers IS 'workers that were seen a moment ago';

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 7';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 6';
DROP TABLE outbox.sample;
DROP VIEW outbox.overview; -- made again as in 00003: a column cannot be removed from a view
DROP VIEW outbox.dead_count;
DROP VIEW outbox.due_count;
CREATE VIEW outbox.overview AS
WITH d AS (
    SELECT CASE WHEN locked_until > now() THEN 'delivering'
                WHEN attempt > attempts_before THEN 'retrying'
                ELSE 'pending' END AS state,
           count(*) AS messages, min(due_at) AS oldest_due, min(locked_until) AS oldest_lease_until
    FROM outbox.due GROUP BY 1
), x AS (
    SELECT CASE reason WHEN 'cancelled' THEN 'cancelled' ELSE 'dead' END AS state, count(*) AS messages, min(at) AS oldest
    FROM outbox.dead GROUP BY 1
)
SELECT s.state,
       CASE s.state
           WHEN 'delivered' THEN (SELECT count(*) FROM outbox.message)
               - coalesce((SELECT sum(messages) FROM d), 0) - coalesce((SELECT sum(messages) FROM x), 0)
           ELSE coalesce(d.messages, x.messages, 0) END::bigint AS messages,
       CASE WHEN s.state IN ('pending', 'retrying') THEN d.oldest_due END AS oldest_due,
       CASE WHEN s.state = 'delivering' THEN d.oldest_due END AS oldest_in_flight,
       CASE WHEN s.state = 'delivering' THEN d.oldest_lease_until END AS oldest_lease_until,
       x.oldest AS oldest_dead
FROM (VALUES ('pending', 1), ('delivering', 2), ('retrying', 3), ('delivered', 4), ('dead', 5), ('cancelled', 6)) AS s (state, n)
LEFT JOIN d ON d.state = s.state
LEFT JOIN x ON x.state = s.state
ORDER BY s.n;

COMMENT ON VIEW outbox.overview IS 'messages per state, the oldest due, the oldest in flight';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);
