package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestARowThatCannotBeReadIsSetAsideAlone: the worker reads the claim's rows after the commit. An error would cost each of its
// messages an attempt.
func TestARowThatCannotBeReadIsSetAsideAlone(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		for change, column := range map[string]string{"m: status = 'secret'": "status", "m: url = NULL": "url", "m: run_id = NULL": "run_id"} {
			t.Run(mode.String()+" "+change, func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				r.withoutConstraints()
				pool := r.NewPool(t, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode })
				id := r.writeTo(bad+"/hook", "run-bad")
				for _, url := range []string{healthy, healthy, bad} {
					r.writeTo(url+"/hook", "run")
				}
				r.exec(`UPDATE outbox.message SET `+change[3:]+` WHERE id = $1`, id)
				claimed, err := r.claimerOn(pool, "one").Claim(t.Context(), Order{Most: 9, Turns: r.turns(9)})
				if err != nil || len(claimed.Messages) != 3 {
					t.Fatalf("%d other messages are claimed, want 3; %v", len(claimed.Messages), err)
				}
				want := "the worker cannot read it: column " + column + " of its claim"
				if len(claimed.Aside) != 1 || claimed.Aside[0].What != AsidePoison || claimed.Aside[0].Reason != want {
					t.Errorf("the claim set aside %+v, want one, for: %s", claimed.Aside, want)
				}
				r.mustBePoison(id, want)
				if n := r.count(`SELECT count(*) FROM outbox.due WHERE attempt <> 1`); n != 0 {
					t.Errorf("%d other messages are not at their first attempt, want none", n)
				}
			})
		}
	}
}

// mustBePoison checks that the message is dead as poison, with this error.
func (r *rig) mustBePoison(id outbox.ID, fault string) {
	r.t.Helper()
	if got := one[string](r, `SELECT coalesce((SELECT reason || ': ' || error FROM outbox.dead WHERE message_id = $1), 'not dead')`, id); got != "poison: "+fault {
		r.t.Errorf("the message is %s, want poison: %s", got, fault)
	}
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE message_id = $1`, id); n != 0 {
		r.t.Error("the message is still due, want it dead only")
	}
}
