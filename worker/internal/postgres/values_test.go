package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

const (
	bad     = "https://bad.test"
	healthy = "https://healthy.test"
)

// withoutConstraints drops the constraints, as somebody may have done, or as in an older schema.
func (r *rig) withoutConstraints() {
	r.t.Helper()
	r.exec(`ALTER TABLE outbox.endpoint DROP CONSTRAINT endpoint_rate_per_second, DROP CONSTRAINT endpoint_max_in_flight,
    DROP CONSTRAINT endpoint_failures, DROP CONSTRAINT endpoint_open_until_range, DROP CONSTRAINT endpoint_granted_at_range`)
	for _, rule := range []string{"attempts DROP CONSTRAINT due_attempts", "run_status DROP CONSTRAINT message_status",
		"run_headers DROP CONSTRAINT message_headers", "delivery_options DROP CONSTRAINT message_options",
		"callback_url DROP CONSTRAINT message_url", "run_id DROP CONSTRAINT message_run_id"} {
		r.exec(`ALTER DOMAIN outbox.` + rule)
	}
	r.exec(`ALTER TABLE outbox.message DROP CONSTRAINT IF EXISTS message_result_or_error, ALTER url DROP NOT NULL, ALTER run_id DROP NOT NULL`)
}

// badValues are values that somebody may write by hand into a column that a claim or a scan reads: of the endpoint bad, in its
// row of due (d), of endpoint (e) or of message (m). waits says that with this value the message is not claimed.
var badValues = []struct {
	change string
	waits  bool
}{
	{"d: due_at = '-infinity'", false},
	{"d: due_at = '4713-01-01 BC'", false},
	{"d: due_at = '0001-01-01'", false},
	{"d: due_at = '1969-12-31'", false},
	{"d: due_at = 'infinity'", true},
	{"d: due_at = '12345-01-01'", true},
	{"d: due_at = '294276-12-31'", true},
	{"d: attempt = 2147483647", false},
	{"d: attempt = 2147483646", false},
	{"d: attempt = 2147483647, attempts_before = 2147483647", false},
	{"d: attempt = 2147483647, locked_by = 'x', locked_until = now() - interval '1 s'", false},
	{"d: attempt = -2147483648", false},
	{"d: attempts_before = 2147483647", false},
	{"d: attempts_before = -2147483648", false},
	{"d: attempt = 3, locked_by = 'x', locked_until = 'infinity'", false},
	{"d: attempt = 3, locked_by = 'x', locked_until = '-infinity'", false},
	{"d: attempt = 3, locked_by = 'x', locked_until = '294276-12-31'", false},
	{"d: attempt = 3, locked_by = 'x', locked_until = '4713-01-01 BC'", false},
	{"d: attempt = 3, locked_by = 'x', locked_until = now() + interval '3 days'", false},
	{"d: attempt = 3, locked_by = 'x', locked_until = now() + interval '23 hours'", true},
	{"d: attempt = 3, locked_by = repeat('x', 100000), locked_until = now() - interval '1 s'", false},
	{"d: waits_for = repeat('x', 100000)", false},
	{"e: rate_per_second = 1e-13", false},
	{"e: rate_per_second = 1e-300, granted_at = '1970-01-01'", false},
	{"e: rate_per_second = 'NaN'", false},
	{"e: rate_per_second = 'Infinity'", false},
	{"e: rate_per_second = '-Infinity'", false},
	{"e: rate_per_second = 0", false},
	{"e: rate_per_second = -1", false},
	{"e: rate_per_second = 1, granted_at = '-infinity'", false},
	{"e: rate_per_second = 1, granted_at = 'infinity'", false},
	{"e: rate_per_second = 1, granted_at = '4713-01-01 BC'", false},
	{"e: rate_per_second = 1, granted_at = '294276-12-31'", false},
	{"e: rate_per_second = 1e-13, granted_at = '-infinity'", false},
	{"e: rate_per_second = 'NaN', granted_at = 'infinity', failures = 2147483647", false},
	{"e: granted_at = '-infinity', failures = 2147483647", false},
	{"e: open_until = '-infinity'", false},
	{"e: open_until = '-infinity', failures = 2147483647", false},
	{"e: open_until = 'infinity'", true},
	{"e: open_until = '294276-12-31'", true},
	{"e: max_in_flight = 2147483647", false},
	{"e: max_in_flight = 0", false},
	{"e: max_in_flight = -2147483648", false},
	{"e: failures = -2147483648", false},
	{"m: headers = '\"text\"', options = '\"forward\"'", false},
	{"m: headers = '[1]', options = '[\"forward\"]'", false},
	{"m: headers = 'null', options = 'null'", false},
	{"m: options = '{\"forward\": 1e400}'", false},
	{"m: url = repeat('x', 100000)", false},
	{"m: run_id = repeat('x', 100000)", false},
	{"m: result = NULL, error = NULL", false},
}

// spoil writes one of badValues.
func (r *rig) spoil(change string) {
	r.t.Helper()
	table, set, _ := strings.Cut(change, ": ")
	name := map[string]string{"d": "due", "e": "endpoint", "m": "message"}[table]
	r.exec(`UPDATE outbox.`+name+` SET `+set+` WHERE endpoint = $1`, bad)
}

// TestNoValueStopsAClaimOrAScan in any column that they read, in every mode of the protocol.
func TestNoValueStopsAClaimOrAScan(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.withoutConstraints()
			pool := r.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
			for _, v := range badValues {
				r.exec(`TRUNCATE outbox.message, outbox.due, outbox.endpoint, outbox.attempt`)
				ids := []outbox.ID{r.writeTo(bad+"/hook", "run-bad"), r.writeTo(healthy+"/hook", "run-healthy")}
				r.exec(`INSERT INTO outbox.endpoint (endpoint, granted_at, reason) VALUES ($1, now() - interval '1 h', '')`, bad)
				r.spoil(v.change)
				r.mustClaimOnce(pool, v.change, v.waits, ids)
			}
		})
	}
}

// mustClaimOnce checks that both scans find what can be claimed, and that a claim takes each message once, with figures within
// bounds. Nothing is set aside.
func (r *rig) mustClaimOnce(pool *pgxpool.Pool, what string, waits bool, ids []outbox.ID) {
	r.t.Helper()
	want := "https://bad.test https://healthy.test"
	if waits {
		want, ids = "https://healthy.test", ids[1:]
	}
	s := NewScanner(Direct(pool), r.Schema, nil)
	full, err := s.Full(r.t.Context(), "")
	if err != nil || endpoints(full.Candidates) != want {
		r.t.Errorf("%s: a full scan finds %v, %v; want all that can be claimed", what, full, err)
	}
	recent, err := s.Recent(r.t.Context(), time.Minute)
	if err != nil || endpoints(recent.Candidates) != want {
		r.t.Errorf("%s: a recent scan finds %v, %v; want all that can be claimed", what, recent, err)
	}
	var turns []Turn
	for _, c := range full.Candidates {
		turns = append(turns, Turn{Endpoint: c.Endpoint, From: c.Since, Most: 9})
	}
	c := r.claimerOn(pool, "one")
	claimed, err := c.Claim(r.t.Context(), Order{Most: 9, Turns: turns, Recent: 9})
	if err != nil || len(claimed.Aside) > 0 {
		r.t.Errorf("%s: the claim sets %v aside, %v; want nothing set aside", what, claimed.Aside, err)
		return
	}
	var took []outbox.ID
	for _, m := range claimed.Messages {
		took = append(took, m.ID)
		if m.DueFrom.Year() < 1970 || m.DueFrom.After(time.Now().Add(time.Hour)) || m.Attempt < 1 || m.AttemptsBefore < 0 || m.AttemptsBefore >= m.Attempt ||
			m.MaxInFlight < 0 || m.Rate != 0 && !(m.Rate >= 1e-3 && m.Rate <= 1e6) {
			r.t.Errorf("%s: claimed as %+v, want its figures within bounds", what, m)
		}
		if m.Attempt == 2147483647 && strings.Contains(what, "= 2147483647") && m.AttemptsBefore != 0 {
			r.t.Errorf("%s: claimed as %+v, want AttemptsBefore 0, so that this attempt is the last one", what, m)
		}
	}
	slices.SortFunc(took, func(a, b outbox.ID) int { return strings.Compare(a.String(), b.String()) })
	slices.SortFunc(ids, func(a, b outbox.ID) int { return strings.Compare(a.String(), b.String()) })
	if fmt.Sprint(took) != fmt.Sprint(ids) {
		r.t.Errorf("%s: claimed %v, want %v", what, took, ids)
	}
	if again, err := c.Claim(r.t.Context(), Order{Most: 9, Turns: turns, Recent: 9}); err != nil || len(again.Messages) > 0 {
		r.t.Errorf("%s: %d messages are claimed again, %v; want none", what, len(again.Messages), err)
	}
	if n := r.count(`SELECT count(*) FROM outbox.attempt WHERE class <> 'lost' OR started_at NOT BETWEEN '1970-01-01' AND now()`); n > 0 {
		r.t.Errorf("%s: an attempt is not lost, or began at an impossible time", what)
	}
	if strings.Contains(what, "locked_by = 'x'") && strings.Contains(what, "attempt = 3") && !waits && r.count(`SELECT count(*) FROM outbox.attempt WHERE attempt = 3`) != 1 {
		r.t.Errorf("%s: the lost attempt is not recorded", what)
	}
}

// TestWithTooManyAttemptsBeforeTheScheduleCountsFromTheFirstClaim, so that retries end.
func TestWithTooManyAttemptsBeforeTheScheduleCountsFromTheFirstClaim(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo(bad+"/hook", "run")
	r.exec(`UPDATE outbox.due SET attempts_before = 2147483647, attempt = 2`)
	for n := 1; n <= 3; n++ {
		m := r.claimOne("one")
		if got := m.Attempt - m.AttemptsBefore; got != n {
			t.Errorf("claim %d counts as attempt %d, want the same number", n, got)
		}
		r.expireLeases()
	}
}

// TestARowWithoutAMessageIsRemoved by the claim that finds it, unless another worker has a lease for it.
func TestARowWithoutAMessageIsRemoved(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo(bad+"/hook", "run")
	r.exec(`INSERT INTO outbox.due (message_id, endpoint) SELECT gen_random_uuid(), $1 FROM generate_series(1, 3)`, bad)
	r.exec(`INSERT INTO outbox.due (message_id, endpoint, attempt, locked_by, locked_until) VALUES (gen_random_uuid(), $1, 1, 'two', now() + interval '1 h')`, bad)
	claimed, err := r.claimer("one").Claim(t.Context(), Order{Most: 9, Turns: r.turns(9)})
	if err != nil || len(claimed.Messages) != 1 || claimed.Messages[0].ID != id {
		t.Fatalf("claimed %+v, %v; want the one message", claimed.Messages, err)
	}
	if len(claimed.Aside) != 1 || claimed.Aside[0].What != AsideRemoved || len(claimed.Aside[0].IDs) != 3 {
		t.Errorf("the claim set aside %+v, want three rows removed", claimed.Aside)
	}
	if n := r.count(`SELECT count(*) FROM outbox.due`); n != 2 {
		t.Errorf("%d due rows are left, want that of the message and the one that another worker has a lease for", n)
	}
}
