package worker

import (
	"log/slog"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestAnOutageOfOnePartIsLoggedOnce: when answers cannot be recorded while everything else works, as with a full disk, the
// worker keeps the answers and does not fill the log.
func TestAnOutageOfOnePartIsLoggedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, sql := range []string{
		`CREATE SEQUENCE outbox.refused`, // a rollback does not undo its count
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
	r.await("the answer was refused five times", func() bool { return r.count(`SELECT last_value FROM outbox.refused`) >= 5 })
	if n := lines.count("the database cannot be used"); n != 1 {
		t.Errorf("%d lines for one outage, want 1", n)
	}
	if n := lines.count("the database can be used again"); n != 0 {
		t.Errorf("the log says %d times that the database can be used again, want none yet", n)
	}
	r.exec(`DROP TRIGGER refuse ON outbox.due`)
	d := r.awaitState(id, outbox.StateDelivered)
	if len(d.AttemptList) != 1 || len(to.requests()) != 1 {
		t.Errorf("%d attempts and %d requests, want one", len(d.AttemptList), len(to.requests()))
	}
}
