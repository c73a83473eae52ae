-- No view reads all due messages any more: counts by endpoint and by tenant are exact to 100 000, as those by state are since 00007.
-- And every column of every table and view has a comment.
--
-- Locks: ACCESS EXCLUSIVE on the views due_count, dead_count and endpoint_status, SHARE UPDATE EXCLUSIVE on tables whose columns
-- get a comment, for milliseconds. It waits for each at most 2 s; then the migration fails (55P03), and nothing has
-- changed: run it again, as migrations.Up does by itself.

-- +goose Up

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE SCHEMA IF NOT EXISTS outbox; -- exists since 00001; here so that each file can be run by itself

-- As in 00007, but the planner sees the bounds, too. Without that, it compiled (jit) these queries, which took
-- longer than to run them.

CREATE OR REPLACE VIEW outbox.due_count AS
WITH rows AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM outbox.due OFFSET 100000) AS many
), exact AS (
    SELECT CASE WHEN d.locked_until > now() THEN 'delivering' WHEN d.attempt > d.attempts_before THEN 'retrying' ELSE 'pending' END AS state,
           CASE WHEN d.waits_for IS NULL THEN NULL WHEN d.waits_for LIKE 'signing key%' THEN 'signing_key' WHEN d.waits_for LIKE 'proxy%' THEN 'proxy'
                WHEN d.waits_for LIKE 'the database%' THEN 'database' ELSE 'other' END AS waits_for,
           count(*) AS messages, min(d.due_at) AS oldest_due, min(d.locked_until) AS oldest_lease_until
    FROM (SELECT attempt, attempts_before, locked_until, due_at, waits_for FROM outbox.due WHERE NOT (SELECT many FROM rows) LIMIT 100001) d GROUP BY 1, 2
), part AS (
    SELECT CASE WHEN d.locked_until > now() THEN 'delivering' WHEN d.attempt > d.attempts_before THEN 'retrying' ELSE 'pending' END AS state,
           CASE WHEN d.waits_for IS NULL THEN NULL WHEN d.waits_for LIKE 'signing key%' THEN 'signing_key' WHEN d.waits_for LIKE 'proxy%' THEN 'proxy'
                WHEN d.waits_for LIKE 'the database%' THEN 'database' ELSE 'other' END AS waits_for,
           count(*) AS messages, min(d.due_at) AS oldest_due, min(d.locked_until) AS oldest_lease_until
    FROM (SELECT attempt, attempts_before, locked_until, due_at, waits_for FROM outbox.due TABLESAMPLE SYSTEM (least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.due'), 1)))
          WHERE (SELECT many FROM rows) LIMIT 200000) d GROUP BY 1, 2
)
SELECT state, waits_for, messages, false AS estimated, oldest_due, oldest_lease_until FROM exact
UNION ALL
SELECT state, waits_for, round(messages * 100 / least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.due'), 1)))::bigint, true, oldest_due, oldest_lease_until FROM part;

CREATE OR REPLACE VIEW outbox.dead_count AS
WITH first_rows AS MATERIALIZED (
    SELECT x.reason, count(*) AS messages, min(x.at) AS oldest FROM (SELECT reason, at FROM outbox.dead LIMIT 100001) x GROUP BY 1
), rows AS MATERIALIZED (
    SELECT sum(messages) > 100000 AS many FROM first_rows
), part AS (
    SELECT x.reason, count(*) AS messages, min(x.at) AS oldest
    FROM (SELECT reason, at FROM outbox.dead TABLESAMPLE SYSTEM (least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.dead'), 1)))
          WHERE (SELECT many FROM rows) LIMIT 200000) x GROUP BY 1
)
SELECT reason, messages, false AS estimated, oldest FROM first_rows WHERE NOT (SELECT many FROM rows)
UNION ALL
SELECT reason, round(messages * 100 / least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.dead'), 1)))::bigint, true, oldest FROM part;

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
    FROM (SELECT FROM outbox.message TABLESAMPLE SYSTEM (least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.message'), 1)))
          WHERE (SELECT messages FROM first_rows) > 100000 LIMIT 200000) m HAVING (SELECT messages FROM first_rows) > 100000
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

-- What is due, by lane. Beyond 100 000 rows it is a sample, as in due_count. It also walks from lane to lane by the index
-- due_endpoint_due_at, 2 000 lanes at most: it finds lanes that the sample missed, and since when the oldest message of each is due.
CREATE VIEW outbox.lane_count AS
WITH RECURSIVE rows AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM outbox.due OFFSET 100000) AS many
), walk (lane, oldest_due, n) AS (
    (SELECT d.endpoint, d.due_at, 1 FROM outbox.due d WHERE (SELECT many FROM rows) ORDER BY d.endpoint, d.due_at LIMIT 1)
    UNION ALL
    SELECT x.endpoint, x.due_at, w.n + 1 FROM walk w CROSS JOIN LATERAL (
        SELECT d.endpoint, d.due_at FROM outbox.due d WHERE d.endpoint > w.lane ORDER BY d.endpoint, d.due_at LIMIT 1
    ) x WHERE w.n < 2000
), exact AS (
    SELECT endpoint::text AS lane, count(*) AS waiting, count(*) FILTER (WHERE locked_until > now()) AS delivering,
           count(*) FILTER (WHERE attempt > attempts_before AND (locked_until > now()) IS NOT TRUE) AS retrying,
           count(*) FILTER (WHERE attempt > attempts_before + CASE WHEN locked_until > now() THEN 1 ELSE 0 END) AS failed_before,
           min(due_at) AS oldest_due,
           min(due_at) FILTER (WHERE attempt <= attempts_before AND (locked_until > now()) IS NOT TRUE) AS oldest_pending,
           min(due_at) FILTER (WHERE attempt > attempts_before AND (locked_until > now()) IS NOT TRUE) AS oldest_retrying,
           min(due_at) FILTER (WHERE locked_until > now()) AS oldest_in_flight,
           min(locked_until) FILTER (WHERE locked_until > now()) AS oldest_lease_until
    FROM (SELECT endpoint, attempt, attempts_before, locked_until, due_at FROM outbox.due WHERE NOT (SELECT many FROM rows) LIMIT 100001) d GROUP BY endpoint
), part AS (
    SELECT endpoint::text AS lane, count(*) AS waiting, count(*) FILTER (WHERE locked_until > now()) AS delivering,
           count(*) FILTER (WHERE attempt > attempts_before AND (locked_until > now()) IS NOT TRUE) AS retrying,
           count(*) FILTER (WHERE attempt > attempts_before + CASE WHEN locked_until > now() THEN 1 ELSE 0 END) AS failed_before,
           min(due_at) AS oldest_due,
           min(due_at) FILTER (WHERE attempt <= attempts_before AND (locked_until > now()) IS NOT TRUE) AS oldest_pending,
           min(due_at) FILTER (WHERE attempt > attempts_before AND (locked_until > now()) IS NOT TRUE) AS oldest_retrying,
           min(due_at) FILTER (WHERE locked_until > now()) AS oldest_in_flight,
           min(locked_until) FILTER (WHERE locked_until > now()) AS oldest_lease_until
    FROM (SELECT endpoint, attempt, attempts_before, locked_until, due_at FROM outbox.due TABLESAMPLE SYSTEM (least(100, 500 * 8192 * 100.0 / greatest(pg_relation_size('outbox.due'), 1)))
          WHERE (SELECT many FROM rows) LIMIT 200000) d GROUP BY endpoint
), share AS (
    SELECT (100 / least(100, 500 * 8192 * 100.0 / greatest(pg_relation_size('outbox.due'), 1)))::double precision AS of_all
)
SELECT lane, waiting, waiting - delivering - retrying AS pending, delivering, retrying, failed_before, oldest_due, oldest_pending, oldest_retrying,
       oldest_in_flight, oldest_lease_until, false AS estimated
FROM exact
UNION ALL
SELECT coalesce(p.lane, w.lane::text), coalesce(round(p.waiting * s.of_all), 1)::bigint, coalesce(round((p.waiting - p.delivering - p.retrying) * s.of_all), 1)::bigint,
       coalesce(round(p.delivering * s.of_all), 0)::bigint, coalesce(round(p.retrying * s.of_all), 0)::bigint,
       coalesce(round(p.failed_before * s.of_all), 0)::bigint, least(w.oldest_due, p.oldest_due),
       CASE WHEN p.lane IS NULL THEN w.oldest_due ELSE p.oldest_pending END, p.oldest_retrying, p.oldest_in_flight, p.oldest_lease_until, true
FROM part p FULL JOIN walk w ON w.lane = p.lane CROSS JOIN share s;

COMMENT ON VIEW outbox.lane_count IS 'messages still to be delivered, by lane; beyond 100 000 in all, estimates from a sample';
COMMENT ON COLUMN outbox.lane_count.lane IS 'as in due.endpoint';
COMMENT ON COLUMN outbox.lane_count.waiting IS 'due, in whatever state: pending, delivering and retrying together';
COMMENT ON COLUMN outbox.lane_count.pending IS 'not tried yet';
COMMENT ON COLUMN outbox.lane_count.delivering IS 'leased by a worker';
COMMENT ON COLUMN outbox.lane_count.retrying IS 'tried, and to be tried again';
COMMENT ON COLUMN outbox.lane_count.failed_before IS 'tried before: retrying, or being tried again now';
COMMENT ON COLUMN outbox.lane_count.oldest_due IS 'since when the oldest is due, or when it will be; exact in the first 2 000 lanes';
COMMENT ON COLUMN outbox.lane_count.oldest_pending IS 'the same of those that are pending; of the sample where there is one';
COMMENT ON COLUMN outbox.lane_count.oldest_retrying IS 'the same of those that are retrying';
COMMENT ON COLUMN outbox.lane_count.oldest_in_flight IS 'the same of those that are being delivered';
COMMENT ON COLUMN outbox.lane_count.oldest_lease_until IS 'when the first lease of them ends';
COMMENT ON COLUMN outbox.lane_count.estimated IS 'the counts are estimates; a lane that no row of the sample is of counts as one message';

-- As in 00006, within bounds. What died in the last hour is found by the index dead_at, the newest 10 000 of it.
CREATE OR REPLACE VIEW outbox.endpoint_status AS
WITH first_rows AS MATERIALIZED (
    SELECT endpoint AS lane, count(*) AS given_up, count(*) FILTER (WHERE reason <> 'cancelled') AS dead, max(at) AS last_dead,
           max(at) FILTER (WHERE reason <> 'cancelled') AS last_failed FROM (SELECT endpoint, reason, at FROM outbox.dead LIMIT 100001) d GROUP BY endpoint
), rows AS MATERIALIZED (
    SELECT sum(given_up) > 100000 AS many FROM first_rows
), part AS (
    SELECT endpoint AS lane, count(*) AS given_up, count(*) FILTER (WHERE reason <> 'cancelled') AS dead, max(at) AS last_dead,
           max(at) FILTER (WHERE reason <> 'cancelled') AS last_failed
    FROM (SELECT endpoint, reason, at FROM outbox.dead TABLESAMPLE SYSTEM (least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.dead'), 1)))
          WHERE (SELECT many FROM rows) LIMIT 200000) d GROUP BY endpoint
), lately AS (
    SELECT endpoint AS lane, count(*) AS given_up, count(*) FILTER (WHERE reason <> 'cancelled') AS dead, max(at) AS last_dead,
           max(at) FILTER (WHERE reason <> 'cancelled') AS last_failed
    FROM (SELECT endpoint, reason, at FROM outbox.dead WHERE (SELECT many FROM rows) AND at > now() - interval '1 hour'
          ORDER BY at DESC LIMIT 10000) d GROUP BY endpoint
), x AS (
    SELECT split_part(lane, ' ', 1) AS lane, sum(dead)::bigint AS dead, max(last_dead) AS last_dead, max(last_failed) AS last_failed, false AS estimated
    FROM first_rows WHERE NOT (SELECT many FROM rows) AND lane <> '' GROUP BY 1
    UNION ALL
    SELECT split_part(lane, ' ', 1), max(dead)::bigint, max(last_dead), max(last_failed), true
    FROM (SELECT lane, round(dead * 100 / least(100, 1000 * 8192 * 100.0 / greatest(pg_relation_size('outbox.dead'), 1))) AS dead, last_dead, last_failed FROM part
          UNION ALL SELECT lane, dead, last_dead, last_failed FROM lately) d WHERE lane <> '' GROUP BY 1
), u AS (
    SELECT lane, waiting, delivering, failed_before, oldest_due, estimated FROM outbox.lane_count
), e AS (
    SELECT endpoint AS lane, paused, open_until, failures, max_in_flight, rate_per_second, reason, since FROM outbox.endpoint
)
SELECT split_part(lane, ' ', 1) AS endpoint, coalesce(u.failed_before, 0) AS retrying, coalesce(x.dead, 0) AS dead,
       coalesce(u.waiting, 0) AS waiting, coalesce(u.delivering, 0) AS delivering, u.oldest_due, x.last_dead,
       coalesce(e.paused, false) AS paused, e.open_until, coalesce(e.failures, 0) AS failures, e.max_in_flight,
       e.rate_per_second, e.reason, e.since,
       nullif(split_part(lane, ' ', 2), '') AS tenant,
       CASE WHEN split_part(lane, ' ', 3) <> '' THEN (
           SELECT m.url::text FROM outbox.due d JOIN outbox.message m ON m.id = d.message_id WHERE d.endpoint = lane ORDER BY d.due_at LIMIT 1
       ) END AS url,
       lane,
       coalesce(u.estimated, false) AS estimated, coalesce(x.estimated, false) AS dead_estimated
FROM u
FULL JOIN x USING (lane)
FULL JOIN e USING (lane)
ORDER BY CASE WHEN x.last_failed > now() - interval '1 hour' THEN 0
              WHEN u.waiting IS NULL THEN 3
              WHEN e.paused THEN 2
              WHEN u.failed_before > 0 OR e.failures > 0 OR e.open_until > now() THEN 0
              ELSE 1 END,
         coalesce(u.failed_before, 0) DESC, u.oldest_due, coalesce(e.paused, false) DESC, coalesce(x.dead, 0) DESC, lane;

COMMENT ON COLUMN outbox.endpoint_status.estimated IS 'what is waiting, retrying and delivering is an estimate: more than 100 000 messages are due in all';
COMMENT ON COLUMN outbox.endpoint_status.dead_estimated IS 'dead is an estimate: more than 100 000 messages are dead in all';

-- What waits or is dead, by tenant. dead has no tenants: to count, each row's message is read. So this is exact to 5 000
-- dead messages; beyond that, it is a sample.
CREATE VIEW outbox.tenant_status AS
WITH rows AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM outbox.dead OFFSET 5000) AS many
), x AS (
    SELECT coalesce(m.tenant::text, '') AS tenant, d.many AS estimated, count(*) FILTER (WHERE d.reason <> 'cancelled') AS dead, count(*) FILTER (WHERE d.reason = 'cancelled') AS cancelled,
           min(d.at) FILTER (WHERE d.reason <> 'cancelled') AS oldest_dead, min(d.at) FILTER (WHERE d.reason = 'cancelled') AS oldest_cancelled
    FROM (
        (SELECT message_id, reason, at, false AS many FROM outbox.dead WHERE NOT (SELECT many FROM rows) LIMIT 5001)
        UNION ALL
        (SELECT message_id, reason, at, true FROM outbox.dead TABLESAMPLE SYSTEM (least(100, 50 * 8192 * 100.0 / greatest(pg_relation_size('outbox.dead'), 1)))
         WHERE (SELECT many FROM rows) LIMIT 5000)
    ) d JOIN outbox.message m ON m.id = d.message_id GROUP BY 1, 2
), h AS MATERIALIZED (
    SELECT lane FROM outbox.hold
), l AS (
    SELECT *, split_part(lane, ' ', 2) AS tenant,
           lane IN (SELECT lane FROM h) OR split_part(lane, ' ', 1) IN (SELECT lane FROM h)
               OR rtrim(split_part(lane, ' ', 1) || ' ' || split_part(lane, ' ', 2)) IN (SELECT lane FROM h) AS held
    FROM outbox.lane_count
), u AS (
    SELECT tenant, sum(waiting)::bigint AS waiting, sum(pending)::bigint AS pending, sum(delivering)::bigint AS delivering, sum(retrying)::bigint AS retrying,
           sum(failed_before)::bigint AS failed_before, (sum(waiting - delivering) FILTER (WHERE held))::bigint AS held, min(oldest_due) AS oldest_due,
           min(oldest_pending) AS oldest_pending, min(oldest_retrying) AS oldest_retrying, min(oldest_in_flight) AS oldest_in_flight,
           min(oldest_lease_until) AS oldest_lease_until, bool_or(estimated) AS estimated
    FROM l GROUP BY tenant
), share AS (
    SELECT (100 / least(100, 50 * 8192 * 100.0 / greatest(pg_relation_size('outbox.dead'), 1)))::double precision AS of_all
)
SELECT coalesce(u.tenant, x.tenant) AS tenant, coalesce(u.waiting, 0) AS waiting, coalesce(u.pending, 0) AS pending, coalesce(u.delivering, 0) AS delivering,
       coalesce(u.retrying, 0) AS retrying, coalesce(u.failed_before, 0) AS failed_before, coalesce(u.held, 0) AS held,
       coalesce(CASE WHEN x.estimated THEN round(x.dead * s.of_all) ELSE x.dead END, 0)::bigint AS dead,
       coalesce(CASE WHEN x.estimated THEN round(x.cancelled * s.of_all) ELSE x.cancelled END, 0)::bigint AS cancelled,
       u.oldest_due, u.oldest_pending, u.oldest_retrying, u.oldest_in_flight, u.oldest_lease_until, x.oldest_dead, x.oldest_cancelled,
       coalesce(u.estimated, false) AS estimated, coalesce(x.estimated, false) AS dead_estimated
FROM u FULL JOIN x ON x.tenant = u.tenant CROSS JOIN share s
ORDER BY u.oldest_due, 1;

COMMENT ON VIEW outbox.tenant_status IS 'tenants that have something waiting or dead, first those whose messages wait for longest; estimates beyond 100 000 due or 5 000 dead in all';
COMMENT ON COLUMN outbox.tenant_status.tenant IS 'as in message.tenant; empty for messages that name none';
COMMENT ON COLUMN outbox.tenant_status.waiting IS 'due, in whatever state';
COMMENT ON COLUMN outbox.tenant_status.pending IS 'not tried yet';
COMMENT ON COLUMN outbox.tenant_status.delivering IS 'leased by a worker';
COMMENT ON COLUMN outbox.tenant_status.retrying IS 'tried, and to be tried again';
COMMENT ON COLUMN outbox.tenant_status.failed_before IS 'tried before: retrying, or being tried again now';
COMMENT ON COLUMN outbox.tenant_status.held IS 'of those that wait and are not being delivered: at a lane that is held back now (hold)';
COMMENT ON COLUMN outbox.tenant_status.dead IS 'given up, those that an operator cancelled left out';
COMMENT ON COLUMN outbox.tenant_status.cancelled IS 'given up on an operator''s word';
COMMENT ON COLUMN outbox.tenant_status.oldest_due IS 'since when the oldest is due, or when it will be';
COMMENT ON COLUMN outbox.tenant_status.oldest_pending IS 'the same of those that are pending';
COMMENT ON COLUMN outbox.tenant_status.oldest_retrying IS 'the same of those that are retrying';
COMMENT ON COLUMN outbox.tenant_status.oldest_in_flight IS 'the same of those that are being delivered';
COMMENT ON COLUMN outbox.tenant_status.oldest_lease_until IS 'when the first lease of them ends';
COMMENT ON COLUMN outbox.tenant_status.oldest_dead IS 'since when the oldest dead one is dead; of the sample where there is one';
COMMENT ON COLUMN outbox.tenant_status.oldest_cancelled IS 'the same of the cancelled ones';
COMMENT ON COLUMN outbox.tenant_status.estimated IS 'the counts of what is due are estimates: more than 100 000 messages are due in all';
COMMENT ON COLUMN outbox.tenant_status.dead_estimated IS 'the counts of what is dead are estimates: more than 5 000 messages are dead in all';

-- Every column has a comment. In the order in which the statements of the workers take the tables.
COMMENT ON COLUMN outbox.riverstep_run.instance IS 'one life of a run id: the same id may be submitted again once its run has ended';
COMMENT ON COLUMN outbox.riverstep_run.run_id IS 'the run, as the service calls it';
COMMENT ON COLUMN outbox.riverstep_run.status IS 'active, or how it ended: succeeded, failed or cancelled';
COMMENT ON COLUMN outbox.riverstep_run.input_sha256 IS 'of the first step''s payload: a submit with another one is a mistake';
COMMENT ON COLUMN outbox.riverstep_run.headers IS 'the submitter''s metadata';
COMMENT ON COLUMN outbox.riverstep_run.cancel_requested_at IS 'since when somebody wants it cancelled; NULL when nobody does';
COMMENT ON COLUMN outbox.riverstep_run.error IS 'of a failed or cancelled run';
COMMENT ON COLUMN outbox.riverstep_run.submitted_at IS 'when it was submitted';
COMMENT ON COLUMN outbox.riverstep_run.ended_at IS 'when it ended; NULL while it runs';
COMMENT ON COLUMN outbox.sample.at IS 'when it was measured';
COMMENT ON COLUMN outbox.sample.took_ms IS 'how long that took, in milliseconds';
COMMENT ON COLUMN outbox.sample.pending IS 'messages that were not tried yet';
COMMENT ON COLUMN outbox.sample.delivering IS 'messages under a lease';
COMMENT ON COLUMN outbox.sample.retrying IS 'messages that were tried, and are to be tried again';
COMMENT ON COLUMN outbox.due_count.state IS 'pending, delivering or retrying';
COMMENT ON COLUMN outbox.due_count.waits_for IS 'what the workers lack to send them: signing_key, proxy, database or other; NULL when nothing';
COMMENT ON COLUMN outbox.due_count.messages IS 'how many';
COMMENT ON COLUMN outbox.due_count.estimated IS 'messages is an estimate, and the times are those of a sample';
COMMENT ON COLUMN outbox.due_count.oldest_due IS 'since when the oldest of them is due, or when it will be';
COMMENT ON COLUMN outbox.due_count.oldest_lease_until IS 'when the first lease of them ends';
COMMENT ON COLUMN outbox.dead_count.reason IS 'as in dead.reason';
COMMENT ON COLUMN outbox.dead_count.messages IS 'how many';
COMMENT ON COLUMN outbox.dead_count.estimated IS 'messages is an estimate, and the time is that of a sample';
COMMENT ON COLUMN outbox.dead_count.oldest IS 'since when the oldest of them is dead';
COMMENT ON COLUMN outbox.dead_message.at IS 'since when it is dead';
COMMENT ON COLUMN outbox.dead_message.reason IS 'as in dead.reason';
COMMENT ON COLUMN outbox.dead_message.error IS 'why, in words';
COMMENT ON COLUMN outbox.dead_message.run_id IS 'as in message.run_id';
COMMENT ON COLUMN outbox.dead_message.status IS 'how the run ended';
COMMENT ON COLUMN outbox.dead_message.url IS 'where it was to be delivered';
COMMENT ON COLUMN outbox.dead_message.endpoint IS 'origin of the URL; empty when the URL has none';
COMMENT ON COLUMN outbox.dead_message.message_id IS 'message.id';
COMMENT ON COLUMN outbox.dead_message.attempts IS 'how many were made';
COMMENT ON COLUMN outbox.dead_message.created_at IS 'when it was written';
COMMENT ON COLUMN outbox.dead_message.tenant IS 'whose message it is; NULL for none';
COMMENT ON COLUMN outbox.endpoint_status.endpoint IS 'the origin';
COMMENT ON COLUMN outbox.endpoint_status.retrying IS 'tried before: to be tried again, or being tried again now';
COMMENT ON COLUMN outbox.endpoint_status.waiting IS 'due, in whatever state';
COMMENT ON COLUMN outbox.endpoint_status.delivering IS 'leased by a worker';
COMMENT ON COLUMN outbox.endpoint_status.oldest_due IS 'since when the oldest is due, or when it will be';
COMMENT ON COLUMN outbox.endpoint_status.last_dead IS 'when the last one died';
COMMENT ON COLUMN outbox.endpoint_status.paused IS 'nothing is sent until an operator resumes it';
COMMENT ON COLUMN outbox.endpoint_status.open_until IS 'nothing is sent before this time';
COMMENT ON COLUMN outbox.endpoint_status.failures IS 'failed attempts in a row';
COMMENT ON COLUMN outbox.endpoint_status.max_in_flight IS 'requests at once, of each worker, as an operator set it';
COMMENT ON COLUMN outbox.endpoint_status.rate_per_second IS 'requests begun per second, of all workers together, as an operator set it';
COMMENT ON COLUMN outbox.endpoint_status.reason IS 'why it is remembered, in words';
COMMENT ON COLUMN outbox.endpoint_status.since IS 'since when';
COMMENT ON COLUMN outbox.hold.reason IS 'why, in words';
COMMENT ON COLUMN outbox.overview.state IS 'pending, delivering, retrying, delivered, dead or cancelled';
COMMENT ON COLUMN outbox.overview.messages IS 'how many; of delivered ones, those that retention has not removed';
COMMENT ON COLUMN outbox.overview.oldest_due IS 'of what is pending or retrying: since when the oldest is due, or when it will be';
COMMENT ON COLUMN outbox.overview.oldest_in_flight IS 'of what is being delivered: since when the oldest was due';
COMMENT ON COLUMN outbox.overview.oldest_lease_until IS 'when the first lease of them ends';
COMMENT ON COLUMN outbox.overview.oldest_dead IS 'of what is dead or cancelled: since when the oldest is';
COMMENT ON COLUMN outbox.overview.estimated IS 'messages is an estimate';
COMMENT ON COLUMN outbox.status.id IS 'message.id, which is the webhook-id';
COMMENT ON COLUMN outbox.status.run_id IS 'the run, as the embedding service calls it';
COMMENT ON COLUMN outbox.status.status IS 'how the run ended: succeeded, failed or cancelled';
COMMENT ON COLUMN outbox.status.endpoint IS 'origin of the URL; empty when the URL has none';
COMMENT ON COLUMN outbox.status.url IS 'where it is delivered to';
COMMENT ON COLUMN outbox.status.state IS 'pending, delivering, retrying, delivered, dead or cancelled';
COMMENT ON COLUMN outbox.status.attempts IS 'how many were made, one under way included';
COMMENT ON COLUMN outbox.status.last_class IS 'how the last attempt ended: delivered, or the fault; NULL before the first';
COMMENT ON COLUMN outbox.status.last_status_code IS 'of the last answer; NULL without one';
COMMENT ON COLUMN outbox.status.last_error IS 'what went wrong last; NULL when nothing did';
COMMENT ON COLUMN outbox.status.last_attempt_at IS 'when the last attempt began';
COMMENT ON COLUMN outbox.status.next_attempt_at IS 'when it is tried next, at the earliest; NULL unless it is due';
COMMENT ON COLUMN outbox.status.waits_for IS 'what the worker lacks to send it; NULL when nothing';
COMMENT ON COLUMN outbox.status.locked_by IS 'the worker that holds the lease; see worker.name';
COMMENT ON COLUMN outbox.status.locked_until IS 'end of the lease';
COMMENT ON COLUMN outbox.status.dead_reason IS 'as in dead.reason; NULL unless it is dead or cancelled';
COMMENT ON COLUMN outbox.status.dead_error IS 'why it is dead, in words';
COMMENT ON COLUMN outbox.status.dead_at IS 'since when it is dead';
COMMENT ON COLUMN outbox.status.replay_of IS 'the message this one repeats to another URL';
COMMENT ON COLUMN outbox.status.created_at IS 'when it was written';
COMMENT ON COLUMN outbox.status.tenant IS 'whose message it is; NULL for none';
COMMENT ON COLUMN outbox.status.held_reason IS 'why it is held back, in words';
COMMENT ON COLUMN outbox.status.held_since IS 'since when it is held back; NULL where that is not known';

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 10';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 9';
DROP VIEW outbox.tenant_status;
DROP VIEW outbox.endpoint_status; -- made again as in 00006: a column cannot be removed from a view
DROP VIEW outbox.lane_count;
CREATE VIEW outbox.endpoint_status AS
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
-- due_count and dead_count stay as they are: they show the same. The other comments stay: they are also true of the older tables.

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);
