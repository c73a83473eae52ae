package worker

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// grants are the statements of docs/kubernetes.md for a role, with a role and a schema of the test's own.
func (r *rig) grants(documented, role string) string {
	r.t.Helper()
	page, err := os.ReadFile("../docs/kubernetes.md")
	if err != nil {
		r.t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^(CREATE ROLE|GRANT .*) `+documented+`;$`).FindAllString(string(page), -1)
	if len(all) < 3 {
		r.t.Fatalf("docs/kubernetes.md grants %s only %q; want three statements at least", documented, all)
	}
	sql := strings.ReplaceAll(strings.Join(all, "\n"), documented, role)
	return strings.ReplaceAll(sql, "SCHEMA outbox ", "SCHEMA "+r.Schema+" ") + "\nALTER ROLE " + role + " LOGIN;"
}

// poolOf connects as a role that has exactly the documented privileges.
func (r *rig) poolOf(documented string) *pgxpool.Pool {
	r.t.Helper()
	role := r.Name + "_role"
	if _, err := r.Pool.Exec(r.t.Context(), r.grants(documented, role), pgx.QueryExecModeSimpleProtocol); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_, _ = r.Pool.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role, pgx.QueryExecModeSimpleProtocol)
	})
	return r.NewPool(r.t, func(c *pgxpool.Config) { c.ConnConfig.User = role })
}

func TestARoleWithTheDocumentedPrivilegesRunsAWholeWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := newReceiver(t, func(w http.ResponseWriter, req request) {
		if req.path != "/" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	r.history("delivered", 3, 2*time.Hour)
	c := r.config()
	c.Retention, c.SampleInterval = time.Hour, time.Second
	w, _ := r.runOn(r.poolOf("docs_worker"), c)
	delivered, dead := r.writeTo(receiver.URL+"/", "run"), r.writeTo(receiver.URL+"/fails", "run")
	r.awaitSettled(delivered)
	r.awaitSettled(dead)
	if state := r.state(delivered).State; state != outbox.StateDelivered {
		t.Errorf("the message is %s, want delivered", state)
	}
	r.await("the old messages are pruned", func() bool { return r.count(`SELECT count(*) FROM outbox.message WHERE run_id LIKE 'delivered%'`) == 0 })
	r.await("two samples are taken", func() bool { return r.count(`SELECT count(*) FROM outbox.sample`) > 1 })
	if n := r.count(`SELECT count(*) FROM outbox.sample WHERE missing <> '{}'`); n > 0 {
		t.Errorf("%d samples lack a figure, want none", n)
	}
	r.await("the worker has a row", func() bool { return r.count(`SELECT count(*) FROM outbox.worker`) == 1 })
	r.await("the worker is ready", func() bool { return w.Ready(t.Context()) == nil })
}

func TestTheDocumentedReadOnlyRoleCanReadWhatCommandsShow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.writeTo("http://127.0.0.1:1", "run")
	reader, err := operator.NewStore(r.poolOf("docs_reader"), r.Schema)
	if err != nil {
		t.Fatal(err)
	}
	for what, read := range map[string]func() error{
		"overview":  func() error { _, err := reader.Overview(t.Context()); return err },
		"endpoints": func() error { _, err := reader.Endpoints(t.Context(), 0); return err },
		"tenants":   func() error { _, _, err := reader.Tenants(t.Context(), 0); return err },
		"list":      func() error { _, err := reader.ListPage(t.Context(), operator.Filter{Look: 10}); return err },
		"workers":   func() error { _, err := reader.Workers(t.Context()); return err },
		"sample":    func() error { _, _, err := reader.Sample(t.Context()); return err },
	} {
		if err := read(); err != nil {
			t.Errorf("%s: got the error %v, want none", what, err)
		}
	}
}
