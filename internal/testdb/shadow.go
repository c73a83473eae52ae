package testdb

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Shadows are functions, operators and types in another schema with the names of those in pg_catalog, as an attacker could
// plant them. A call of one of them, or a use of such a type, fails and is counted.
type Shadows struct{ pool *pgxpool.Pool }

// Plant creates them in a schema that exists. The pool must not find them: give it a search_path of its own.
//
// A function whose arguments can be of any type is planted for types that our SQL has, where it is preferred to Postgres's.
func Plant(t testing.TB, pool *pgxpool.Pool, schema string) Shadows {
	t.Helper()
	for _, sql := range []string{plantSetup, plantFunctions, plantOperators, plantTypes} {
		shadowExec(t, pool, schema, sql)
	}
	return Shadows{pool}
}

// PlantDomains adds operators on the domains of a schema of ours, which Postgres prefers to those on their base types.
func (s Shadows) PlantDomains(t testing.TB, schema, ours string) {
	t.Helper()
	shadowExec(t, s.pool, schema, `SELECT pg_catalog.set_config('test.ours', '`+ours+`', false);`+plantDomainOperators)
}

// RemoveDomains removes what PlantDomains has created. Before that, our domains cannot be dropped.
func (s Shadows) RemoveDomains(t testing.TB, schema string) {
	t.Helper()
	shadowExec(t, s.pool, schema, removeDomainOperators)
}

// Calls counts the calls so far; calls that were rolled back are counted too.
func (s Shadows) Calls(t testing.TB) (n int64) {
	t.Helper()
	err := s.pool.QueryRow(t.Context(), "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM planted.calls").Scan(&n)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return n
}

// shadowExec runs SQL on one session that knows the schema to plant in.
func shadowExec(t testing.TB, pool *pgxpool.Pool, schema, sql string) {
	t.Helper()
	err := pool.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
		if _, err := conn.Exec(t.Context(), "SELECT pg_catalog.set_config('test.shadows', $1, false)", schema); err != nil {
			return err
		}
		_, err := conn.Exec(t.Context(), sql) // without arguments: several statements may be in it
		return err
	})
	if err != nil {
		t.Fatalf("testdb: planting: %v", err)
	}
}

// A sequence keeps its count even if the transaction fails.
const plantSetup = `CREATE SCHEMA IF NOT EXISTS planted; CREATE SEQUENCE IF NOT EXISTS planted.calls;
CREATE OR REPLACE FUNCTION planted.called(what text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM nextval('planted.calls');
    RAISE EXCEPTION 'a planted % was called', what;
END $$;`

const plantFunctions = `DO $do$
DECLARE
    schema CONSTANT text := current_setting('test.shadows');
    f record; args text; type text;
BEGIN
    FOR f IN
        SELECT DISTINCT p.proname, pg_get_function_identity_arguments(p.oid) AS args, p.proargtypes::oid[] AS types, p.pronargs AS n,
               CASE WHEN t.typtype = 'p' THEN 'text' ELSE format_type(p.prorettype, NULL) END AS result
        FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a', 'w') AND p.proname ~ '^[a-z_0-9]+$'
          AND NOT EXISTS (SELECT FROM unnest(p.proargtypes::oid[]) a WHERE a IN ('internal'::regtype, 'cstring'::regtype))
          AND p.proname NOT IN ('nextval')
    LOOP
        IF EXISTS (SELECT FROM pg_type t WHERE t.oid = ANY (f.types) AND t.typtype = 'p') THEN
            FOREACH type IN ARRAY ARRAY['text', 'jsonb', 'bytea', 'uuid', 'integer', 'bigint', 'text[]', 'bigint[]', 'name', 'timestamptz', 'boolean'] LOOP
                SELECT string_agg(CASE WHEN t.typtype = 'p' THEN type ELSE format_type(t.oid, NULL) END, ', ' ORDER BY a.ord) INTO args
                FROM unnest(f.types) WITH ORDINALITY a (oid, ord) JOIN pg_type t ON t.oid = a.oid;
                BEGIN
                    EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE plpgsql AS $b$ BEGIN PERFORM planted.called(%L); RETURN NULL; END $b$',
                        schema, f.proname, args, f.result, f.proname || '(' || args || ')');
                EXCEPTION WHEN OTHERS THEN NULL;
                END;
            END LOOP;
        ELSE
            SELECT string_agg(format_type(a.oid, NULL), ', ' ORDER BY a.ord) INTO args FROM unnest(f.types) WITH ORDINALITY a (oid, ord);
            BEGIN
                EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE plpgsql AS $b$ BEGIN PERFORM planted.called(%L); RETURN NULL; END $b$',
                    schema, f.proname, coalesce(args, ''), f.result, f.proname || '(' || coalesce(args, '') || ')');
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END IF;
    END LOOP;
END $do$`

const plantOperators = `DO $do$
DECLARE
    schema CONSTANT text := current_setting('test.shadows');
    o record; left_type text; right_type text;
BEGIN
    FOR o IN
        SELECT oid, oprname, oprleft, oprright, format_type(oprresult, NULL) AS result FROM pg_operator
        WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprright <> 0
    LOOP
        SELECT CASE typtype WHEN 'p' THEN 'text[]' ELSE format_type(oid, NULL) END INTO left_type FROM pg_type WHERE oid = o.oprleft;
        SELECT CASE typtype WHEN 'p' THEN 'text[]' ELSE format_type(oid, NULL) END INTO right_type FROM pg_type WHERE oid = o.oprright;
        BEGIN
            EXECUTE format('CREATE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE plpgsql AS $b$ BEGIN PERFORM planted.called(%L); RETURN NULL; END $b$',
                schema, 'operator_' || o.oid, concat_ws(', ', left_type, right_type), o.result, 'operator ' || o.oprname);
            EXECUTE format('CREATE OPERATOR %I.%s (%s RIGHTARG = %s, FUNCTION = %I.%I)',
                schema, o.oprname, 'LEFTARG = ' || left_type || ',', right_type, schema, 'operator_' || o.oid);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
END $do$`

const plantTypes = `DO $do$
DECLARE
    schema CONSTANT text := current_setting('test.shadows');
    type text;
BEGIN
    FOREACH type IN ARRAY ARRAY['text', 'uuid', 'bytea', 'jsonb', 'json', 'timestamptz', 'name', 'int4', 'int8', 'float8', 'bool', 'oid', 'regclass', 'regnamespace', 'regproc', 'regprocedure', 'regtype'] LOOP
        BEGIN
            EXECUTE format('CREATE DOMAIN %I.%I AS pg_catalog.%I CHECK (planted.called(%L))', schema, type, type, 'type ' || type);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
END $do$`

const plantDomainOperators = `DO $do$
DECLARE
    schema CONSTANT text := current_setting('test.shadows');
    d record; op text; pair text[];
BEGIN
    FOR d IN
        SELECT format('%I.%I', n.nspname, t.typname) AS domain, format_type(t.typbasetype, NULL) AS base
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = current_setting('test.ours') AND t.typtype = 'd'
    LOOP
        FOREACH op IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '-', '+', '||', '->', '->>', '?'] LOOP
            FOREACH pair SLICE 1 IN ARRAY ARRAY[[d.domain, d.domain], [d.domain, d.base], [d.base, d.domain], [d.domain, 'text'], [d.domain, 'integer']] LOOP
                BEGIN
                    EXECUTE format('CREATE FUNCTION %I.on_domain(%s, %s) RETURNS boolean LANGUAGE plpgsql AS $b$ BEGIN PERFORM planted.called(%L); RETURN NULL; END $b$',
                        schema, pair[1], pair[2], 'operator on a domain');
                EXCEPTION WHEN duplicate_function THEN NULL;
                END;
                BEGIN
                    EXECUTE format('CREATE OPERATOR %I.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %I.on_domain)', schema, op, pair[1], pair[2], schema);
                EXCEPTION WHEN OTHERS THEN NULL;
                END;
            END LOOP;
        END LOOP;
    END LOOP;
END $do$`

const removeDomainOperators = `DO $do$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT oid FROM pg_proc WHERE proname = 'on_domain' AND pronamespace = current_setting('test.shadows')::regnamespace LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', f);
    END LOOP;
END $do$`
