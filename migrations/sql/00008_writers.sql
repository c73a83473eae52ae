-- What a writer pays for, and what it may ask for. A message can expire: dead.reason can be 'expired'. The one rule of
-- message that was a table constraint is removed: Postgres reads and plans such a rule anew in each statement, which was a sixth
-- of what the hook adds to an acknowledgement. The hook checks the rule before it writes, and the worker sets a row that
-- contradicts itself aside when it claims it (DESIGN.md, Which rule lives where).
--
-- Locks: ACCESS EXCLUSIVE on message and dead for milliseconds; it reads nothing in either. It waits for each at most 2 s;
-- then the migration fails (55P03), and nothing has changed: run it again, as migrations.Up does by itself.

-- +goose Up

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE SCHEMA IF NOT EXISTS outbox; -- exists since 00001; here so that each file can be run by itself

ALTER TABLE outbox.message DROP CONSTRAINT message_result_or_error;

-- Not validated: every existing row has passed the earlier rule, which allowed less.
ALTER TABLE outbox.dead
    DROP CONSTRAINT dead_reason,
    ADD CONSTRAINT dead_reason
        CHECK (reason IN ('invalid', 'refused', 'exhausted', 'gone', 'cancelled', 'poison', 'expired')) NOT VALID;

COMMENT ON COLUMN outbox.dead.reason IS 'invalid, refused, exhausted, gone, cancelled; expired: its time was over before it was delivered; poison: the database refused what the worker had to write for it, or the worker what is in the row';

-- Every column has a comment.
COMMENT ON COLUMN outbox.message.id IS 'the webhook-id; a UUIDv7 made by the writer';
COMMENT ON COLUMN outbox.message.run_id IS 'the run, as the embedding service calls it';
COMMENT ON COLUMN outbox.message.status IS 'how the run ended: succeeded, failed or cancelled';
COMMENT ON COLUMN outbox.message.headers IS 'the submitter''s metadata, as the run has it';
COMMENT ON COLUMN outbox.message.final_step IS 'zero-based number of the step that ended the run';
COMMENT ON COLUMN outbox.message.url IS 'where it is delivered to';
COMMENT ON COLUMN outbox.message.options IS 'how to deliver it, as the hook was configured or the run asked (method, format, signing_key, timeout_ms, expire_after_ms, …); NULL leaves all to the worker';
COMMENT ON COLUMN outbox.message.dedupe_key IS 'only one message of a key is ever written; NULL for none';
COMMENT ON COLUMN outbox.message.created_at IS 'when it was written, by the database''s clock; the transaction was committed later';
COMMENT ON COLUMN outbox.due.message_id IS 'message.id';
COMMENT ON COLUMN outbox.due.due_at IS 'when it is tried next, at the earliest';
COMMENT ON COLUMN outbox.due.locked_by IS 'the worker that holds the lease; see worker.name';
COMMENT ON COLUMN outbox.attempt.message_id IS 'message.id';
COMMENT ON COLUMN outbox.attempt.attempt IS 'its number, counted over the message''s life';
COMMENT ON COLUMN outbox.attempt.duration_ms IS 'from its start to the last byte read, in milliseconds; NULL when lost';
COMMENT ON COLUMN outbox.attempt.status_code IS 'of the answer; NULL without one';
COMMENT ON COLUMN outbox.attempt.error IS 'what went wrong; NULL when delivered';
COMMENT ON COLUMN outbox.attempt.worker IS 'who made it; see worker.name';
COMMENT ON COLUMN outbox.dead.message_id IS 'message.id';
COMMENT ON COLUMN outbox.dead.endpoint IS 'as in due.endpoint; empty when the URL has none';
COMMENT ON COLUMN outbox.dead.error IS 'why, in words';
COMMENT ON COLUMN outbox.dead.at IS 'since when it is dead';
COMMENT ON COLUMN outbox.endpoint.reason IS 'why it is remembered, in words';
COMMENT ON COLUMN outbox.endpoint.since IS 'since when';
COMMENT ON COLUMN outbox.worker.host IS 'the host it runs on';
COMMENT ON COLUMN outbox.worker.version IS 'of the program';

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 8';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

LOCK TABLE outbox.message IN ACCESS EXCLUSIVE MODE;
LOCK TABLE outbox.dead IN ACCESS EXCLUSIVE MODE;
UPDATE outbox.dead SET reason = 'exhausted' WHERE reason = 'expired';
ALTER TABLE outbox.dead
    DROP CONSTRAINT dead_reason,
    ADD CONSTRAINT dead_reason CHECK (reason IN ('invalid', 'refused', 'exhausted', 'gone', 'cancelled', 'poison'));
COMMENT ON COLUMN outbox.dead.reason IS 'invalid, refused, exhausted, gone, cancelled, or poison: the database refused what the worker had to write for it';
-- Rows that contradict themselves may have been written by hand meanwhile; they stay.
ALTER TABLE outbox.message ADD CONSTRAINT message_result_or_error
    CHECK (CASE status WHEN 'succeeded' THEN error IS NULL ELSE error IS NOT NULL AND result IS NULL END) NOT VALID;
-- The other comments stay: they are also true of the older tables.
CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 7';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);
