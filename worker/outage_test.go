package worker

import (
	"log/slog"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestAnOutageOfOnePartIsToldOfOnce: when answers cannot be written while all else works (a full disk), the answers are
// kept and the log is not filled.
func TestAnOutageOfOnePartIsToldOfOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, sql := range []string{
		`CREATE SEQUENCE outbox.refused`, // counts whatever is rolled back
		`CREATE FUNCTION outbox.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    PERFORM nextval('outbox.refused'); RAISE EXCEPTION USING ERRCODE = 'disk_full'; END$$`,
		`CREATE TRIGGER refuse BEFORE DELETE ON outbox.due FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse()`,
	} {
		r.exec(sql)
	}
	to := newReceiver(t, nil)
	id := r.writeTo(to.URL, "run-1")
	lines := &logLines{}
	c := r.config()
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))
	r.run(c)
	r.await("the answer was refused some times", func() bool { return r.count(`SELECT last_value FROM outbox.refused`) >= 5 })
	if n := lines.count("the database cannot be used"); n != 1 {
		t.Errorf("%d lines for one outage", n)
	}
	if n := lines.count("the database can be used again"); n != 0 {
		t.Errorf("it was told %d times that the database is back", n)
	}
	r.exec(`DROP TRIGGER refuse ON outbox.due`)
	d := r.awaitState(id, outbox.StateDelivered)
	if len(d.AttemptList) != 1 || len(to.requests()) != 1 {
		t.Errorf("%d attempts and %d requests, want one", len(d.AttemptList), len(to.requests()))
	}
}
