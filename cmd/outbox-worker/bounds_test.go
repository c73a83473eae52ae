package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestTheErrorOfAValueOutOfBoundsNamesTheBounds(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for _, c := range []struct{ args, bounds string }{
		{"limit " + endpointA + " --rate 0.000000000001", "0.001 to 1000000"},
		{"limit " + endpointA + " --rate NaN", "0.001 to 1000000"},
		{"limit " + endpointA + " --rate Inf", "0.001 to 1000000"},
		{"limit " + endpointA + " --rate=-Inf", "0.001 to 1000000"},
		{"limit " + endpointA + " --rate 1e300", "0.001 to 1000000"},
		{"limit " + endpointA + " --rate 5e-324", "0.001 to 1000000"},
		{"limit " + endpointA + " --rate=-1", "0.001 to 1000000"},
		{"limit " + endpointA + " --max-in-flight 10001", "1 to 10000"},
		{"limit " + endpointA + " --max-in-flight 2147483648", "1 to 10000"},
		{"limit " + endpointA + " --max-in-flight=-1", "1 to 10000"},
		{"list --older-than 36501d", "at most 36500d"},
		{"list --older-than 2562047h", "at most 36500d"},
		{"list --newer-than 99999999999999999999d", "at most 36500d"},
		{"list --newer-than=-100000000d", "at most 36500d"},
		{"list --newer-than=-1s", "at most 36500d"},
		{"list --limit 9223372036854775807", "1 to 100000"},
		{"list --limit 0", "1 to 100000"},
		{"status --endpoints 9223372036854775807", "1 to 100000"},
		{"status --endpoints=-1", "1 to 100000"},
		{"receive --status 99", "200 to 599"},
		{"receive --delay=-1s", "0 or more"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			invoke(t, environment(db), strings.Fields(c.args)...).wants(t, exitUsage, c.bounds)
		})
	}
	for _, args := range []string{
		"limit " + endpointA + " --rate 0.001 --max-in-flight 10000", "limit " + endpointA + " --rate 1000000 --max-in-flight 1",
		"list --older-than 36500d", "list --limit 100000", "status --endpoints 100000",
	} {
		invoke(t, environment(db), strings.Fields(args)...).wants(t, exitOK)
	}
}

// strange fills a schema with rows as somebody may write them by hand: infinite times, years of five digits or before our era,
// the largest counts of their type, and rates that are not a number, as far as the schema accepts them.
func strange(t *testing.T, db *testdb.DB, times ...string) []outbox.ID {
	t.Helper()
	var ids []outbox.ID
	for _, at := range times {
		m := outbox.Message{Outcome: testdb.Outcome("r", endpointA), URL: endpointA}
		due, dead, leased := written(t, db, m), written(t, db, m), written(t, db, m)
		ids = append(ids, due, dead, leased)
		execute(t, db, `UPDATE outbox.message SET created_at = $1::text::timestamptz WHERE id = ANY ($2)`, at, []outbox.ID{due, dead, leased})
		execute(t, db, `UPDATE outbox.due SET due_at = $1::text::timestamptz, attempt = 2147483647 WHERE message_id = $2`, at, due)
		execute(t, db, `UPDATE outbox.due SET due_at = $1::text::timestamptz, locked_until = $1::text::timestamptz, locked_by = 'w' WHERE message_id = $2`, at, leased)
		execute(t, db, `INSERT INTO outbox.attempt (message_id, attempt, started_at, class, worker, duration_ms)
VALUES ($2, 2147483647, $1::text::timestamptz, 'timeout', 'w', 2147483647)`, at, due)
		execute(t, db, `DELETE FROM outbox.due WHERE message_id = $1`, dead)
		execute(t, db, `INSERT INTO outbox.dead (message_id, endpoint, reason, error, at) VALUES ($2, 'https://a.example', 'refused', 'e', $1::text::timestamptz)`, at, dead)
		execute(t, db, `INSERT INTO outbox.endpoint (endpoint, reason, open_until, since, granted_at, failures, paused)
VALUES ('https://' || md5($1::text), 'r', $1::text::timestamptz, $1::text::timestamptz, $1::text::timestamptz, 1, true),
       ('https://' || md5('x' || $1::text), 'r', $1::text::timestamptz, $1::text::timestamptz, $1::text::timestamptz, 1, false)`, at)
	}
	return ids
}

func TestCommandsWorkOnRowsThatSomebodyWroteByHand(t *testing.T) {
	t.Parallel()
	anything := []string{"infinity", "-infinity", "294276-12-31 23:59:59+00", "10000-01-01 00:00:00+00", "4713-01-01 00:00:00+00 BC", "2500-01-01 00:00:00+00"}
	for name, c := range map[string]struct {
		version string
		times   []string
	}{
		"on the tables of the version before": {"2", anything},
		"on tables with bounds":               {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.NewEmpty(t)
			sql := invoke(t, environment(db), "migrate", "sql", "--line", "outbox", "--to", "2")
			sql.wants(t, exitOK)
			if _, err := db.Pool.Exec(t.Context(), sql.stdout); err != nil {
				t.Fatal(err)
			}
			if err := migrations.UpRiver(t.Context(), db.Pool, migrations.Config{Schema: db.Schema}); err != nil {
				t.Fatal(err)
			}
			ids := strange(t, db, anything...)
			execute(t, db, `INSERT INTO outbox.endpoint (endpoint, reason, rate_per_second, max_in_flight)
VALUES ('https://nan', 'r', 'NaN', 2147483647), ('https://inf', 'r', 'Infinity', 1), ('https://slow', 'r', 1e-300, 1)`)
			if c.version == "" { // the migration repairs the rows of endpoint and dead only
				sql := invoke(t, environment(db), "migrate", "sql", "--line", "outbox", "--from", "2")
				if _, err := db.Pool.Exec(t.Context(), sql.stdout); err != nil {
					t.Fatal(err)
				}
			}
			for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
				env := append(environment(db), "OUTBOX_DATABASE_URL="+withParameter(db.URL, "default_query_exec_mode", mode))
				for _, args := range [][]string{{"status"}, {"status", "--endpoints", "0"}, {"list"}, {"list", "--older-than", "1s"}, {"show", ids[0].String()}, {"show", ids[1].String()}} {
					invoke(t, env, args...).wants(t, exitOK)
					if len(args) == 3 {
						continue
					}
					if got := invoke(t, env, append(args, "--json")...); got.status != exitOK || !json.Valid([]byte(got.stdout)) {
						t.Errorf("%s: %v --json ends with %d, and writes %s %s; want 0 and JSON", mode, args, got.status, got.stdout, got.stderr)
					}
				}
			}
			for _, view := range []string{"status", "overview", "dead_message", "endpoint_status"} { // every row must be readable as text and as JSON
				execute(t, db, "SELECT v::text, to_jsonb(v) FROM outbox."+view+" v")
			}
			invoke(t, environment(db), "status").wants(t, exitOK, "due in 1970 or before")
			invoke(t, environment(db), "status", "--endpoints", "0").wants(t, exitOK, "resumes in the year 9999 or later")
			invoke(t, environment(db), "list").wants(t, exitOK, "in the year 9999 or later", "in the year 2500", "in 1970 or before")
			for _, id := range ids {
				if got := invoke(t, environment(db), "cancel", id.String()); got.status != exitOK && !strings.Contains(got.stderr, "only what is due") {
					t.Errorf("cancel fails with %s, want success, or that only what is due can be cancelled", got.stderr)
				}
				invoke(t, environment(db), "replay", id.String()).wants(t, exitOK, "is due again")
			}
			invoke(t, environment(db), "resume", "https://nan").wants(t, exitNotFound)
		})
	}
}

// withParameter adds a parameter to a connection string of either form.
func withParameter(url, name, value string) string {
	if !strings.Contains(url, "://") {
		return url + " " + name + "=" + value
	}
	if strings.Contains(url, "?") {
		return url + "&" + name + "=" + value
	}
	return url + "?" + name + "=" + value
}
