package main

import (
	"context"
	"regexp"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// A database may have settings for new sessions. With each of them, and in every protocol mode, the commands work and print
// the same.
func TestSettingsOfTheDatabaseChangeNoCommand(t *testing.T) {
	t.Parallel()
	db := testdb.NewAt(t, testdb.OwnServer(t).URL())
	id := written(t, db, outbox.Message{
		Outcome: outbox.RunOutcome{RunID: "é → 🎉", Status: outbox.Succeeded, Result: []byte("\x00\\ü"), Headers: map[string]string{"é": "→"}},
		URL:     endpointA + "/hook", Options: outbox.Options{Forward: []string{"é"}},
	}).String()
	execute(t, db, `INSERT INTO outbox.endpoint (endpoint, reason, rate_per_second) VALUES ('https://a.example', 'é → 🎉', 0.001)`)
	execute(t, db, `INSERT INTO outbox.attempt (message_id, attempt, started_at, class, worker) VALUES ($1, 1, now(), 'timeout', 'é')`, id)
	looks := [][]string{{"status", "--json"}, {"list", "--json", "--older-than", "0s"}, {"show", id, "--json"}, {"show", id, "--body"}, {"migrate", "status", "--json"}}
	atTime := regexp.MustCompile(`"at": "[^"]*"`)
	offset := regexp.MustCompile(`(Z|[+-]\d\d:\d\d)"`)
	look := func(env []string, args []string) string {
		got := invoke(t, env, args...)
		got.wants(t, exitOK)
		return offset.ReplaceAllString(atTime.ReplaceAllString(got.stdout, ""), `"`)
	}
	var want []string
	for _, args := range looks {
		want = append(want, look(environment(db), args))
	}
	for _, sql := range []string{
		"search_path = ''", "client_encoding = 'LATIN1'", "bytea_output = 'escape'", "DateStyle = 'German, DMY'", "IntervalStyle = 'sql_standard'",
		"extra_float_digits = -15", "standard_conforming_strings = off", "array_nulls = off", "default_transaction_isolation = 'serializable'",
		"plan_cache_mode = 'force_custom_plan'", "statement_timeout = '100ms'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'",
	} {
		execute(t, db, "ALTER DATABASE "+db.Pool.Config().ConnConfig.Database+" SET "+sql)
	}
	db.Pool.Reset()
	t.Cleanup(func() { // otherwise dropping the test's schema would take longer than its timeout
		if _, err := db.Pool.Exec(context.Background(), "ALTER DATABASE "+db.Pool.Config().ConnConfig.Database+" RESET ALL"); err != nil {
			t.Error(err)
		}
	})
	envs := map[string][]string{}
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		envs[mode] = append(environment(db), "OUTBOX_DATABASE_URL="+withParameter(db.URL, "default_query_exec_mode", mode))
	}
	envs["transactions"] = append(environment(db), "OUTBOX_POOLER=transaction")
	for name, env := range envs {
		for i, args := range looks {
			if got := look(env, args); got != want[i] {
				t.Errorf("%s: %v prints\n%s\nwant\n%s", name, args, got, want[i])
			}
		}
		for _, args := range [][]string{
			{"cancel", id}, {"replay", id}, {"pause", endpointB}, {"resume", endpointB}, {"limit", endpointB, "--rate", "0.1"}, {"limit", endpointB, "--none"},
		} {
			invoke(t, env, args...).wants(t, exitOK)
		}
		want[0], want[1], want[2] = look(env, looks[0]), look(env, looks[1]), look(env, looks[2]) // the operations have changed what the commands print
		invoke(t, env, "migrate", "up").wants(t, exitOK)
	}
	invoke(t, envs["simple_protocol"], "migrate", "down", "--yes").wants(t, exitOK)
	invoke(t, envs["exec"], "migrate", "up").wants(t, exitOK)
}

func TestCommandsWorkThroughAPoolerInTransactionMode(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	url := testdb.PgBouncer(t, db)
	for _, pooler := range []string{"auto", "transaction"} {
		env := append(environment(db), "OUTBOX_DATABASE_URL="+withParameter(url, "default_query_exec_mode", "exec"), "OUTBOX_POOLER="+pooler)
		invoke(t, env, "migrate", "up").wants(t, exitOK)
		id := written(t, db, outbox.Message{Outcome: testdb.Outcome("r", endpointA), URL: endpointA}).String()
		for _, args := range [][]string{
			{"status"}, {"list"}, {"show", id}, {"cancel", id}, {"replay", id}, {"pause", endpointA}, {"resume", endpointA},
			{"limit", endpointA, "--rate", "1"}, {"migrate", "status"}, {"migrate", "down", "--yes"},
		} {
			invoke(t, env, args...).wants(t, exitOK)
		}
	}
}
