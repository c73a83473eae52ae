-- Events for an operator, as messages of the outbox itself. message.kind distinguishes them from outcomes; event holds
-- what happened until a worker has made a message of it; event_told bounds how often that is; event_wanted says that somebody
-- wants events.
--
-- These tables are written only while a worker has a URL for events, and no existing table gets a new index: without such a
-- URL, events cost nothing.
--
-- Locks: ACCESS EXCLUSIVE on the views status and dead_message, then on message, for milliseconds; it reads and writes nothing
-- in message. It waits for each at most 2 s; then the migration fails (55P03), and nothing has changed: run it again, as
-- migrations.Up does by itself.

-- +goose Up

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE SCHEMA IF NOT EXISTS outbox; -- exists since 00001; here so that each file can be run by itself

-- A reader of a view locks first the view and then its tables. So the views are locked here before the table: setting an option that
-- is not set does that, and nothing else.
ALTER VIEW outbox.status RESET (security_barrier);
ALTER VIEW outbox.dead_message RESET (security_barrier);

ALTER TABLE outbox.message ADD COLUMN kind text;

COMMENT ON COLUMN outbox.message.kind IS 'NULL for an outcome; event for what a worker has to tell an operator. Only workers write it';

-- A short-lived row for each thing that happened, written in the transaction in which it happened. Only inserts: they wait for
-- nobody, and nobody waits for them.
CREATE TABLE outbox.event (
    id         uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    at         timestamptz NOT NULL DEFAULT statement_timestamp(),
    kind       text        NOT NULL,
    lane       text        COLLATE "C" NOT NULL,
    n          bigint      NOT NULL DEFAULT 1,
    reason     text,
    message_id uuid
);

COMMENT ON TABLE outbox.event IS 'what happened, until a worker has made a message of it; empty where no worker has a URL for events';
COMMENT ON COLUMN outbox.event.id IS 'of this row only';
COMMENT ON COLUMN outbox.event.at IS 'when it happened';
COMMENT ON COLUMN outbox.event.kind IS 'message.dead, breaker.opened, …; see docs/events.md';
COMMENT ON COLUMN outbox.event.lane IS 'what it happened to, as in due.endpoint; of worker.missing, the worker''s name';
COMMENT ON COLUMN outbox.event.n IS 'how many times: messages that died, for one';
COMMENT ON COLUMN outbox.event.reason IS 'why, in a word or two';
COMMENT ON COLUMN outbox.event.message_id IS 'one of the messages; NULL when it concerns none';

CREATE TABLE outbox.event_told (
    endpoint text        COLLATE "C" NOT NULL,
    kind     text        NOT NULL,
    told_at  timestamptz NOT NULL,
    n        bigint      NOT NULL DEFAULT 0,
    detail   jsonb,
    PRIMARY KEY (endpoint, kind)
);

COMMENT ON TABLE outbox.event_told IS 'when an event of an endpoint and a kind was last written, and what has happened since; a row goes when that is long ago';
COMMENT ON COLUMN outbox.event_told.endpoint IS 'origin; the name of a missing worker; empty for all endpoints beyond those that are told apart';
COMMENT ON COLUMN outbox.event_told.kind IS 'as in event.kind';
COMMENT ON COLUMN outbox.event_told.told_at IS 'when the last message was written';
COMMENT ON COLUMN outbox.event_told.n IS 'how many times it has happened since, which the next message will say';
COMMENT ON COLUMN outbox.event_told.detail IS 'what the next message will say besides; NULL when n is 0';

CREATE TABLE outbox.event_wanted (
    one  boolean     PRIMARY KEY DEFAULT true CONSTRAINT event_wanted_one CHECK (one),
    seen timestamptz NOT NULL
);

COMMENT ON TABLE outbox.event_wanted IS 'one row, once a worker had a URL for events; commands write events for as long as that was not long ago';
COMMENT ON COLUMN outbox.event_wanted.one IS 'always true: there is one row';
COMMENT ON COLUMN outbox.event_wanted.seen IS 'when such a worker was last seen; written each minute';

-- As in 00006, with the kind of the message.
CREATE OR REPLACE VIEW outbox.status AS
SELECT m.id, m.run_id, m.status, m.endpoint, m.url,
       CASE WHEN u.locked_until > now() THEN 'delivering'
            WHEN u.attempt > u.attempts_before THEN 'retrying'
            WHEN u.message_id IS NOT NULL THEN 'pending'
            WHEN x.reason = 'cancelled' THEN 'cancelled'
            WHEN x.message_id IS NOT NULL THEN 'dead'
            ELSE 'delivered' END AS state,
       coalesce(u.attempt, a.attempt, 0) AS attempts,
       a.class AS last_class, a.status_code AS last_status_code,
       coalesce(a.error, x.error) AS last_error, a.started_at AS last_attempt_at,
       u.due_at AS next_attempt_at, u.waits_for, u.locked_by, u.locked_until,
       x.reason AS dead_reason, x.error AS dead_error, x.at AS dead_at,
       m.replay_of, m.created_at,
       m.tenant::text AS tenant,
       coalesce((SELECT h.held_by FROM outbox.hold h WHERE h.lane = ANY (w.lanes) AND h.until > u.due_at ORDER BY h.until DESC, h.lane LIMIT 1),
                CASE WHEN w.waits_for IS NOT NULL THEN 'worker' END) AS held_by,
       coalesce((SELECT h.scope FROM outbox.hold h WHERE h.lane = ANY (w.lanes) AND h.until > u.due_at ORDER BY h.until DESC, h.lane LIMIT 1),
                CASE WHEN w.waits_for IS NOT NULL THEN 'message' END) AS held_scope,
       coalesce((SELECT h.reason FROM outbox.hold h WHERE h.lane = ANY (w.lanes) AND h.until > u.due_at ORDER BY h.until DESC, h.lane LIMIT 1),
                w.waits_for) AS held_reason,
       (SELECT h.since FROM outbox.hold h WHERE h.lane = ANY (w.lanes) AND h.until > u.due_at ORDER BY h.until DESC, h.lane LIMIT 1) AS held_since,
       nullif(coalesce((SELECT h.until FROM outbox.hold h WHERE h.lane = ANY (w.lanes) AND h.until > u.due_at ORDER BY h.until DESC, h.lane LIMIT 1),
                       CASE WHEN w.waits_for IS NOT NULL THEN u.due_at END), 'infinity') AS held_until,
       m.kind
FROM outbox.message m
LEFT JOIN outbox.due u ON u.message_id = m.id
LEFT JOIN outbox.dead x ON x.message_id = m.id
LEFT JOIN LATERAL (
    SELECT t.attempt, t.class, t.status_code, t.error, t.started_at
    FROM outbox.attempt t WHERE t.message_id = m.id ORDER BY t.attempt DESC LIMIT 1
) a ON true
CROSS JOIN LATERAL ( -- nothing is shown for what is under a lease
    SELECT CASE WHEN (u.locked_until > now()) IS NOT TRUE THEN outbox.lanes_over(u.endpoint) END AS lanes,
           CASE WHEN (u.locked_until > now()) IS NOT TRUE THEN u.waits_for END AS waits_for
) w;

COMMENT ON COLUMN outbox.status.kind IS 'NULL for an outcome; event: it tells an operator what happened';

CREATE OR REPLACE VIEW outbox.dead_message AS
SELECT x.at, x.reason, x.error, m.run_id, m.status, m.url, split_part(x.endpoint, ' ', 1) AS endpoint, m.id AS message_id,
       (SELECT count(*) FROM outbox.attempt a WHERE a.message_id = m.id) AS attempts, m.created_at, m.tenant::text AS tenant, m.kind
FROM outbox.dead x
JOIN outbox.message m ON m.id = x.message_id
ORDER BY x.at DESC;

COMMENT ON COLUMN outbox.dead_message.kind IS 'as in status.kind';

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 9';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 8';
DROP VIEW outbox.status; -- made again as in 00006: a column cannot be removed from a view
DROP VIEW outbox.dead_message;
DROP TABLE outbox.event_wanted;
DROP TABLE outbox.event_told;
DROP TABLE outbox.event;

-- Without the column, nobody could distinguish an event from an outcome.
DELETE FROM outbox.due WHERE message_id IN (SELECT id FROM outbox.message WHERE kind = 'event');
DELETE FROM outbox.dead WHERE message_id IN (SELECT id FROM outbox.message WHERE kind = 'event');
DELETE FROM outbox.attempt WHERE message_id IN (SELECT id FROM outbox.message WHERE kind = 'event');
DELETE FROM outbox.message WHERE kind = 'event';
DELETE FROM outbox.endpoint WHERE split_part(endpoint, ' ', 1) = 'event';
ALTER TABLE outbox.message DROP COLUMN kind;

CREATE VIEW outbox.status AS
SELECT m.id, m.run_id, m.status, m.endpoint, m.url,
       CASE WHEN u.locked_until > now() THEN 'delivering'
            WHEN u.attempt > u.attempts_before THEN 'retrying'
            WHEN u.message_id IS NOT NULL THEN 'pending'
            WHEN x.reason = 'cancelled' THEN 'cancelled'
            WHEN x.message_id IS NOT NULL THEN 'dead'
            ELSE 'delivered' END AS state,
       coalesce(u.attempt, a.attempt, 0) AS attempts,
       a.class AS last_class, a.status_code AS last_status_code,
       coalesce(a.error, x.error) AS last_error, a.started_at AS last_attempt_at,
       u.due_at AS next_attempt_at, u.waits_for, u.locked_by, u.locked_until,
       x.reason AS dead_reason, x.error AS dead_error, x.at AS dead_at,
       m.replay_of, m.created_at,
       m.tenant::text AS tenant,
       coalesce((SELECT h.held_by FROM outbox.hold h WHERE h.lane = ANY (w.lanes) AND h.until > u.due_at ORDER BY h.until DESC, h.lane LIMIT 1),
                CASE WHEN w.waits_for IS NOT NULL THEN 'worker' END) AS held_by,
       coalesce((SELECT h.scope FROM outbox.hold h WHERE h.lane = ANY (w.lanes) AND h.until > u.due_at ORDER BY h.until DESC, h.lane LIMIT 1),
                CASE WHEN w.waits_for IS NOT NULL THEN 'message' END) AS held_scope,
       coalesce((SELECT h.reason FROM outbox.hold h WHERE h.lane = ANY (w.lanes) AND h.until > u.due_at ORDER BY h.until DESC, h.lane LIMIT 1),
                w.waits_for) AS held_reason,
       (SELECT h.since FROM outbox.hold h WHERE h.lane = ANY (w.lanes) AND h.until > u.due_at ORDER BY h.until DESC, h.lane LIMIT 1) AS held_since,
       nullif(coalesce((SELECT h.until FROM outbox.hold h WHERE h.lane = ANY (w.lanes) AND h.until > u.due_at ORDER BY h.until DESC, h.lane LIMIT 1),
                       CASE WHEN w.waits_for IS NOT NULL THEN u.due_at END), 'infinity') AS held_until
FROM outbox.message m
LEFT JOIN outbox.due u ON u.message_id = m.id
LEFT JOIN outbox.dead x ON x.message_id = m.id
LEFT JOIN LATERAL (
    SELECT t.attempt, t.class, t.status_code, t.error, t.started_at
    FROM outbox.attempt t WHERE t.message_id = m.id ORDER BY t.attempt DESC LIMIT 1
) a ON true
CROSS JOIN LATERAL ( -- nothing is shown for what is under a lease
    SELECT CASE WHEN (u.locked_until > now()) IS NOT TRUE THEN outbox.lanes_over(u.endpoint) END AS lanes,
           CASE WHEN (u.locked_until > now()) IS NOT TRUE THEN u.waits_for END AS waits_for
) w;

COMMENT ON VIEW outbox.status IS 'one row per message: state, attempts, last answer, next attempt, what holds it back';
COMMENT ON COLUMN outbox.status.held_by IS 'why it is not tried when it is due: paused, circuit breaker, Retry-After, rate, or worker: it lacks what held_reason names (a signing key, its proxy)';
COMMENT ON COLUMN outbox.status.held_scope IS 'what is held back: the endpoint, the tenant at it, the URL; or the message alone';
COMMENT ON COLUMN outbox.status.held_until IS 'NULL with held_by: until an operator resumes it';
COMMENT ON VIEW outbox.status IS 'one row per message: state, attempts, last answer, next attempt';

CREATE VIEW outbox.dead_message AS
SELECT x.at, x.reason, x.error, m.run_id, m.status, m.url, split_part(x.endpoint, ' ', 1) AS endpoint, m.id AS message_id,
       (SELECT count(*) FROM outbox.attempt a WHERE a.message_id = m.id) AS attempts, m.created_at, m.tenant::text AS tenant
FROM outbox.dead x
JOIN outbox.message m ON m.id = x.message_id
ORDER BY x.at DESC;

COMMENT ON VIEW outbox.dead_message IS 'what is dead and why, newest first';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);
