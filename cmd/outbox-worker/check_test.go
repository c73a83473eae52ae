package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// measuredAs writes a sample, like a worker.
func measuredAs(t *testing.T, db *testdb.DB, columns, values string) {
	t.Helper()
	execute(t, db, `DELETE FROM outbox.sample`)
	execute(t, db, `INSERT INTO outbox.sample (worker, interval_ms, took_ms`+columns+`) VALUES ('one', 3600000, 5`+values+`)`)
}

func lives(t *testing.T, db *testdb.DB) {
	t.Helper()
	execute(t, db, `INSERT INTO outbox.worker (name, host, version, pid, backend_start, started, seen, lease_ms)
VALUES ('one', 'host', 'v1', 1, now(), now(), now() + interval '1 hour', 30000)`)
}

func TestTheExitStatusOfCheckSaysWhetherAllIsWell(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	env := environment(db)
	measuredAs(t, db, "", "")
	invoke(t, env, "check").wants(t, exitCritical, "CRITICAL: no worker seen")
	invoke(t, env, "check", "--workers", "0").wants(t, exitOK, "OK: ")
	lives(t, db)
	invoke(t, env, "check").wants(t, exitOK, "OK: 1 worker\n")
	invoke(t, env, "check", "--workers", "2").wants(t, exitCritical, "CRITICAL: 1 of 2 workers")

	measuredAs(t, db, ", oldest_due", ", now() - interval '2 min'")
	invoke(t, env, "check").wants(t, exitWarning, "WARNING: the oldest message that nothing holds back has been due for 2m\n")
	invoke(t, env, "check", "--oldest-due", "30s,100s").wants(t, exitCritical, "CRITICAL: the oldest message")
	invoke(t, env, "check", "--oldest-due=off").wants(t, exitOK, "OK: 1 worker; the oldest message")

	measuredAs(t, db, ", dead, waits, breakers_open", `, '{"gone": 3, "cancelled": 100}', '{"signing_key": 7}', 2`)
	invoke(t, env, "check").wants(t, exitWarning, "WARNING: 7 messages wait for a signing key\n")
	invoke(t, env, "check", "--dead", "1,3", "--waiting", "100").wants(t, exitCritical, "CRITICAL: 3 messages are dead\n")

	execute(t, db, `UPDATE outbox.sample SET interval_ms = 1000, at = now() - interval '1 min'`)
	invoke(t, env, "check").wants(t, exitCritical, "CRITICAL: the outbox was last measured 1m")
	execute(t, db, `DROP TABLE outbox.due CASCADE`)
	execute(t, db, `DROP FUNCTION outbox.version()`)
	invoke(t, env, "check").wants(t, exitFailed, "could not check: ")
	invoke(t, []string{"OUTBOX_DATABASE_URL=postgres://app@127.0.0.1:1/app"}, "check").wants(t, exitFailed, "could not check: ")
	invoke(t, env, "check", "--dead", "many").wants(t, exitUsage, "--dead is \"many\"; want WARNING,CRITICAL")
}

func TestStatusBeginsWithTheTroubles(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	lives(t, db)
	measuredAs(t, db, ", oldest_due, paused, waits, horizon_since", `, now() - interval '2 min', 1, '{"signing_key": 7}', now() - interval '3 hours'`)
	got := invoke(t, environment(db), "status")
	got.wants(t, exitOK, "1 worker\n- the oldest message that nothing holds back has been due for 2m\n- 7 messages wait for a signing key\n- 1 endpoint is paused\n"+
		"- a transaction has kept vacuum from removing rows for 3h\n\nSTATE")
	invoke(t, environment(db), "status", "--json").wants(t, exitOK, `"oldest_due": "`)
}

// An operator's terminal may have only 80 columns or fewer.
func TestStatusListAndWorkersFitTheTerminal(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	lives(t, db)
	measuredAs(t, db, ", oldest_due, paused", `, now() - interval '2 min', 1`)
	long := "https://" + strings.Repeat("long.", 12) + "example"
	id := written(t, db, outbox.Message{Outcome: testdb.Outcome("run-"+strings.Repeat("4711", 20), long), URL: long + "/hook"})
	execute(t, db, `INSERT INTO outbox.endpoint (endpoint, paused, reason) VALUES ($1, true, 'an operator paused it, because it delayed all other endpoints')`, long)
	for _, columns := range []string{"80", "60", "44"} {
		for _, args := range [][]string{{"status"}, {"list"}, {"workers"}, {"list", "--columns", "id,last"}} {
			got := invoke(t, append(environment(db), "COLUMNS="+columns), args...)
			got.wants(t, exitOK)
			for line := range strings.Lines(got.stdout) {
				if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > len(strings.Repeat("x", atoi(columns))) {
					t.Errorf("%v with %s columns prints a line of %d characters, want fewer: %q", args, columns, n, line)
				}
			}
			if args[0] == "list" && !strings.Contains(got.stdout, id.String()) {
				t.Errorf("%v with %s columns cuts the id:\n%s", args, columns, got.stdout)
			}
		}
	}
	if got := invoke(t, environment(db), "list", "--columns", "state,id"); !strings.HasPrefix(got.stdout, "STATE    ID\n") {
		t.Errorf("got\n%s\nwant the columns STATE and ID", got.stdout)
	}
	invoke(t, environment(db), "list", "--columns", "stat").wants(t, exitUsage, "there is no such column", "state")
	if got := invoke(t, environment(db), "status"); !strings.Contains(got.stdout, long[:50]) {
		t.Errorf("got\n%s\nwant no cut text if the output is not a terminal", got.stdout)
	}
}

func atoi(text string) (n int) {
	for _, digit := range text {
		n = 10*n + int(digit-'0')
	}
	return n
}

func TestStatusWithWatchPrintsAgainAndAgain(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	r := begin(t, environment(db), "status", "--watch=100ms")
	for range 3 {
		r.line("no worker seen")
	}
	if status, _ := r.end(); status != exitOK {
		t.Errorf("exit status %d, want %d", status, exitOK)
	}
	invoke(t, environment(db), "status", "--watch=1ms").wants(t, exitUsage, "--watch is 1ms")
}

func TestADelayOfLessThanASecondIsNoTrouble(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for age, want := range map[time.Duration]int{999 * time.Millisecond: 0, time.Second: 3} {
		since := now.Add(-age)
		x := &operator.Sample{At: now, IntervalMS: 30_000, OldestDue: &since, HorizonSince: &since, RetentionFrom: &since}
		if got := troublesOf([]operator.WorkerStatus{{Seen: now}}, x, now); len(got) != want {
			t.Errorf("after %v the troubles are %+v, want %d", age, got, want)
		}
	}
}
