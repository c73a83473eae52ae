package hook_test

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestARunsOptionsReplaceThoseOfTheHook(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	c := hook.WebhookConfig{
		Options: outbox.Options{Timeout: time.Second, Method: "PUT", ContentType: "text/plain", Headers: map[string]string{"X-A": "hook", "X-B": "hook"}, SigningKey: "own"},
		OptionsOf: func(o outbox.RunOutcome) outbox.Options {
			if o.RunID == "plain" {
				return outbox.Options{}
			}
			return outbox.Options{Timeout: 2 * time.Second, Format: outbox.FormatEnvelope, Headers: map[string]string{"X-B": "run"}, ExpireAfter: time.Hour, SecretHeaders: "crm"}
		},
	}
	got := optionsOf(t, db, c, testdb.Outcome("special", receiver))
	if got.Timeout != 2*time.Second || got.Method != "PUT" || got.Format != outbox.FormatEnvelope || got.ContentType != "" ||
		got.Headers["X-A"] != "hook" || got.Headers["X-B"] != "run" || got.ExpireAfter != time.Hour || got.SigningKey != "own" || got.SecretHeaders != "crm" {
		t.Errorf("the options are %+v; want the run's own, and the hook's where the run has none", got)
	}
	got = optionsOf(t, db, c, testdb.Outcome("plain", receiver))
	if got.Timeout != time.Second || got.ContentType != "text/plain" || got.Headers["X-B"] != "hook" || got.ExpireAfter != 0 {
		t.Errorf("the options of a run without its own are %+v; want the hook's", got)
	}
}

func TestInvalidOptionsOfARunMakeItsMessageDead(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{OptionsOf: func(o outbox.RunOutcome) outbox.Options {
		return outbox.Options{Method: o.Headers["method"]}
	}})
	o := outcomeWith("run", map[string]string{"method": "DELETE"})
	d := endOne(t, db, h, o)
	if d.State != outbox.StateDead || d.DeadError == nil || !strings.Contains(*d.DeadError, `OptionsOf: Method is "DELETE"`) {
		t.Errorf("the message is %s, with the error %v; want it dead because of its method", d.State, d.DeadError)
	}
	if err := h.CheckHeaders(o.Headers); err == nil || !strings.Contains(err.Error(), "DELETE") {
		t.Errorf("CheckHeaders returns %v; want an error that names DELETE", err)
	}
}

func TestADelayedMessageIsDueLaterByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	h := newHook(t, db, hook.WebhookConfig{Options: outbox.Options{Delay: 90 * time.Minute}})
	endOne(t, db, h, testdb.Outcome("run", receiver))
	if late := one[bool](t, db.Pool, `SELECT d.due_at = m.created_at + interval '90 minutes' FROM `+db.Schema+`.due d JOIN `+db.Schema+`.message m ON m.id = d.message_id`); !late {
		t.Error("the message is not due 90 minutes after its created_at")
	}
}
