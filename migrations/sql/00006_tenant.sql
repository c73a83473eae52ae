-- Tenants: a message may name the tenant that it belongs to. Its row of due then waits in the tenant's own lane at the endpoint. The
-- views show the tenant of a message, and what holds it back.
--
-- due.endpoint holds a lane, which is also the key of outbox.endpoint: 'https://example.com' for messages without a tenant,
-- 'https://example.com acme' for those of the tenant acme, and either with ' #' and a hash behind it for one URL that was
-- set aside because it fails. So the existing index serves all of them, and a program that knows no tenants takes each
-- lane for an endpoint.
--
-- Locks: ACCESS EXCLUSIVE on the views status, dead_message and endpoint_status, then on message, for milliseconds; it reads and
-- writes nothing in message. SHARE on endpoint, which is small, for its index. It waits for each lock at most 2 s; then the migration
-- fails (55P03), and nothing has changed: run it again, as migrations.Up does by itself.

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
ALTER VIEW outbox.endpoint_status RESET (security_barrier);

-- Workers read each second which URLs are set aside, however many other rows endpoint has. This comes before
-- message, as in a claim, which locks endpoint and then message: in the other order, the two can deadlock.
CREATE INDEX endpoint_url ON outbox.endpoint (since) WHERE split_part(endpoint, ' ', 3) <> '';

-- The rule comes after the column: a new column whose domain has a rule would rewrite the whole table.
CREATE DOMAIN outbox.tenant AS text COLLATE "C";
ALTER TABLE outbox.message ADD COLUMN tenant outbox.tenant;
ALTER DOMAIN outbox.tenant ADD CONSTRAINT message_tenant CHECK (VALUE ~ '^[!-~]{1,128}$') NOT VALID;

COMMENT ON COLUMN outbox.message.tenant IS 'whose message it is; NULL for none. The unit of turns, health, pauses and limits is the tenant at an endpoint';
COMMENT ON COLUMN outbox.due.endpoint IS 'the lane it waits in: the endpoint; behind a space its tenant; behind a second one the hash of a URL that fails';
COMMENT ON COLUMN outbox.endpoint.endpoint IS 'a lane, as in due.endpoint; the row of an endpoint alone also bounds its tenants and URLs';

CREATE FUNCTION outbox.lanes_over(lane text) RETURNS text[] LANGUAGE sql IMMUTABLE AS
'SELECT ARRAY[lane, pg_catalog.split_part(lane, '' '', 1),
    pg_catalog.rtrim(pg_catalog.split_part(lane, '' '', 1) OPERATOR(pg_catalog.||) '' '' OPERATOR(pg_catalog.||) pg_catalog.split_part(lane, '' '', 2))]';

COMMENT ON FUNCTION outbox.lanes_over(text) IS 'the lanes whose rows in endpoint decide about a lane: itself, the endpoint, the tenant at the endpoint';

-- What holds messages back now, by lane. What holds back an endpoint's own lane also holds back the lanes of its tenants and URLs,
-- and what holds back a tenant's lane those of its URLs. The rules are those of the worker's claim.
CREATE VIEW outbox.hold AS
SELECT e.endpoint AS lane,
       CASE WHEN split_part(e.endpoint, ' ', 3) <> '' THEN 'URL' WHEN split_part(e.endpoint, ' ', 2) <> '' THEN 'tenant'
            ELSE 'endpoint' END AS scope,
       CASE WHEN e.paused THEN 'paused'
            WHEN e.open_until > now() AND NOT e.probing AND (e.reason LIKE 'Retry-After%' OR e.failures = 0) THEN 'Retry-After'
            WHEN e.open_until > now() THEN 'circuit breaker'
            ELSE 'rate' END AS held_by,
       CASE WHEN e.open_until > now() AND e.probing AND NOT e.paused THEN 'one message is under way to see whether it answers again; '
            ELSE '' END || e.reason AS reason,
       CASE WHEN e.paused OR e.open_until > now() THEN e.since END AS since,
       CASE WHEN e.paused THEN 'infinity' WHEN e.open_until > now() THEN e.open_until ELSE r.free_at END AS until
FROM outbox.endpoint e
CROSS JOIN LATERAL (
    SELECT e.granted_at + 1 / least(greatest(e.rate_per_second, 1e-3), 1e6) * interval '1 s' AS free_at
) r
WHERE e.paused OR e.open_until > now()
   OR e.rate_per_second IS NOT NULL AND r.free_at > now() AND e.granted_at <= now() + interval '1 s';

COMMENT ON VIEW outbox.hold IS 'what holds messages back now, by lane: a pause, a circuit breaker, a Retry-After, a rate';
COMMENT ON COLUMN outbox.hold.lane IS 'as in due.endpoint; that of an endpoint alone holds back its tenants and URLs, too';
COMMENT ON COLUMN outbox.hold.scope IS 'endpoint, tenant or URL: what is held back';
COMMENT ON COLUMN outbox.hold.held_by IS 'paused, circuit breaker, Retry-After or rate';
COMMENT ON COLUMN outbox.hold.since IS 'NULL for a rate';
COMMENT ON COLUMN outbox.hold.until IS 'infinity for a pause: until an operator resumes it; for a rate: when it allows the next request';

-- As in 00001, with the tenant of the message and what holds it back. These are subselects, so that a query that does not select
-- them does not pay for them. A hold that ends before the message is due does not count.
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

CREATE OR REPLACE VIEW outbox.dead_message AS
SELECT x.at, x.reason, x.error, m.run_id, m.status, m.url, split_part(x.endpoint, ' ', 1) AS endpoint, m.id AS message_id,
       (SELECT count(*) FROM outbox.attempt a WHERE a.message_id = m.id) AS attempts, m.created_at, m.tenant::text AS tenant
FROM outbox.dead x
JOIN outbox.message m ON m.id = x.message_id
ORDER BY x.at DESC;

-- As in 00001, by lane. Dead messages are counted with the endpoint, because dead has no tenants. What fails or waits now comes
-- first, then what is paused, then what died long ago.
CREATE OR REPLACE VIEW outbox.endpoint_status AS
WITH u AS (
    SELECT endpoint::text AS lane, count(*) AS waiting, count(*) FILTER (WHERE attempt > attempts_before) AS retrying,
           count(*) FILTER (WHERE locked_until > now()) AS delivering,
           coalesce(sum(attempt - attempts_before), 0)::bigint AS attempts_open, min(due_at) AS oldest_due
    FROM outbox.due GROUP BY endpoint
), x AS (
    SELECT split_part(endpoint, ' ', 1) AS lane, count(*) FILTER (WHERE reason <> 'cancelled') AS dead, max(at) AS last_dead,
           max(at) FILTER (WHERE reason <> 'cancelled') AS last_failed
    FROM outbox.dead WHERE endpoint <> '' GROUP BY 1
), e AS (
    SELECT endpoint AS lane, paused, open_until, failures, max_in_flight, rate_per_second, reason, since FROM outbox.endpoint
)
SELECT split_part(lane, ' ', 1) AS endpoint, coalesce(u.retrying, 0) AS retrying, coalesce(x.dead, 0) AS dead,
       coalesce(u.waiting, 0) AS waiting, coalesce(u.delivering, 0) AS delivering, u.oldest_due, x.last_dead,
       coalesce(e.paused, false) AS paused, e.open_until, coalesce(e.failures, 0) AS failures, e.max_in_flight,
       e.rate_per_second, e.reason, e.since,
       nullif(split_part(lane, ' ', 2), '') AS tenant,
       CASE WHEN split_part(lane, ' ', 3) <> '' THEN (
           SELECT m.url::text FROM outbox.due d JOIN outbox.message m ON m.id = d.message_id WHERE d.endpoint = lane ORDER BY d.due_at LIMIT 1
       ) END AS url,
       lane
FROM u
FULL JOIN x USING (lane)
FULL JOIN e USING (lane)
ORDER BY CASE WHEN x.last_failed > now() - interval '1 hour' THEN 0
              WHEN u.waiting IS NULL THEN 3
              WHEN e.paused THEN 2
              WHEN u.retrying > 0 OR e.failures > 0 OR e.open_until > now() THEN 0
              ELSE 1 END,
         coalesce(u.retrying, 0) DESC, u.oldest_due, coalesce(e.paused, false) DESC, coalesce(x.dead, 0) DESC, lane;

COMMENT ON VIEW outbox.endpoint_status IS 'endpoints, their tenants, and URLs that were set aside: what is retrying, dead and waiting at each, and who is paused; what fails or waits now comes first';
COMMENT ON COLUMN outbox.endpoint_status.dead IS 'of all tenants, in the row of the endpoint alone';
COMMENT ON COLUMN outbox.endpoint_status.tenant IS 'NULL in the row of the endpoint: of messages without a tenant, and of what bounds all tenants';
COMMENT ON COLUMN outbox.endpoint_status.url IS 'of a row that is one URL that was set aside: that URL; NULL where none of its messages waits';
COMMENT ON COLUMN outbox.endpoint_status.lane IS 'as in due.endpoint and endpoint.endpoint';

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 6';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 5';
DROP VIEW outbox.endpoint_status;
DROP VIEW outbox.dead_message;
DROP VIEW outbox.status;
DROP VIEW outbox.hold;
DROP FUNCTION outbox.lanes_over(text);
DROP INDEX outbox.endpoint_url;
COMMENT ON COLUMN outbox.endpoint.endpoint IS NULL;
COMMENT ON COLUMN outbox.due.endpoint IS NULL;
-- Messages that wait in a tenant's lane still wait there: the programs of version 5 take the lane for an endpoint.
ALTER TABLE outbox.message DROP COLUMN tenant;
DROP DOMAIN outbox.tenant;

-- As in 00001.
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

CREATE VIEW outbox.dead_message AS
SELECT x.at, x.reason, x.error, m.run_id, m.status, m.url, x.endpoint, m.id AS message_id,
       (SELECT count(*) FROM outbox.attempt a WHERE a.message_id = m.id) AS attempts, m.created_at
FROM outbox.dead x
JOIN outbox.message m ON m.id = x.message_id
ORDER BY x.at DESC;

COMMENT ON VIEW outbox.dead_message IS 'what is dead and why, newest first';

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

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);
