package worker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// poison are rows that the hook never writes: the JSON of their options or headers has the wrong shape, or their URL is
// invalid.
var poison = []struct{ url, headers, options string }{
	{"", `{}`, `{"timeout_ms": "soon"}`},
	{"", `{}`, `{"timeout_ms": 1e300}`},
	{"", `{}`, `{"timeout_ms": {}}`},
	{"", `{}`, `{"forward": {"a": 1}}`},
	{"", `{}`, `{"forward": [1, 2]}`},
	{"", `{"X-A": 5}`, `{"forward": ["X-A"]}`},
	{"", `{"X-A": {"deep": []}}`, `{"forward": ["X-A"]}`},
	{"http://[::1", `{}`, `{}`},
	{"http://%zz", `{}`, `{}`},
	{"http://", `{}`, `{}`},
	{"ftp://a.test", `{}`, `{}`},
	{"not a url\x7f", `{}`, `{}`},
}

// TestAPoisonRowIsDeadAndHarmsNoOther, not even of the same endpoint and the same claim.
func TestAPoisonRowIsDeadAndHarmsNoOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	to := newReceiver(t, nil)
	var ids, healthy []outbox.ID
	for i, p := range poison {
		id := outbox.NewID()
		url := p.url
		if url == "" {
			url = to.URL
		}
		r.exec(`WITH m AS (
    INSERT INTO outbox.message (id, run_id, status, result, headers, final_step, url, endpoint, options)
    VALUES ($1, $2, 'succeeded', '{}', $3::text::jsonb, 0, $4, $5, $6::text::jsonb) RETURNING id, endpoint)
INSERT INTO outbox.due (message_id, endpoint) SELECT id, endpoint FROM m`, id, fmt.Sprint("poison-", i), p.headers, url, to.URL, p.options)
		ids, healthy = append(ids, id), append(healthy, r.writeTo(to.URL, fmt.Sprint("healthy-", i)))
	}
	// A due row without a message is removed, and must not delay others.
	r.exec(`INSERT INTO outbox.due (message_id, endpoint, due_at) SELECT gen_random_uuid(), $1, '2000-01-01' FROM generate_series(1, 10)`, to.URL)
	r.run(r.config())
	for _, id := range healthy {
		r.awaitState(id, outbox.StateDelivered)
	}
	r.await("all poison rows are dead", func() bool { return r.count(`SELECT count(*) FROM outbox.dead`) == len(poison) })
	r.await("nothing is due", func() bool { return r.count(`SELECT count(*) FROM outbox.due`) == 0 })
	for i, id := range ids {
		var reason, fault string
		var attempts int
		sql := inSchema(`SELECT reason, error, (SELECT count(*) FROM outbox.attempt a WHERE a.message_id = d.message_id)
FROM outbox.dead d WHERE message_id = $1`, r.Schema)
		if err := r.Pool.QueryRow(t.Context(), sql, id).Scan(&reason, &fault, &attempts); err != nil {
			t.Fatal(err)
		}
		if fault == "" || attempts == 0 {
			t.Errorf("%+v is dead with the error %q after %d attempts; want an error and an attempt", poison[i], fault, attempts)
		}
		if poison[i].url == "" && (reason != "refused" || attempts != 1 || !strings.Contains(fault, "cannot be read")) {
			t.Errorf("%+v is dead as %s after %d attempts: %s; want refused after 1, because it cannot be read", poison[i], reason, attempts, fault)
		}
	}
	if n := len(to.requests()); n != len(healthy) {
		t.Errorf("%d requests, want %d", n, len(healthy))
	}
}

// TestARowThatTheDatabaseRefusesStopsNoOther: neither one that a claim cannot update nor one that it cannot read.
func TestARowThatTheDatabaseRefusesStopsNoOther(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, fault string }{
		"a trigger refuses it": {`CREATE FUNCTION outbox.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.attempts_before = 5 THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW;
END $$;
UPDATE outbox.due SET attempt = 5, attempts_before = 5 WHERE message_id = $ID;
CREATE TRIGGER refuse BEFORE UPDATE ON outbox.due FOR EACH ROW EXECUTE FUNCTION outbox.refuse()`,
			"the database refuses it: SQLSTATE P0001"},
		"a constraint refuses it": {`UPDATE outbox.due SET attempt = 77 WHERE message_id = $ID;
ALTER TABLE outbox.due ADD CONSTRAINT not_78 CHECK (attempt <> 78)`,
			"the database refuses it: SQLSTATE 23514, table due, constraint not_78"},
		"it cannot be read": {`ALTER DOMAIN outbox.run_status DROP CONSTRAINT message_status;
ALTER TABLE outbox.message DROP CONSTRAINT IF EXISTS message_result_or_error;
UPDATE outbox.message SET status = 'lost its way' WHERE id = $ID`,
			"the worker cannot read it: column status of its claim"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			box, other := newReceiver(t, nil), newReceiver(t, nil)
			id := r.writeTo(box.URL, "bad")
			var healthy []outbox.ID
			for i := range 5 {
				healthy = append(healthy, r.writeTo(box.URL, fmt.Sprint("same-", i)), r.writeTo(other.URL, fmt.Sprint("other-", i)))
			}
			r.execAll(strings.ReplaceAll(c.sql, "$ID", "'"+id.String()+"'"))
			r.run(r.config())
			for _, id := range healthy {
				r.awaitState(id, outbox.StateDelivered)
			}
			r.await("the bad message is dead", func() bool { return r.count(`SELECT count(*) FROM outbox.dead`) == 1 })
			var reason, fault string
			if err := r.Pool.QueryRow(t.Context(), inSchema(`SELECT reason, error FROM outbox.dead WHERE message_id = $1`, r.Schema), id).Scan(&reason, &fault); err != nil {
				t.Fatal(err)
			}
			if reason != "poison" || fault != c.fault {
				t.Errorf("the message is dead as %s: %s; want poison: %s", reason, fault, c.fault)
			}
			if n := r.count(`SELECT count(*) FROM outbox.attempt WHERE class <> 'delivered'`); n != 0 {
				t.Errorf("%d attempts of the others failed, want none", n)
			}
		})
	}
}

// execAll runs several statements.
func (r *rig) execAll(sql string) {
	r.t.Helper()
	if _, err := r.Pool.Exec(r.t.Context(), inSchema(sql, r.Schema), pgx.QueryExecModeSimpleProtocol); err != nil {
		r.t.Fatal(err)
	}
}
