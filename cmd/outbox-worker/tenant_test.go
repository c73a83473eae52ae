package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func ofTenant(tenant, runID string) outbox.Message {
	return outbox.Message{Outcome: testdb.Outcome(runID, endpointA), URL: endpointA + "/hook", Tenant: tenant}
}

func TestWithTenantCommandsConcernOneTenantOnly(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	mine, others := written(t, db, ofTenant("acme", "r1")).String(), written(t, db, ofTenant("other", "r2")).String()
	env := environment(db)
	if got := invoke(t, env, "list", "--tenant", "acme", "--ids"); got.stdout != mine+"\n" {
		t.Errorf("list prints %q, want the tenant's message only", got.stdout)
	}
	invoke(t, env, "list").wants(t, exitOK, "TENANT")
	invoke(t, env, "show", mine).wants(t, exitOK, "tenant     acme\n")
	invoke(t, env, "cancel", mine, others, "--tenant", "acme").wants(t, exitNotFound, others+" is not there")
	invoke(t, env, "cancel", "--due", "--tenant", "acme").wants(t, exitOK, "1 message is cancelled\n")
	invoke(t, env, "cancel", "--due", "--tenant", "acme").wants(t, exitNotFound, "nothing is due there")
	invoke(t, env, "replay", mine, "--tenant", "other").wants(t, exitNotFound, mine+" is not there")
	execute(t, db, "UPDATE outbox.dead SET reason = 'exhausted'")
	invoke(t, env, "replay", "--dead", "--tenant", "other").wants(t, exitNotFound, "no dead message can be replayed of tenant other")
	invoke(t, env, "replay", "--dead", "--tenant", "acme", "--endpoint", endpointA).wants(t, exitOK, mine+" is due again")
	got := invoke(t, env, "status", "--tenant", "acme")
	got.wants(t, exitOK, "pending     1 ", "TENANT", "acme")
	if strings.Contains(got.stdout, "delivered") || strings.Contains(got.stdout, "other") {
		t.Errorf("the status of acme is\n%s\nwant nothing of other tenants", got.stdout)
	}
	for _, args := range []string{"list --tenant=", "status --tenant no|tenant", "purge --tenant é"} {
		invoke(t, env, strings.Split(strings.ReplaceAll(args, "no|tenant", "no\ttenant"), " ")...).wants(t, exitUsage, "--tenant is ", "want the name of a tenant")
	}
}

func TestStatusCanListTenants(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	for _, tenant := range []string{"acme", "", "zeta"} {
		written(t, db, ofTenant(tenant, "r"))
	}
	invoke(t, environment(db), "pause", endpointA, "--tenant", "acme").wants(t, exitOK, endpointA+" of tenant acme is paused\n")
	got := invoke(t, environment(db), "status", "--by", "tenant", "--endpoints", "2")
	got.wants(t, exitOK, "1 more tenant is not listed")
	for _, line := range []string{
		`(?m)^TENANT  WAITING  RETRYING  DELIVERING  HELD BACK  DEAD  OLDEST DUE$`, `(?m)^acme    1        0         0           1          0     (just now|\ds ago)$`,
		`(?m)^\(none\)  1        0         0           0          0     (just now|\ds ago)$`,
	} {
		if !regexp.MustCompile(line).MatchString(got.stdout) {
			t.Errorf("no line matches %s:\n%s", line, got.stdout)
		}
	}
	invoke(t, environment(db), "status", "--by", "run").wants(t, exitUsage, "want endpoint or tenant")
}

func TestATenantOrAURLCanBePausedAndResumedAlone(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	env := environment(db)
	written(t, db, ofTenant("acme", "r"))
	url := endpointA + "/hook"
	execute(t, db, `INSERT INTO outbox.endpoint (endpoint, reason, failures, openings, open_until) VALUES ($1, 'failing: answered 503', 10, 1, now() + interval '1 h')`,
		lane.OfURL(lane.Of(endpointA, "acme"), url))
	invoke(t, env, "pause", endpointA, "--tenant", "acme").wants(t, exitOK)
	invoke(t, env, "pause", "--url", url, "--tenant", "acme").wants(t, exitOK, url+" of tenant acme is paused")
	invoke(t, env, "pause", "--url", url).wants(t, exitNotFound, "no worker has set "+url+" aside")
	invoke(t, env, "resume", endpointA).wants(t, exitOK, "1 tenant there stays paused by name", endpointA+" is resumed, with 1 URL\n")
	invoke(t, env, "resume", endpointA, "--tenant", "acme").wants(t, exitOK, endpointA+" of tenant acme is resumed\n")
	invoke(t, env, "resume", "--url", url, "--tenant", "acme").wants(t, exitNotFound, "is not held back")
	invoke(t, env, "limit", endpointA, "--tenant", "acme", "--rate", "2").wants(t, exitOK, endpointA+" of tenant acme: at most 2 per second")
	invoke(t, env, "pause", endpointA, "--url", url).wants(t, exitUsage, "takes no argument")
	invoke(t, env, "pause").wants(t, exitUsage, "name one endpoint")
}

func TestPauseAndLimitWarnOfAnEndpointWithoutMessages(t *testing.T) {
	t.Parallel()
	db, _ := oneOfEach(t)
	const warning = "check the spelling"
	invoke(t, environment(db), "pause", endpointA+":4430").wants(t, exitOK, warning)
	invoke(t, environment(db), "limit", endpointA, "--tenant", "acme", "--rate", "1").wants(t, exitOK, warning)
	for _, args := range [][]string{{"pause", endpointA}, {"limit", endpointB, "--rate", "1"}, {"limit", endpointA + ":4430", "--none"}} {
		if got := invoke(t, environment(db), args...); got.status != exitOK || strings.Contains(got.stderr, warning) {
			t.Errorf("%v writes %s, want success without a warning", args, got.stderr)
		}
	}
}

func TestCommandsSayWhyAndUntilWhenAMessageIsHeldBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ columns, values, show, list, status string }{
		"a pause": {", paused", ", true", `held back since (\S+ )?\d\d:\d\d UTC \(1m\d*s? ago\): the endpoint is paused: maintenance`,
			`when resumed +paused 1m\d*s? ago: maintenance`, `paused 1m\d*s? ago: maintenance`},
		"a breaker": {", failures, openings, open_until", ", 10, 1, now() + interval '30 min'", `held back since .* until (\S+ )?\d\d:\d\d UTC \(in 2\dm\d+s\): the circuit breaker of the endpoint is open: maintenance`,
			`in 2\dm\d+s +circuit breaker, resumes in 2\dm\d+s: maintenance`, `circuit breaker, resumes in 2\dm\d+s: maintenance`},
		"a Retry-After": {", open_until", ", now() + interval '30 min'", `the endpoint asked for it \(Retry-After\): maintenance`,
			`in 2\dm\d+s +Retry-After, resumes in 2\dm\d+s: maintenance`, `Retry-After, resumes in 2\dm\d+s: maintenance`},
		"a rate": {", rate_per_second, granted_at", ", 0.001, now()", `the rate limit of the endpoint is used up: maintenance`,
			`in 1[56]m\d*s? +rate, resumes in 1[56]m\d*s?: maintenance`, `at most 0.001 per second: maintenance`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			id := written(t, db, ofTenant("", "r")).String()
			execute(t, db, `INSERT INTO outbox.endpoint (endpoint, reason, since`+c.columns+`) VALUES ($1, 'maintenance', now() - interval '1 min'`+c.values+`)`, endpointA)
			for command, want := range map[string]string{"show " + id: c.show, "list": c.list, "status": c.status} {
				got := invoke(t, environment(db), strings.Fields(command)...)
				if got.status != exitOK || !regexp.MustCompile(want).MatchString(got.stdout) || strings.Contains(got.stdout, "next attempt") {
					t.Errorf("the output of %s does not match %s:\n%s%s", command, want, got.stdout, got.stderr)
				}
			}
			m := decoded[[]operator.MessageStatus](t, invoke(t, environment(db), "list", "--json"))[0]
			if m.HeldBy == nil || m.HeldReason == nil || *m.HeldReason != "maintenance" {
				t.Errorf("the JSON's hold is %+v, want the reason maintenance", m.Hold)
			}
		})
	}
}
