-- Validates the constraints of dead that 00003 added, in a transaction of its own, because it reads the whole table.
--
-- Locks: SHARE UPDATE EXCLUSIVE on dead while it reads, which stops neither readers nor writers. It waits for the lock at most
-- 2 s, as in 00003.

-- +goose Up

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE SCHEMA IF NOT EXISTS outbox; -- exists since 00001; here so that each file can be run by itself

ALTER TABLE outbox.dead VALIDATE CONSTRAINT dead_reason, VALIDATE CONSTRAINT dead_at_range;

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 4';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

-- What was validated stays validated until 00003 is reverted.
CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 3';
