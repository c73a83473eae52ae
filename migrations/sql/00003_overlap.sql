-- What a schema says about itself, so that versions can overlap: compatible_from(). And bounds for what anybody may write into
-- endpoint and dead by hand: one such row made the statements that take many rows fail, and so stopped all deliveries.
--
-- Locks: ACCESS EXCLUSIVE on the view overview, then on dead and endpoint, for milliseconds. It waits for each at most 2 s;
-- then the migration fails (55P03), and nothing has changed: run it again, as migrations.Up does by itself. endpoint
-- is small. In dead, the rows to repair are found by its index, and 00004 validates the constraints that are added here.

-- +goose Up

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE SCHEMA IF NOT EXISTS outbox; -- exists since 00001; here so that each file can be run by itself

CREATE FUNCTION outbox.compatible_from() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2';

COMMENT ON FUNCTION outbox.compatible_from() IS 'the oldest version of the programs that works on these tables; version() is that of the tables';

-- As in 00001, without unnest(anyarray): a function unnest(text[]) in another schema was preferred to it.
CREATE OR REPLACE VIEW outbox.overview AS
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

ALTER FUNCTION outbox.riverstep_ended() SET search_path = pg_catalog, pg_temp;

-- In the order in which the statements of the workers take them.
LOCK TABLE outbox.dead IN ACCESS EXCLUSIVE MODE;
LOCK TABLE outbox.endpoint IN ACCESS EXCLUSIVE MODE;

-- The values keep their meaning as far as the bounds allow. A rate of NaN was no bound, because it is greater than any number.
-- +goose StatementBegin
DO $$
DECLARE
    earliest CONSTANT timestamptz := '1970-01-01 00:00:00+00';
    latest   CONSTANT timestamptz := '9999-01-01 00:00:00+00';
    repaired bigint;
BEGIN
    UPDATE outbox.dead SET at = CASE WHEN at < earliest THEN earliest ELSE latest END WHERE at < earliest OR at > latest;
    GET DIAGNOSTICS repaired = ROW_COUNT;
    IF repaired > 0 THEN
        RAISE WARNING 'outbox.dead: the time (at) of % rows was before 1970 or after 9998; set to the nearest bound', repaired;
    END IF;

    UPDATE outbox.endpoint SET open_until = CASE WHEN open_until < earliest THEN earliest ELSE latest END
    WHERE open_until < earliest OR open_until > latest;
    GET DIAGNOSTICS repaired = ROW_COUNT;
    IF repaired > 0 THEN
        RAISE WARNING 'outbox.endpoint: open_until of % rows was before 1970 or after 9998; set to the nearest bound', repaired;
    END IF;

    UPDATE outbox.endpoint SET since = CASE WHEN since < earliest THEN earliest ELSE latest END
    WHERE since < earliest OR since > latest;
    GET DIAGNOSTICS repaired = ROW_COUNT;
    IF repaired > 0 THEN
        RAISE WARNING 'outbox.endpoint: since of % rows was before 1970 or after 9998; set to the nearest bound', repaired;
    END IF;

    UPDATE outbox.endpoint SET granted_at = CASE WHEN granted_at < earliest THEN earliest ELSE statement_timestamp() END
    WHERE granted_at < earliest OR granted_at > statement_timestamp() + interval '1 hour';
    GET DIAGNOSTICS repaired = ROW_COUNT;
    IF repaired > 0 THEN
        RAISE WARNING 'outbox.endpoint: granted_at of % rows was before 1970 or in the future; set to 1970 or to now', repaired;
    END IF;

    UPDATE outbox.endpoint SET rate_per_second = greatest(least(rate_per_second, 1000000), 0.001)
    WHERE rate_per_second < 0.001 OR rate_per_second > 1000000;
    GET DIAGNOSTICS repaired = ROW_COUNT;
    IF repaired > 0 THEN
        RAISE WARNING 'outbox.endpoint: rate_per_second of % rows was not within 0.001 and 1000000; set to the nearest bound', repaired;
    END IF;

    UPDATE outbox.endpoint SET max_in_flight = 10000 WHERE max_in_flight > 10000;
    GET DIAGNOSTICS repaired = ROW_COUNT;
    IF repaired > 0 THEN
        RAISE WARNING 'outbox.endpoint: max_in_flight of % rows was over 10000, the most that a worker has; set to that', repaired;
    END IF;

    UPDATE outbox.endpoint SET failures = least(failures, 1000000), openings = least(openings, 1000000)
    WHERE failures > 1000000000 OR openings > 1000000000;
    GET DIAGNOSTICS repaired = ROW_COUNT;
    IF repaired > 0 THEN
        RAISE WARNING 'outbox.endpoint: failures or openings of % rows were over 1000000000; set to 1000000', repaired;
    END IF;
END
$$;
-- +goose StatementEnd

ALTER TABLE outbox.dead
    DROP CONSTRAINT dead_reason,
    ADD CONSTRAINT dead_reason CHECK (reason IN ('invalid', 'refused', 'exhausted', 'gone', 'cancelled', 'poison')) NOT VALID,
    ADD CONSTRAINT dead_at_range
        CHECK (at BETWEEN timestamptz '1970-01-01 00:00:00+00' AND timestamptz '9999-01-01 00:00:00+00') NOT VALID;

ALTER TABLE outbox.endpoint
    DROP CONSTRAINT endpoint_failures,
    DROP CONSTRAINT endpoint_openings,
    DROP CONSTRAINT endpoint_max_in_flight,
    DROP CONSTRAINT endpoint_rate_per_second,
    ADD CONSTRAINT endpoint_failures CHECK (failures BETWEEN 0 AND 1000000000),
    ADD CONSTRAINT endpoint_openings CHECK (openings BETWEEN 0 AND 1000000000),
    ADD CONSTRAINT endpoint_max_in_flight CHECK (max_in_flight BETWEEN 1 AND 10000),
    ADD CONSTRAINT endpoint_rate_per_second CHECK (rate_per_second BETWEEN 0.001 AND 1000000),
    ADD CONSTRAINT endpoint_open_until_range
        CHECK (open_until BETWEEN timestamptz '1970-01-01 00:00:00+00' AND timestamptz '9999-01-01 00:00:00+00'),
    ADD CONSTRAINT endpoint_granted_at_range
        CHECK (granted_at BETWEEN timestamptz '1970-01-01 00:00:00+00' AND timestamptz '9999-01-01 00:00:00+00'),
    ADD CONSTRAINT endpoint_since_range
        CHECK (since BETWEEN timestamptz '1970-01-01 00:00:00+00' AND timestamptz '9999-01-01 00:00:00+00');

COMMENT ON COLUMN outbox.dead.reason IS 'invalid, refused, exhausted, gone, cancelled, or poison: the database refused what the worker had to write for it';

-- 00001 and 00002 ran without a search_path of their own, and may have bound functions of other schemas. A function in public
-- could have been bound in two of their rules, because Postgres prefers it to its own pg_column_size("any"): these are made again. Whatever
-- else is found is named in a warning.
-- +goose StatementBegin
DO $$
DECLARE
    ours  CONSTANT oid := (SELECT pronamespace FROM pg_proc WHERE oid = 'outbox.version()'::regprocedure);
    bound record;
BEGIN
    FOR bound IN
        WITH object AS (
            SELECT 'pg_constraint'::regclass AS class, oid, conname AS name FROM pg_constraint WHERE connamespace = ours
            UNION ALL
            SELECT 'pg_rewrite'::regclass, r.oid, c.relname FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = ours
            UNION ALL
            SELECT 'pg_attrdef'::regclass, a.oid, c.relname FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid WHERE c.relnamespace = ours
            UNION ALL
            SELECT 'pg_trigger'::regclass, oid, tgname FROM pg_trigger WHERE tgrelid = 'outbox.riverstep_run'::regclass AND tgname = 'riverstep_run_ends_once'
        ), stranger AS (
            SELECT 'pg_proc'::regclass AS class, oid, pronamespace AS namespace FROM pg_proc
            UNION ALL
            SELECT 'pg_operator'::regclass, oid, oprnamespace FROM pg_operator
            UNION ALL
            SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type
        )
        SELECT o.name, pg_describe_object(o.class, o.oid, 0) AS what, pg_describe_object(s.class, s.oid, 0) AS uses
        FROM pg_depend d
        JOIN object o ON o.class = d.classid AND o.oid = d.objid
        JOIN stranger s ON s.class = d.refclassid AND s.oid = d.refobjid
        WHERE s.namespace NOT IN (ours, 'pg_catalog'::regnamespace)
    LOOP
        RAISE WARNING '%: uses %, which is not Postgres''s own; it was there when an earlier migration ran', bound.what, bound.uses;
        IF bound.name = 'message_headers' THEN
            ALTER DOMAIN outbox.run_headers DROP CONSTRAINT message_headers;
            ALTER DOMAIN outbox.run_headers ADD CONSTRAINT message_headers
                CHECK (jsonb_typeof(VALUE) = 'object' AND pg_column_size(VALUE) <= 262144) NOT VALID;
        ELSIF bound.name = 'message_options' THEN
            ALTER DOMAIN outbox.delivery_options DROP CONSTRAINT message_options;
            ALTER DOMAIN outbox.delivery_options ADD CONSTRAINT message_options
                CHECK (jsonb_typeof(VALUE) = 'object' AND pg_column_size(VALUE) <= 262144) NOT VALID;
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 3';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

-- While this file runs, names resolve to Postgres's own objects, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

LOCK TABLE outbox.dead IN ACCESS EXCLUSIVE MODE;
LOCK TABLE outbox.endpoint IN ACCESS EXCLUSIVE MODE;
UPDATE outbox.dead SET reason = 'refused' WHERE reason = 'poison';

ALTER TABLE outbox.dead
    DROP CONSTRAINT dead_at_range,
    DROP CONSTRAINT dead_reason,
    ADD CONSTRAINT dead_reason CHECK (reason IN ('invalid', 'refused', 'exhausted', 'gone', 'cancelled'));

ALTER TABLE outbox.endpoint
    DROP CONSTRAINT endpoint_since_range,
    DROP CONSTRAINT endpoint_granted_at_range,
    DROP CONSTRAINT endpoint_open_until_range,
    DROP CONSTRAINT endpoint_rate_per_second,
    DROP CONSTRAINT endpoint_max_in_flight,
    DROP CONSTRAINT endpoint_openings,
    DROP CONSTRAINT endpoint_failures,
    ADD CONSTRAINT endpoint_failures CHECK (failures >= 0),
    ADD CONSTRAINT endpoint_openings CHECK (openings >= 0),
    ADD CONSTRAINT endpoint_max_in_flight CHECK (max_in_flight > 0),
    ADD CONSTRAINT endpoint_rate_per_second CHECK (rate_per_second > 0);

COMMENT ON COLUMN outbox.dead.reason IS NULL;

ALTER FUNCTION outbox.riverstep_ended() RESET search_path;
CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2';
DROP FUNCTION outbox.compatible_from();
-- The view overview stays as it is: it says the same.

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);
