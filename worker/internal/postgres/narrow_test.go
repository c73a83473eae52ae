package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// raiseOn creates a trigger that refuses each change of a row for which a condition holds.
func (r *rig) raiseOn(table, what, condition, code string) {
	r.t.Helper()
	name := fmt.Sprintf("refuse_%s_%s", table, strings.ToLower(strings.ReplaceAll(what, " ", "_")))
	result := "NEW"
	if what == "DELETE" {
		result = "OLD"
	}
	r.exec(`CREATE FUNCTION outbox.` + name + `() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF ` + condition + ` THEN RAISE EXCEPTION 'secret contents' USING ERRCODE = '` + code + `'; END IF;
    RETURN ` + result + `;
END $$`)
	r.exec(`CREATE TRIGGER ` + name + ` BEFORE ` + what + ` ON outbox.` + table + ` FOR EACH ROW EXECUTE FUNCTION outbox.` + name + `()`)
}

// claimRefusals are ways in which the database refuses that a claim changes one row.
var claimRefusals = map[string]struct {
	refuse   func(r *rig, id outbox.ID)
	fault    string
	endpoint bool // the endpoint's row is refused, not the message's
}{
	"a trigger on due": {func(r *rig, id outbox.ID) {
		r.raiseOn("due", "UPDATE", "NEW.message_id = '"+id.String()+"'", "P0001")
	}, "SQLSTATE P0001", false},
	"a trigger on due with a code of its own": {func(r *rig, id outbox.ID) {
		r.raiseOn("due", "UPDATE", "NEW.message_id = '"+id.String()+"'", "45ABC")
	}, "SQLSTATE 45ABC", false},
	"a constraint of due": {func(r *rig, id outbox.ID) {
		r.exec(`ALTER TABLE outbox.due ADD CONSTRAINT not_this CHECK (message_id <> '` + id.String() + `' OR attempt = 0)`)
	}, "SQLSTATE 23514, table due, constraint not_this", false},
	"a domain of due": {func(r *rig, id outbox.ID) {
		r.exec(`UPDATE outbox.due SET attempt = 77 WHERE message_id = $1`, id)
		r.exec(`ALTER DOMAIN outbox.attempts ADD CONSTRAINT not_78 CHECK (VALUE <> 78)`)
	}, "SQLSTATE 23514, constraint not_78, type attempts", false},
	"a constraint of attempt": {func(r *rig, id outbox.ID) {
		r.exec(`UPDATE outbox.due SET attempt = 77, locked_by = 'x', locked_until = now() - interval '1 s' WHERE message_id = $1`, id)
		r.exec(`ALTER TABLE outbox.attempt ADD CONSTRAINT not_77 CHECK (attempt <> 77)`)
	}, "SQLSTATE 23514, table attempt, constraint not_77", false},
	"a trigger on attempt that reads a table that is gone": {func(r *rig, id outbox.ID) {
		r.exec(`UPDATE outbox.due SET attempt = 77, locked_by = 'x', locked_until = now() - interval '1 s' WHERE message_id = $1`, id)
		r.raiseOn("attempt", "INSERT", "(SELECT count(*) FROM no_such_table) > 0", "P0001")
	}, "SQLSTATE 42P01", false},
	"a deferred trigger on due": {func(r *rig, id outbox.ID) {
		r.raiseOn("due", "UPDATE", "NEW.message_id = '"+id.String()+"'", "P0001")
		r.exec(`DROP TRIGGER refuse_due_update ON outbox.due`)
		r.exec(`CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON outbox.due DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION outbox.refuse_due_update()`)
	}, "SQLSTATE P0001", false},
	"a trigger on endpoint": {func(r *rig, _ outbox.ID) {
		r.exec(`UPDATE outbox.endpoint SET rate_per_second = 1000`)
		r.raiseOn("endpoint", "UPDATE", "NEW.granted_at <> OLD.granted_at", "P0001")
	}, "SQLSTATE P0001", true},
	"a constraint of endpoint": {func(r *rig, _ outbox.ID) {
		r.exec(`UPDATE outbox.endpoint SET failures = 1000`)
		r.exec(`ALTER TABLE outbox.endpoint ADD CONSTRAINT no_probes CHECK (NOT probing)`)
	}, "SQLSTATE 23514, table endpoint, constraint no_probes", true},
}

// TestARowThatTheDatabaseRefusesIsSetAsideAlone, within a few claims, beside other messages of its endpoint and 40 others.
func TestARowThatTheDatabaseRefusesIsSetAsideAlone(t *testing.T) {
	t.Parallel()
	for name, c := range claimRefusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for i := range 40 {
				r.due(fmt.Sprintf("https://h%02d.test", i), 2, 0)
			}
			r.due(bad, 20, 10)
			r.exec(`INSERT INTO outbox.endpoint (endpoint, granted_at, reason) VALUES ($1, now() - interval '1 h', '')`, bad)
			id := one[outbox.ID](r, `SELECT message_id FROM outbox.due WHERE endpoint = $1 ORDER BY due_at OFFSET 7 LIMIT 1`, bad)
			c.refuse(r, id)
			claimed, aside := r.claimUntilNothing()
			want := 99
			if c.endpoint {
				want = 80
			}
			if claimed != want {
				t.Errorf("%d other messages are claimed, want %d", claimed, want)
			}
			fault := "the database refuses it: " + c.fault
			if len(aside) != 1 || aside[0].Reason != fault {
				t.Errorf("the claim set aside %+v, want one, for: %s", aside, fault)
			}
			if c.endpoint {
				if e := r.endpoint(bad); !e.Paused || e.Reason == nil || *e.Reason != "poison: "+fault {
					t.Errorf("the endpoint's row is %+v, want it paused as poison", e)
				}
				return
			}
			r.mustBePoison(id, fault)
			if e := r.endpoint(bad); e.Paused {
				t.Error("the endpoint is paused, want only the message set aside")
			}
		})
	}
}

// claimUntilNothing claims as one worker, at most ten times, and returns how many messages it took and what it set aside.
func (r *rig) claimUntilNothing() (n int, aside []Aside) {
	r.t.Helper()
	c := r.claimer("one")
	for range 10 {
		claimed, err := c.Claim(r.t.Context(), Order{Most: 1000, Turns: r.turns(256), Recent: 9})
		if err != nil {
			r.t.Log(err)
		}
		n, aside = n+len(claimed.Messages), append(aside, claimed.Aside...)
		if err == nil && len(claimed.Messages) == 0 {
			break
		}
	}
	return n, aside
}

// TestAnEndpointWhoseRowWasRepairedMeanwhileIsNotPaused: claims leave it out for a while, and then take its messages.
func TestAnEndpointWhoseRowWasRepairedMeanwhileIsNotPaused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(bad, 2, 0)
	r.due("https://good.test", 2, 0)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, rate_per_second, granted_at, reason) VALUES ($1, 1000, now() - interval '1 h', '')`, bad)
	r.exec(`CREATE SEQUENCE outbox.tries`) // a rollback does not undo its count
	r.raiseOn("endpoint", "UPDATE", "NEW.granted_at <> OLD.granted_at AND nextval('outbox.tries') <= 4", "P0001")
	c := r.claimer("one")
	claimed, err := c.Claim(t.Context(), Order{Most: 10, Turns: r.turns(8)})
	if err != nil || len(claimed.Messages) != 2 {
		t.Fatalf("%d other messages are claimed, want 2; %v", len(claimed.Messages), err)
	}
	if n := one[int](r, `SELECT last_value FROM outbox.tries`); n != 5 {
		t.Fatalf("the endpoint was tried %d times, want four refusals and one more", n)
	}
	if len(claimed.Aside) != 1 || claimed.Aside[0].What != AsideLeftOut || !strings.Contains(claimed.Aside[0].Reason, "accepted") {
		t.Errorf("the claim set aside %+v, want the endpoint left out as accepted again", claimed.Aside)
	}
	if e := r.endpoint(bad); e.Paused {
		t.Errorf("the endpoint's row is %+v, want it not paused", e)
	}
	c.endpointsLeftOut.of[bad].until = time.Now()
	if claimed, err = c.Claim(t.Context(), Order{Most: 10, Turns: r.turns(8)}); err != nil || len(claimed.Messages) != 2 {
		t.Errorf("%d messages of the endpoint are claimed afterwards, want 2; %v", len(claimed.Messages), err)
	}
}

// TestAnEndpointWhoseRowSomebodyHoldsIsTriedWithoutAWait: what is narrowed down has seconds, and a lock is no refusal.
func TestAnEndpointWhoseRowSomebodyHoldsIsTriedWithoutAWait(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, rate_per_second, reason) VALUES ($1, 1000, '')`, bad)
	r.raiseOn("endpoint", "UPDATE", "true", "P0001")
	c := r.claimer("one")
	try := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), ClaimTimeout)
		defer cancel()
		tx, err := c.db.begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		return c.changeAsClaim(ctx, tx, bad)
	}
	if err := try(); !refuses(err) {
		t.Fatalf("it is refused with %v", err)
	}
	holder, err := r.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(t.Context()) }()
	if _, err := holder.Exec(t.Context(), sqlschema.In(`SELECT FROM outbox.endpoint FOR UPDATE`, r.Schema)); err != nil {
		t.Fatal(err)
	}
	if err := try(); err != nil {
		t.Errorf("while somebody holds it: %v", err)
	}
}

// TestARecentMessageThatIsRefusedIsSetAside by the next claim, in which its endpoint is a candidate.
func TestARecentMessageThatIsRefusedIsSetAside(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.writeTo(bad+"/hook", "run-bad")
	r.writeTo(healthy+"/hook", "run-1")
	r.raiseOn("due", "UPDATE", "NEW.message_id = '"+id.String()+"'", "P0001")
	c := r.claimer("one")
	c.since = time.Now().Add(-time.Minute)
	var turns []Turn
	for range 3 {
		claimed, err := c.Claim(t.Context(), Order{Most: 9, Turns: turns, Recent: 9})
		if err != nil {
			t.Fatal(err)
		}
		turns = nil
		for _, l := range claimed.Left {
			turns = append(turns, Turn{Endpoint: l.Endpoint, From: l.Since, Most: 9})
		}
	}
	r.mustBePoison(id, "the database refuses it: SQLSTATE P0001")
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE locked_by = 'one'`); n != 1 {
		t.Errorf("%d other messages are claimed, want 1", n)
	}
}

// TestARowThatCannotBeSetAsideIsLeftOut by this process for a while, and the other messages are claimed.
func TestARowThatCannotBeSetAsideIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(r *rig, id outbox.ID){
		"no DELETE": func(r *rig, id outbox.ID) { r.raiseOn("due", "DELETE", "OLD.message_id = '"+id.String()+"'", "P0001") },
		"no INSERT into dead": func(r *rig, _ outbox.ID) {
			r.exec(`ALTER TABLE outbox.dead ADD CONSTRAINT no_poison CHECK (reason <> 'poison')`)
		},
		"the endpoint cannot be paused": func(r *rig, _ outbox.ID) {
			r.exec(`DROP TRIGGER refuse_due_update ON outbox.due`)
			r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, reason) VALUES ($1, 100, '')`, bad)
			r.raiseOn("endpoint", "UPDATE", "true", "P0001")
		},
		"a row without a message cannot be removed": func(r *rig, id outbox.ID) {
			r.exec(`DROP TRIGGER refuse_due_update ON outbox.due`)
			r.exec(`DELETE FROM outbox.message WHERE id = $1`, id)
			r.raiseOn("due", "DELETE", "OLD.message_id = '"+id.String()+"'", "P0001")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			id := r.writeTo(bad+"/hook", "run-bad")
			r.raiseOn("due", "UPDATE", "NEW.message_id = '"+id.String()+"'", "P0001")
			refuse(r, id)
			r.due(healthy, 5, 0)
			n, aside := r.claimUntilNothing()
			if n != 5 {
				t.Errorf("%d other messages are claimed, want 5", n)
			}
			if len(aside) != 1 || aside[0].What != AsideLeftOut || !strings.Contains(aside[0].Reason, "SQLSTATE") || strings.Contains(aside[0].Reason, "secret") {
				t.Errorf("the claims set aside %+v, want one left out, with its SQLSTATE and without its contents", aside)
			}
			if n := r.count(`SELECT count(*) FROM outbox.due WHERE message_id = $1`, id); n != 1 {
				t.Error("the refused row is gone from the table due, want it left")
			}
		})
	}
}

// TestWhileTheDatabaseRefusesEverythingNoMessageDies: a trigger refuses every change for a while, as during maintenance. All
// messages are claimed afterwards, once the first one is.
func TestWhileTheDatabaseRefusesEverythingNoMessageDies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 10 {
		r.due(fmt.Sprintf("https://h%d.test", i), 3, 0)
	}
	r.raiseOn("due", "UPDATE", "true", "P0001")
	c := r.claimer("one")
	for range 5 {
		turns := r.turns(256)
		claimed, err := c.Claim(t.Context(), Order{Most: 1000, Turns: turns})
		if len(claimed.Messages) > 0 {
			t.Errorf("%d messages are claimed, %v; want none", len(claimed.Messages), err)
		}
	}
	if n := r.count(`SELECT count(*) FROM outbox.dead`) + r.count(`SELECT count(*) FROM outbox.endpoint`); n > 0 {
		t.Fatalf("%d messages are dead or endpoints paused, want none", n)
	}
	r.exec(`DROP TRIGGER refuse_due_update ON outbox.due`)
	r.due("https://new.test", 1, 0)
	n := 0
	for range 3 {
		claimed, err := c.Claim(t.Context(), Order{Most: 1000, Turns: r.turns(256)})
		if err != nil {
			t.Error(err)
		}
		n += len(claimed.Messages)
	}
	if n != 31 {
		t.Errorf("%d messages are claimed afterwards, want 31", n)
	}
}

// TestARefusalIsNarrowedDownInBoundedSteps: each claim goes on where the last one ended.
func TestARefusalIsNarrowedDownInBoundedSteps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due(bad, 200, 10)
	r.exec(`UPDATE outbox.due SET attempt = 77`)
	r.exec(`ALTER DOMAIN outbox.attempts ADD CONSTRAINT not_78 CHECK (VALUE <> 78)`)
	c := r.claimer("one")
	for claims, dead := 0, 0; dead < 200; claims++ {
		if claims == 50 {
			t.Fatalf("after %d claims %d of 200 bad messages are dead, want all", claims, dead)
		}
		r.due(healthy, 5, 0)
		claimed, err := c.Claim(t.Context(), Order{Most: 1000, Turns: r.turns(256)})
		if err != nil || len(claimed.Messages) != 5 {
			t.Fatalf("%d other messages are claimed, want 5; %v", len(claimed.Messages), err)
		}
		if len(claimed.Aside) > narrowStatements {
			t.Errorf("a claim set %d rows aside, want narrowStatements at most", len(claimed.Aside))
		}
		dead = r.count(`SELECT count(*) FROM outbox.dead WHERE reason = 'poison'`)
	}
}

func TestTheListOfRowsLeftOutIsBoundedAndEntriesExpire(t *testing.T) {
	t.Parallel()
	var l leftOut[int]
	now := time.Now()
	for i := range 3 * leftOutMax {
		l.add(i, now.Add(time.Duration(i)*time.Millisecond), false)
	}
	if n := len(l.of); n != leftOutMax {
		t.Errorf("%d rows are in the list, want %d", n, leftOutMax)
	}
	var one leftOut[int]
	for _, want := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
		if got := one.add(1, now, false).Sub(now); got != want*time.Second {
			t.Errorf("the row is left out for %v, want %v s", got, want)
		}
	}
	if len(one.now(now.Add(299*time.Second))) != 1 || len(one.now(now.Add(300*time.Second))) != 0 || one.since(1) != now {
		t.Error("the row is not left out until exactly its time is over")
	}
	if one.now(now.Add(time.Hour)); !one.since(1).IsZero() {
		t.Error("the row is still in the list an hour later")
	}
}

func TestWhoseFaultAnErrorIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code, where string
		want        bool
	}{
		{"22003", "", true}, {"22008", "", true}, {"22021", "", true}, {"23505", "", true}, {"23514", "", true}, {"44000", "", true}, {"P0001", "", true},
		{"XX001", "", true}, {"42P01", "PL/pgSQL function f() line 1", true}, {"42501", "PL/pgSQL function f() line 1", true}, {"U0001", "in a function", true},
		{"42P01", "", false}, {"42501", "", false}, {"25006", "", false}, {"53100", "", false}, {"57014", "in a function", false}, {"57P01", "", false},
		{"40P01", "in a function", false}, {"40001", "", false}, {"55P03", "in a function", false}, {"08006", "", false}, {"58030", "", false}, {"28000", "", false}, {"", "", false},
	} {
		if got := refuses(fmt.Errorf("claim: %w", &pgconn.PgError{Code: c.code, Where: c.where})); got != c.want {
			t.Errorf("%s %s: refuses returns %v, want the opposite", c.code, c.where, got)
		}
	}
	if refuses(context.DeadlineExceeded) || refuses(nil) {
		t.Error("an error that is not the database's counts as a refusal")
	}
}
