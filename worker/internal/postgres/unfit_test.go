package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// writeExpiring commits a message with ExpireAfter, as if it had been written passed ago.
func (r *rig) writeExpiring(after, passed time.Duration) outbox.ID {
	r.t.Helper()
	id := r.write(outbox.Message{Outcome: testdb.Outcome("run", bad), URL: bad + "/hook", Options: outbox.Options{ExpireAfter: after}})
	r.exec(`UPDATE outbox.message SET created_at = created_at - $2::interval WHERE id = $1`, id, passed)
	return id
}

func (r *rig) claimAll() Claimed {
	r.t.Helper()
	claimed, err := r.claimer("one").Claim(r.t.Context(), Order{Most: 99, Turns: r.turns(99)})
	if err != nil {
		r.t.Fatal(err)
	}
	return claimed
}

func TestAnExpiredMessageIsDeadAndNotSent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	over, alsoOver := r.writeExpiring(time.Hour, 61*time.Minute), r.writeExpiring(time.Second, time.Minute)
	fresh, plain := r.writeExpiring(time.Hour, 59*time.Minute), r.writeTo(bad+"/hook", "plain")
	claimed := r.claimAll()
	if len(claimed.Messages) != 2 || claimed.Messages[0].ID != fresh && claimed.Messages[1].ID != fresh || claimed.Messages[0].ID != plain && claimed.Messages[1].ID != plain {
		t.Errorf("claimed %+v, want the two that have not expired", claimed.Messages)
	}
	if len(claimed.Aside) != 1 || claimed.Aside[0].What != AsideExpired || len(claimed.Aside[0].IDs) != 2 {
		t.Errorf("set aside are %+v, want the two expired ones", claimed.Aside)
	}
	if len(claimed.Left) != 1 || claimed.Left[0].Endpoint != bad {
		t.Errorf("left behind are %+v, want the endpoint, because there may be more", claimed.Left)
	}
	for _, id := range []outbox.ID{over, alsoOver} {
		d, err := r.store.Show(t.Context(), id)
		if err != nil || d.State != outbox.StateDead || d.DeadReason == nil || *d.DeadReason != "expired" || len(d.AttemptList) != 0 {
			t.Errorf("the message is %+v, %v; want it dead as expired, without an attempt", d.MessageStatus, err)
		}
	}
}

func TestOnOlderTablesTheReasonOfAnExpiredMessageIsExhausted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`ALTER TABLE outbox.dead DROP CONSTRAINT dead_reason,
    ADD CONSTRAINT dead_reason CHECK (reason IN ('invalid', 'refused', 'exhausted', 'gone', 'cancelled', 'poison'))`)
	r.exec(`CREATE OR REPLACE FUNCTION outbox.version() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 6'`)
	r.writeExpiring(time.Second, time.Minute)
	if claimed := r.claimAll(); len(claimed.Messages) != 0 {
		t.Errorf("claimed %+v, want nothing", claimed.Messages)
	}
	if got := one[string](r, `SELECT reason FROM outbox.dead`); got != "exhausted" {
		t.Errorf("the message is dead as %s, want exhausted", got)
	}
}

// TestNoValueOfAnExpiryStopsAClaim, whatever somebody wrote by hand.
func TestNoValueOfAnExpiryStopsAClaim(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for value, over := range map[string]bool{
		`"soon"`: false, `null`: false, `[]`: false, `1e400`: false, `-1e400`: true, `0`: true, `1.5`: true, `1e-400`: true, `true`: false,
	} {
		for _, at := range []string{"now() - interval '1 s'", "'-infinity'", "'4713-01-01 BC'", "'infinity'", "'294276-12-31'"} {
			r.exec(`TRUNCATE outbox.message, outbox.due, outbox.dead`)
			r.writeTo(bad+"/hook", "run")
			r.exec(fmt.Sprintf(`UPDATE outbox.message SET options = '{"expire_after_ms": %s}', created_at = %s`, value, at))
			claimed := r.claimAll()
			future := at == "'infinity'" || at == "'294276-12-31'"
			if want := !over || future; at[0] == 'n' && (len(claimed.Messages) == 1) != want {
				t.Errorf("%s at %s: claimed %d messages, want one only before the expiry", value, at, len(claimed.Messages))
			}
			if len(claimed.Messages)+len(claimed.Aside) != 1 {
				t.Errorf("%s at %s: the message is neither claimed nor set aside: %+v", value, at, claimed)
			}
		}
	}
}

// TestARowThatContradictsItselfIsSetAside: the claim checks what a constraint of the table checked before.
func TestARowThatContradictsItselfIsSetAside(t *testing.T) {
	t.Parallel()
	for change, sent := range map[string]bool{
		"error = 'e'":                                     false,
		"error = 'e', result = NULL":                      false,
		"status = 'failed'":                               false,
		"status = 'failed', error = 'e'":                  false,
		"status = 'cancelled', result = NULL":             false,
		"status = 'failed', error = 'e', result = NULL":   true,
		"status = 'cancelled', error = '', result = NULL": true,
		"result = NULL":                                   true,
	} {
		r := newRig(t)
		id, other := r.writeTo(bad+"/hook", "run"), r.writeTo(bad+"/hook", "other")
		r.exec(`UPDATE outbox.message SET `+change+` WHERE id = $1`, id)
		claimed := r.claimAll()
		switch {
		case sent && len(claimed.Messages) != 2:
			t.Errorf("%s: claimed %d messages, want both", change, len(claimed.Messages))
		case !sent && (len(claimed.Messages) != 1 || claimed.Messages[0].ID != other):
			t.Errorf("%s: claimed %+v, want the other one", change, claimed.Messages)
		case !sent:
			r.mustBePoison(id, contradiction)
		}
	}
}

// TestInsteadOfAnExpiredMessageTheNextOneProbes: after an outage many have expired, and each would cost the time of a lease.
func TestInsteadOfAnExpiredMessageTheNextOneProbes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 3 {
		r.writeExpiring(time.Second, time.Minute)
	}
	id := r.writeTo(bad+"/hook", "fresh")
	r.exec(`UPDATE outbox.due SET due_at = due_at - interval '1 min' WHERE message_id <> $1`, id)
	r.exec(`INSERT INTO outbox.endpoint (endpoint, failures, open_until, reason) VALUES ($1, 1000000, now() - interval '1 s', 'it fails')`, bad)
	claimer := r.claimer("one")
	for claims := 1; ; claims++ {
		claimed, err := claimer.Claim(t.Context(), Order{Most: 9, Turns: []Turn{{Endpoint: bad, Most: 9}}})
		if err != nil || claims > 9 {
			t.Fatalf("%d claims did not reach the fresh message, %v; want 9 claims at most", claims, err)
		}
		if len(claimed.Messages) > 0 {
			if m := claimed.Messages[0]; m.ID != id || !m.Probe {
				t.Errorf("claimed %+v, want the fresh message as a probe", m)
			}
			return
		}
	}
}
