-- The runs of hook/riverstep: steps on River. Nothing else reads or writes this table, and it is empty where riverstep is
-- not used.
--
-- Locks: only the table created here, and the function version() for the moment of its replacement.

-- +goose Up

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

CREATE SCHEMA IF NOT EXISTS outbox; -- exists since 00001; here so that each file can be run by itself

-- One row per run instance: one life of a run id. The row says how far the run is; the River job of its current step only
-- brings it to a worker. Continuing a run changes no indexed column, so that its update stays on the page (HOT).
CREATE TABLE outbox.riverstep_run (
    instance            uuid        PRIMARY KEY,
    run_id              text COLLATE "C" NOT NULL
        CONSTRAINT riverstep_run_run_id CHECK (run_id ~ '^[A-Za-z0-9_-]{1,128}$'),
    status              text        NOT NULL DEFAULT 'active'
        CONSTRAINT riverstep_run_status CHECK (status IN ('active', 'succeeded', 'failed', 'cancelled')),
    step                bigint      NOT NULL DEFAULT 0 CONSTRAINT riverstep_run_step CHECK (step BETWEEN 0 AND 4294967295),
    attempts            smallint    NOT NULL CONSTRAINT riverstep_run_attempts CHECK (attempts > 0),
    job_id              bigint,
    input_sha256        bytea       NOT NULL,
    payload             bytea,
    headers             jsonb       NOT NULL DEFAULT '{}',
    released_at         timestamptz,
    cancel_requested_at timestamptz,
    result              bytea       CONSTRAINT riverstep_run_result CHECK (octet_length(result) <= 16777216),
    error               text,
    job_end             text
        CONSTRAINT riverstep_run_job_end CHECK (job_end IN ('completed', 'discarded', 'cancelled')),
    submitted_at        timestamptz NOT NULL DEFAULT statement_timestamp(),
    ended_at            timestamptz,
    CONSTRAINT riverstep_run_ended CHECK ((status = 'active') = (ended_at IS NULL) AND (status = 'active') = (job_end IS NULL)),
    CONSTRAINT riverstep_run_result_only_when_succeeded CHECK (result IS NULL OR status = 'succeeded'),
    CONSTRAINT riverstep_run_error_only_when_not CHECK ((error IS NOT NULL) = (status IN ('failed', 'cancelled')))
) WITH (fillfactor = 70);

-- At most one life of a run id at a time.
CREATE UNIQUE INDEX riverstep_run_active ON outbox.riverstep_run (run_id) WHERE status = 'active';
CREATE INDEX riverstep_run_run_id_of ON outbox.riverstep_run (run_id, submitted_at);
CREATE INDEX riverstep_run_ended_at ON outbox.riverstep_run (ended_at) WHERE ended_at IS NOT NULL;

-- A run ends only once: an ended row is never changed again. Only pruning removes it.
-- +goose StatementBegin
CREATE FUNCTION outbox.riverstep_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'run % (instance %) has ended as %', OLD.run_id, OLD.instance, OLD.status
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'riverstep_run_ends_once';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER riverstep_run_ends_once BEFORE UPDATE ON outbox.riverstep_run
    FOR EACH ROW WHEN (OLD.status <> 'active') EXECUTE FUNCTION outbox.riverstep_ended();

COMMENT ON TABLE outbox.riverstep_run IS 'runs of hook/riverstep; one row per life of a run id; the authority over its River jobs';
COMMENT ON COLUMN outbox.riverstep_run.step IS 'zero-based number of the current step, or of the one that ended the run';
COMMENT ON COLUMN outbox.riverstep_run.attempts IS 'how often each step is tried';
COMMENT ON COLUMN outbox.riverstep_run.job_id IS 'the River job of that step';
COMMENT ON COLUMN outbox.riverstep_run.payload IS 'what that step is given; NULL once the run has ended';
COMMENT ON COLUMN outbox.riverstep_run.released_at IS 'attempted_at of the job whose runner returned without settling: nothing runs until it is taken up again';
COMMENT ON COLUMN outbox.riverstep_run.result IS 'of a succeeded run; NULL when it was over 16 MiB';
COMMENT ON COLUMN outbox.riverstep_run.job_end IS 'the state in which the last River job ends';

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';
DROP TABLE outbox.riverstep_run;
DROP FUNCTION outbox.riverstep_ended();
