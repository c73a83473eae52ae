package operator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// remembered writes the row of a lane as a worker does.
func remembered(t *testing.T, db *testdb.DB, key, columns, values string) {
	t.Helper()
	fixture.Execute(t, db, `INSERT INTO %s.endpoint (endpoint, reason, since%s) VALUES ('%s', 'because', now() - interval '1 min'%s)`, db.Schema, columns, key, values)
}

func TestADueMessageSaysWhatHoldsItBack(t *testing.T) {
	t.Parallel()
	acme, url := lane.Of(receiver, "acme"), lane.OfURL(receiver, fixture.Message("").URL)
	for name, c := range map[string]struct {
		lane, key, columns, values string // where it waits; a row of endpoint
		waits                      string // what a worker lacked
		want                       string
	}{
		"nothing":                     {lane: receiver, want: "- - - false false"},
		"another endpoint's pause":    {lane: receiver, key: "https://other.example", columns: ", paused", values: ", true", want: "- - - false false"},
		"another tenant's pause":      {lane: receiver, key: acme, columns: ", paused", values: ", true", want: "- - - false false"},
		"a pause":                     {lane: receiver, key: receiver, columns: ", paused", values: ", true", want: "paused endpoint because true false"},
		"the endpoint's pause":        {lane: acme, key: receiver, columns: ", paused", values: ", true", want: "paused endpoint because true false"},
		"the tenant's pause":          {lane: acme, key: acme, columns: ", paused", values: ", true", want: "paused tenant because true false"},
		"the tenant's, of its URL":    {lane: lane.OfURL(acme, fixture.Message("").URL), key: acme, columns: ", paused", values: ", true", want: "paused tenant because true false"},
		"a circuit breaker":           {lane: url, key: url, columns: ", failures, openings, open_until", values: ", 10, 1, now() + interval '1 h'", want: "circuit breaker URL because true true"},
		"a breaker that is half-open": {lane: url, key: url, columns: ", failures, openings, open_until", values: ", 10, 1, now() - interval '1 s'", want: "- - - false false"},
		"a probe": {lane: url, key: url, columns: ", failures, openings, open_until, probing", values: ", 10, 1, now() + interval '1 h', true",
			want: "circuit breaker URL one message is under way to see whether it answers again; because true true"},
		"a Retry-After":        {lane: receiver, key: receiver, columns: ", open_until", values: ", now() + interval '1 h'", want: "Retry-After endpoint because true true"},
		"a rate":               {lane: acme, key: receiver, columns: ", rate_per_second, granted_at", values: ", 0.001, now()", want: "rate endpoint because false true"},
		"a rate with room":     {lane: acme, key: receiver, columns: ", rate_per_second, granted_at", values: ", 0.001, now() - interval '1 day'", want: "- - - false false"},
		"a missing key":        {lane: receiver, waits: "signing key x", want: "worker message signing key x false true"},
		"a pause, and no key":  {lane: receiver, key: receiver, columns: ", paused", values: ", true", waits: "signing key x", want: "paused endpoint because true false"},
		"a hold that ends now": {lane: receiver, key: receiver, columns: ", open_until", values: ", now() + interval '1 min'", want: "- - - false false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			id := fixture.Write(t, db, fixture.Message("run"))
			delivering := fixture.Write(t, db, fixture.Message("in flight"))
			fixture.Execute(t, db, `UPDATE %s.due SET endpoint = '%s', waits_for = nullif('%s', '')`, db.Schema, c.lane, c.waits)
			fixture.Execute(t, db, `UPDATE %s.due SET locked_by = 'w', locked_until = now() + interval '1 hour' WHERE message_id = '%s'`, db.Schema, delivering)
			if name == "a hold that ends now" { // before it is due
				fixture.Execute(t, db, `UPDATE %s.due SET due_at = now() + interval '5 min'`, db.Schema)
			}
			if c.key != "" {
				remembered(t, db, c.key, c.columns, c.values)
			}
			h := fixture.Show(t, db, id).Hold
			text := func(s *string) string {
				if s == nil {
					return "-"
				}
				return *s
			}
			got := fmt.Sprint(text(h.HeldBy), " ", text(h.HeldScope), " ", text(h.HeldReason), " ", h.HeldSince != nil, " ", h.HeldUntil != nil)
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if h := fixture.Show(t, db, delivering).Hold; h != (operator.Hold{}) {
				t.Errorf("what is being delivered is held back: %+v", h)
			}
		})
	}
}

func TestWhoDoesNotAskWhatHoldsAMessageBackDoesNotPayForIt(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	plan := func(columns string) string {
		rows, err := db.Pool.Query(t.Context(), "EXPLAIN SELECT "+columns+" FROM "+db.Schema+".status")
		must(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		return strings.Join(lines, "\n")
	}
	if got := plan("id, state, next_attempt_at, tenant"); strings.Contains(got, "SubPlan") {
		t.Errorf("it is looked for:\n%s", got)
	}
	if got := plan("id, held_by"); strings.Count(got, "SubPlan 1") == 0 || strings.Contains(got, "SubPlan 2") {
		t.Errorf("one column is not one look:\n%s", got)
	}
}

func TestWhatHoldsBackAnEndpointIsListedWithItsTenantsAndURLs(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	fixture.Write(t, db, of("acme"))
	inURL := fixture.Write(t, db, of("acme"))
	acme := lane.Of(receiver, "acme")
	url := lane.OfURL(acme, fixture.Message("").URL)
	fixture.Execute(t, db, `UPDATE %s.due SET endpoint = '%s' WHERE message_id = '%s'`, db.Schema, url, inURL)
	remembered(t, db, url, ", failures, openings, open_until", ", 10, 1, now() + interval '1 h'")
	must(t, fixture.Store(t, db).Pause(t.Context(), receiver, "maintenance"))
	list, err := fixture.Store(t, db).Endpoints(t.Context(), 0)
	must(t, err)
	byLane := map[string]operator.EndpointStatus{}
	for _, e := range list {
		byLane[e.Lane] = e
		if e.Endpoint != receiver || e.HeldBy == nil || *e.HeldBy != operator.HeldByPause || *e.HeldScope != "endpoint" || e.HeldUntil != nil {
			t.Errorf("%+v", e)
		}
	}
	if e := byLane[receiver]; len(list) != 3 || e.Tenant != nil || e.URL != nil {
		t.Errorf("%d rows; the endpoint's is %+v", len(list), e)
	}
	if e := byLane[acme]; e.Tenant == nil || *e.Tenant != "acme" || e.URL != nil || e.Waiting != 1 {
		t.Errorf("the tenant's is %+v", e)
	}
	if e := byLane[url]; e.Tenant == nil || e.URL == nil || *e.URL != fixture.Message("").URL || e.Waiting != 1 {
		t.Errorf("the URL's is %+v", e)
	}
}

func TestADeadMessageWhoseRowNamesALaneIsCountedWithItsEndpoint(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	id := inState(t, db, outbox.StateDead, of("acme"))
	fixture.Execute(t, db, `UPDATE %s.dead SET endpoint = '%s acme' WHERE message_id = '%s'`, db.Schema, receiver, id) // as a worker of version 5 writes it
	list, err := fixture.Store(t, db).Endpoints(t.Context(), 0)
	if err != nil || len(list) != 1 || list[0].Lane != receiver || list[0].Dead != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if got := fixture.One[string](t, db.Pool, "SELECT endpoint || ' of ' || tenant FROM "+db.Schema+".dead_message"); got != receiver+" of acme" {
		t.Errorf("dead_message says %s", got)
	}
}

func TestALimitLeavesTheReasonOfAnOpenBreaker(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	remembered(t, db, receiver, ", failures, openings, open_until", ", 10, 1, now() + interval '1 h'")
	must(t, fixture.Store(t, db).Limit(t.Context(), receiver, operator.Limits{MaxInFlight: 1}, "asked for it"))
	if got := fixture.One[string](t, db.Pool, "SELECT reason FROM "+db.Schema+".endpoint"); got != "because" {
		t.Errorf("the reason is %q", got)
	}
}
