package worker

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// hostileSettings are settings that a role, a database or a URL may have. Each would stop a worker or make it write wrong text.
var hostileSettings = map[string]string{
	"bytea_output": "escape", "DateStyle": "German, DMY", "IntervalStyle": "sql_standard", "TimeZone": "Asia/Kathmandu",
	"client_encoding": "LATIN1", "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
	"search_path": "", "statement_timeout": "50", "lock_timeout": "1", "idle_in_transaction_session_timeout": "1",
	"plan_cache_mode": "force_custom_plan", "standard_conforming_strings": "off", "extra_float_digits": "-15",
	"array_nulls": "off", "transform_null_equals": "on", "client_min_messages": "debug5",
}

// TestTheSessionsSettingsAreOurs, whatever the URL says, in every mode of the protocol. Every text arrives unchanged, and no
// attempt is lost.
func TestTheSessionsSettingsAreOurs(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
		pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			const text = `grüße \ ' " 漢字 🙂`
			to := newReceiver(t, func(w http.ResponseWriter, req request) {
				if req.path == "/refuses" {
					w.WriteHeader(http.StatusTeapot)
					_, _ = fmt.Fprint(w, text)
				}
			})
			failed := outbox.RunOutcome{RunID: "run-1 ü", Status: outbox.Failed, Error: text}
			delivered := r.write(outbox.Message{Outcome: failed, URL: to.URL})
			refused := r.write(outbox.Message{Outcome: failed, URL: to.URL + "/refuses"})
			c := r.config()
			c.OpenAfter = 1000
			pool := r.NewPool(t, func(p *pgxpool.Config) {
				p.ConnConfig.DefaultQueryExecMode = mode
				for name, value := range hostileSettings {
					p.ConnConfig.RuntimeParams[name] = value
				}
			})
			r.runOn(pool, c)
			r.awaitState(delivered, outbox.StateDelivered)
			d := r.awaitState(refused, outbox.StateDead)
			for _, got := range to.requests() {
				if got.body != text {
					t.Errorf("the receiver got %q, want %q", got.body, text)
				}
			}
			if a := d.AttemptList[0]; len(d.AttemptList) != 1 || a.Response == nil || *a.Response != text {
				t.Errorf("the attempts are %+v; want one, with the answer's text", d.AttemptList)
			}
			if n := r.count(`SELECT count(*) FROM outbox.attempt WHERE class = 'lost'`); n > 0 {
				t.Errorf("%d attempts were lost, want none", n)
			}
		})
	}
}

func TestPoolerAcceptsTheModesOfAPoolerOnly(t *testing.T) {
	t.Parallel()
	for pooler, ok := range map[string]bool{"": true, "auto": true, "none": true, "session": true, "transaction": true, "statement": false} {
		if err := (Config{Pooler: pooler}).Validate(); (err == nil) != ok {
			t.Errorf("%q: Validate returns %v; want it accepted: %v", pooler, err, ok)
		}
	}
}
