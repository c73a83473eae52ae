-- The workers that drain the outbox, living and dead: each has a row, and an advisory lock for its name as long as it lives.
--
-- Locks: only the table that is created here.

-- +goose Up

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE SCHEMA IF NOT EXISTS outbox; -- exists since 00001; here so that each file can be run by itself

-- A few rows, each changed every few seconds: only the key is indexed, so the update stays on its page (HOT).
-- Only the key is constrained: what a worker reports about itself must never be refused.
CREATE TABLE outbox.worker (
    name           text COLLATE "C" PRIMARY KEY,
    host           text        NOT NULL,
    version        text        NOT NULL,
    pid            integer     NOT NULL,
    backend_start  timestamptz NOT NULL,
    started        timestamptz NOT NULL,
    seen           timestamptz NOT NULL DEFAULT statement_timestamp(),
    lease_ms       bigint      NOT NULL,
    in_flight      integer     NOT NULL DEFAULT 0,
    clock_ahead_ms bigint      NOT NULL DEFAULT 0,
    not_ready      text
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

COMMENT ON TABLE outbox.worker IS 'workers that hold a lock for their name over a direct connection, and those that died a while ago';
COMMENT ON COLUMN outbox.worker.name IS 'as in due.locked_by; no two processes share one';
COMMENT ON COLUMN outbox.worker.pid IS 'of the session that holds the lock, in pg_stat_activity';
COMMENT ON COLUMN outbox.worker.backend_start IS 'of that session; where the role may not see it, when the lock was taken';
COMMENT ON COLUMN outbox.worker.started IS 'when the worker first took its lock';
COMMENT ON COLUMN outbox.worker.seen IS 'when it last wrote this row, which it does every 5 s';
COMMENT ON COLUMN outbox.worker.lease_ms IS 'how long what it claims belongs to it, in milliseconds';
COMMENT ON COLUMN outbox.worker.in_flight IS 'requests in flight then';
COMMENT ON COLUMN outbox.worker.clock_ahead_ms IS 'how far its clock is ahead of the database''s; negative: behind';
COMMENT ON COLUMN outbox.worker.not_ready IS 'what keeps it from delivering, as /readyz says it; NULL when it is ready';

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 5';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 4';
DROP TABLE outbox.worker;
