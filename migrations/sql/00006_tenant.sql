-- Tenants: a message may name whose it is. Its row of due then waits in the tenant's own lane at the endpoint.
--
-- A lane is what due.endpoint holds, and the key of outbox.endpoint: 'https://example.com' for messages without a tenant,
-- 'https://example.com acme' for those of the tenant acme, and either with ' #' and a hash behind it for one URL that was
-- set aside because it fails. So the index that is there serves all of them, and a program that knows no tenants takes each
-- lane for an endpoint.
--
-- Locks: ACCESS EXCLUSIVE on message for milliseconds; nothing is read or written of it. It is waited for 2 s at the most;
-- then the migration fails (55P03), and nothing has changed: run it again, as migrations.Up does by itself.

-- +goose Up

-- What is bound while this file runs is Postgres's own, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE SCHEMA IF NOT EXISTS outbox; -- exists since 00001; here so that each file can be run by itself

-- The rule comes after the column: a new column whose domain has a rule would have the whole table written anew.
CREATE DOMAIN outbox.tenant AS text COLLATE "C";
ALTER TABLE outbox.message ADD COLUMN tenant outbox.tenant;
ALTER DOMAIN outbox.tenant ADD CONSTRAINT message_tenant CHECK (VALUE ~ '^[!-~]{1,128}$') NOT VALID;

COMMENT ON COLUMN outbox.message.tenant IS 'whose message it is; NULL for none. The unit of turns, health, pauses and limits is the tenant at an endpoint';
COMMENT ON COLUMN outbox.due.endpoint IS 'the lane it waits in: the endpoint; behind a space its tenant; behind a second one the hash of a URL that fails';
COMMENT ON COLUMN outbox.endpoint.endpoint IS 'a lane, as in due.endpoint; the row of an endpoint alone also bounds its tenants and URLs';

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 6';

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);

-- +goose Down

-- What is bound while this file runs is Postgres's own, whatever the search_path.
SELECT pg_catalog.set_config('epilogue.search_path', pg_catalog.current_setting('search_path'), true);
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('lock_timeout', '2s', true);
SELECT pg_catalog.set_config('statement_timeout', '0', true);

CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 5';
COMMENT ON COLUMN outbox.endpoint.endpoint IS NULL;
COMMENT ON COLUMN outbox.due.endpoint IS NULL;
-- Messages that wait in a tenant's lane go on waiting there: the programs of version 5 take it for an endpoint.
ALTER TABLE outbox.message DROP COLUMN tenant;
DROP DOMAIN outbox.tenant;

-- The transaction goes on with the caller's search_path: a service's own goose records the file in a table of its own.
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('epilogue.search_path', true), true);
