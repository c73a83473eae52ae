-- The outbox: messages, what is still to be delivered, and what was tried.
--
-- Every name is qualified with the default schema; migrations.FS renders this file for another one. Locks: only the
-- tables created here. A service may run this file with its own goose; River's tables come from River's own migrator
-- (migrations.Up runs both).

-- +goose Up

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

CREATE SCHEMA IF NOT EXISTS outbox;

-- Endpoints are in the collation "C", because the worker walks them in an order that it must know too.

-- The rules of single columns are domains, not table constraints: Postgres reads and plans the constraints of a table
-- again in each statement that writes to it, and keeps those of a domain. As table constraints they took a third
-- of the time of the statement that writes a message (DESIGN.md). One rule is about several columns and stays a constraint. due has
-- no rules: only the worker writes to it, and it can handle whatever somebody writes there by hand.
CREATE DOMAIN outbox.run_id AS text CONSTRAINT message_run_id CHECK (octet_length(VALUE) BETWEEN 1 AND 1024);
CREATE DOMAIN outbox.run_status AS text CONSTRAINT message_status CHECK (VALUE IN ('succeeded', 'failed', 'cancelled'));
CREATE DOMAIN outbox.run_result AS bytea CONSTRAINT message_result CHECK (octet_length(VALUE) <= 16777216);
CREATE DOMAIN outbox.run_error AS text CONSTRAINT message_error CHECK (octet_length(VALUE) <= 65536);
CREATE DOMAIN outbox.run_headers AS jsonb
    CONSTRAINT message_headers CHECK (jsonb_typeof(VALUE) = 'object' AND pg_column_size(VALUE) <= 262144);
CREATE DOMAIN outbox.step_number AS bigint CONSTRAINT message_final_step CHECK (VALUE BETWEEN 0 AND 4294967295);
CREATE DOMAIN outbox.callback_url AS text CONSTRAINT message_url CHECK (octet_length(VALUE) <= 2048);
CREATE DOMAIN outbox.delivery_options AS jsonb
    CONSTRAINT message_options CHECK (jsonb_typeof(VALUE) = 'object' AND pg_column_size(VALUE) <= 262144);
CREATE DOMAIN outbox.dedupe_key AS text CONSTRAINT message_dedupe_key CHECK (octet_length(VALUE) BETWEEN 1 AND 512);
CREATE DOMAIN outbox.attempts AS integer CONSTRAINT due_attempts CHECK (VALUE >= 0);
CREATE DOMAIN outbox.due_endpoint AS text COLLATE "C" CONSTRAINT due_endpoint CHECK (VALUE <> '');

-- One row per message: one outcome to be delivered to one URL. Written once by the hook, never changed.
CREATE TABLE outbox.message (
    id         uuid                    PRIMARY KEY,
    run_id     outbox.run_id           NOT NULL,
    status     outbox.run_status       NOT NULL,
    result     outbox.run_result,
    error      outbox.run_error,
    headers    outbox.run_headers      NOT NULL DEFAULT '{}',
    final_step outbox.step_number      NOT NULL,
    url        outbox.callback_url     NOT NULL,
    endpoint   text COLLATE "C"        NOT NULL,
    options    outbox.delivery_options,
    dedupe_key outbox.dedupe_key,
    replay_of  uuid,
    created_at timestamptz             NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT message_result_or_error
        CHECK (CASE status WHEN 'succeeded' THEN error IS NULL ELSE error IS NOT NULL AND result IS NULL END)
);
CREATE UNIQUE INDEX message_dedupe_key_once ON outbox.message (dedupe_key) WHERE dedupe_key IS NOT NULL;
CREATE INDEX message_run_id_of ON outbox.message (run_id);

COMMENT ON TABLE outbox.message IS 'one outcome to be delivered to one URL; written once, never changed; id is the webhook-id';
COMMENT ON COLUMN outbox.message.result IS 'the request body of a succeeded run; NULL when it was over 16 MiB and not kept';
COMMENT ON COLUMN outbox.message.error IS 'the request body of a failed or cancelled run';
COMMENT ON COLUMN outbox.message.endpoint IS 'origin of the URL (scheme, host, port); empty when the URL has none';
COMMENT ON COLUMN outbox.message.options IS 'how to deliver it, as the hook was configured (method, format, signing_key, timeout_ms, …)';
COMMENT ON COLUMN outbox.message.replay_of IS 'the message this one repeats to another URL';

-- One row exactly while its message is still to be delivered. Narrow and hot: a claim touches no indexed column, so its
-- update stays on the page (HOT). No foreign key: the writer inserts both rows in one statement, retention deletes a
-- message only when it is not due, and a key would cost each message a row lock and its WAL.
CREATE TABLE outbox.due (
    message_id      uuid                PRIMARY KEY,
    endpoint        outbox.due_endpoint NOT NULL,
    due_at          timestamptz         NOT NULL DEFAULT statement_timestamp(),
    attempt         outbox.attempts     NOT NULL DEFAULT 0,
    attempts_before outbox.attempts     NOT NULL DEFAULT 0,
    locked_by       text,
    locked_until    timestamptz,
    waits_for       text
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX due_endpoint_due_at ON outbox.due (endpoint, due_at);

COMMENT ON TABLE outbox.due IS 'still to be delivered: a row exists until its message is delivered or dead';
COMMENT ON COLUMN outbox.due.attempt IS 'attempts claimed so far, the running one included';
COMMENT ON COLUMN outbox.due.attempts_before IS 'attempts made before the last replay; the retry schedule counts from here';
COMMENT ON COLUMN outbox.due.locked_until IS 'end of the lease; past it the message is due again';
COMMENT ON COLUMN outbox.due.waits_for IS 'what the worker lacks to send it: a signing key, its proxy; no attempt was counted';

-- One row per HTTP request. class says how it ended: delivered, or the kind of fault.
CREATE TABLE outbox.attempt (
    message_id  uuid        NOT NULL,
    attempt     integer     NOT NULL CONSTRAINT attempt_attempt CHECK (attempt > 0),
    started_at  timestamptz NOT NULL,
    duration_ms integer     CONSTRAINT attempt_duration_ms CHECK (duration_ms >= 0),
    class       text        NOT NULL CONSTRAINT attempt_class CHECK (class IN (
        'delivered', 'status', 'timeout', 'dns', 'connect', 'tls', 'reset', 'protocol', 'blocked', 'lost')),
    status_code integer     CONSTRAINT attempt_status_code CHECK (status_code BETWEEN 100 AND 999),
    error       text,
    response    text,
    note        text,
    worker      text        NOT NULL,
    PRIMARY KEY (message_id, attempt)
);

COMMENT ON TABLE outbox.attempt IS 'one HTTP request for one message; append-only';
COMMENT ON COLUMN outbox.attempt.started_at IS 'when the request began; of a lost attempt, when its lease ran out';
COMMENT ON COLUMN outbox.attempt.class IS 'delivered, or the fault; lost: the worker died before it could record the answer';
COMMENT ON COLUMN outbox.attempt.response IS 'start of the response body';
COMMENT ON COLUMN outbox.attempt.note IS 'what was left out of the request, and why';

-- Given up, until replayed or pruned.
CREATE TABLE outbox.dead (
    message_id uuid        PRIMARY KEY,
    endpoint   text COLLATE "C" NOT NULL,
    reason     text        NOT NULL CONSTRAINT dead_reason CHECK (reason IN (
        'invalid', 'refused', 'exhausted', 'gone', 'cancelled')),
    error      text        NOT NULL,
    at         timestamptz NOT NULL DEFAULT statement_timestamp()
);
CREATE INDEX dead_at ON outbox.dead (at);

COMMENT ON TABLE outbox.dead IS 'given up: refused for good, out of attempts, invalid or cancelled; until replayed or pruned';

-- Only endpoints with something to remember.
CREATE TABLE outbox.endpoint (
    endpoint        text COLLATE "C" PRIMARY KEY CONSTRAINT endpoint_endpoint CHECK (endpoint <> ''),
    paused          boolean     NOT NULL DEFAULT false,
    open_until      timestamptz,
    failures        integer     NOT NULL DEFAULT 0 CONSTRAINT endpoint_failures CHECK (failures >= 0),
    openings        integer     NOT NULL DEFAULT 0 CONSTRAINT endpoint_openings CHECK (openings >= 0),
    probing         boolean     NOT NULL DEFAULT false,
    max_in_flight   integer     CONSTRAINT endpoint_max_in_flight CHECK (max_in_flight > 0),
    rate_per_second double precision CONSTRAINT endpoint_rate_per_second CHECK (rate_per_second > 0),
    granted_at      timestamptz NOT NULL DEFAULT statement_timestamp(),
    reason          text        NOT NULL,
    since           timestamptz NOT NULL DEFAULT statement_timestamp()
);
CREATE INDEX endpoint_failing ON outbox.endpoint (open_until) WHERE failures > 0;

COMMENT ON TABLE outbox.endpoint IS 'endpoints that are paused, limited, failing, or asked to be left alone for a while';
COMMENT ON COLUMN outbox.endpoint.paused IS 'nothing is sent until an operator resumes it';
COMMENT ON COLUMN outbox.endpoint.open_until IS 'nothing is sent before this time: it asked so (Retry-After), or failed too often in a row';
COMMENT ON COLUMN outbox.endpoint.failures IS 'failed attempts in a row';
COMMENT ON COLUMN outbox.endpoint.openings IS 'times in a row that it was opened; each lasts longer';
COMMENT ON COLUMN outbox.endpoint.probing IS 'a single message is under way to see whether it answers again';
COMMENT ON COLUMN outbox.endpoint.max_in_flight IS 'requests at once, of each worker, as an operator set it';
COMMENT ON COLUMN outbox.endpoint.rate_per_second IS 'requests begun per second, of all workers together, as an operator set it';
COMMENT ON COLUMN outbox.endpoint.granted_at IS 'when requests of the rate were last granted';

-- One row per message, with its state.
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
       m.replay_of, m.created_at
FROM outbox.message m
LEFT JOIN outbox.due u ON u.message_id = m.id
LEFT JOIN outbox.dead x ON x.message_id = m.id
LEFT JOIN LATERAL (
    SELECT t.attempt, t.class, t.status_code, t.error, t.started_at
    FROM outbox.attempt t WHERE t.message_id = m.id ORDER BY t.attempt DESC LIMIT 1
) a ON true;

COMMENT ON VIEW outbox.status IS 'one row per message: state, attempts, last answer, next attempt';

-- How many messages in each state, and the oldest of each. Delivered counts what retention has not pruned.
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
FROM unnest(ARRAY['pending', 'delivering', 'retrying', 'delivered', 'dead', 'cancelled'])
     WITH ORDINALITY AS s (state, n)
LEFT JOIN d ON d.state = s.state
LEFT JOIN x ON x.state = s.state
ORDER BY s.n;

COMMENT ON VIEW outbox.overview IS 'messages per state, the oldest due, the oldest in flight';

-- What is dead, and why, newest first.
CREATE VIEW outbox.dead_message AS
SELECT x.at, x.reason, x.error, m.run_id, m.status, m.url, x.endpoint, m.id AS message_id,
       (SELECT count(*) FROM outbox.attempt a WHERE a.message_id = m.id) AS attempts, m.created_at
FROM outbox.dead x
JOIN outbox.message m ON m.id = x.message_id
ORDER BY x.at DESC;

COMMENT ON VIEW outbox.dead_message IS 'what is dead and why, newest first';

-- Endpoints that have something waiting, dead or remembered, the worst first.
CREATE VIEW outbox.endpoint_status AS
WITH u AS (
    SELECT endpoint, count(*) AS waiting, count(*) FILTER (WHERE attempt > attempts_before) AS retrying,
           count(*) FILTER (WHERE locked_until > now()) AS delivering,
           coalesce(sum(attempt - attempts_before), 0)::bigint AS attempts_open, min(due_at) AS oldest_due
    FROM outbox.due GROUP BY endpoint
), x AS (
    SELECT endpoint, count(*) FILTER (WHERE reason <> 'cancelled') AS dead, max(at) AS last_dead
    FROM outbox.dead WHERE endpoint <> '' GROUP BY endpoint
)
SELECT endpoint, coalesce(u.retrying, 0) AS retrying, coalesce(x.dead, 0) AS dead,
       coalesce(u.waiting, 0) AS waiting, coalesce(u.delivering, 0) AS delivering, u.oldest_due, x.last_dead,
       coalesce(e.paused, false) AS paused, e.open_until, coalesce(e.failures, 0) AS failures, e.max_in_flight,
       e.rate_per_second, e.reason, e.since
FROM u
FULL JOIN x USING (endpoint)
FULL JOIN outbox.endpoint e USING (endpoint)
ORDER BY coalesce(e.paused, false) DESC, coalesce(u.retrying, 0) + coalesce(x.dead, 0) DESC, endpoint;

COMMENT ON VIEW outbox.endpoint_status IS 'endpoints by failures: what is retrying, dead and waiting at each, and who is paused';

-- What the programs check at start. Each migration that changes the tables replaces it.
CREATE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1';

COMMENT ON FUNCTION outbox.version() IS 'version of the outbox tables';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

DROP FUNCTION outbox.version();
DROP VIEW outbox.endpoint_status;
DROP VIEW outbox.dead_message;
DROP VIEW outbox.overview;
DROP VIEW outbox.status;
DROP TABLE outbox.endpoint;
DROP TABLE outbox.dead;
DROP TABLE outbox.attempt;
DROP TABLE outbox.due;
DROP TABLE outbox.message;
DROP DOMAIN outbox.due_endpoint;
DROP DOMAIN outbox.attempts;
DROP DOMAIN outbox.dedupe_key;
DROP DOMAIN outbox.delivery_options;
DROP DOMAIN outbox.callback_url;
DROP DOMAIN outbox.step_number;
DROP DOMAIN outbox.run_headers;
DROP DOMAIN outbox.run_error;
DROP DOMAIN outbox.run_result;
DROP DOMAIN outbox.run_status;
DROP DOMAIN outbox.run_id;
