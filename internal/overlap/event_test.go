package overlap_test

import (
	"encoding/base64"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// anEventWaits: an older worker does not know events, but may claim one. It does not send the event, counts no attempt and
// does not make the message dead.
func anEventWaits(t *testing.T, older, newer programs) {
	s := newStand(t, newer)
	id := outbox.NewID().String()
	s.exec(strings.NewReplacer("outbox.", s.db.Schema+".", "$1", "'"+id+"'", "$2", "'"+event.URL+"'", "$3", "'"+event.Options+"'", "$4", "'"+event.Lane+"'").Replace(
		`INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint, options, kind) VALUES ($1, 'event', 'succeeded', '{}', 0, $2, $4, $3, 'event');
INSERT INTO outbox.due (message_id, endpoint) VALUES ($1, $4)`))
	old := s.worker(older)
	s.awaitOne(`SELECT message_id::text FROM outbox.due WHERE waits_for LIKE '%` + event.Mark + `%' AND attempt = 0 AND locked_by IS NULL`)
	_ = old.cmd.Process.Kill() // not by ends: the worker warns of the message that waits
	_ = old.cmd.Wait()
	if dead := s.list(`SELECT reason FROM outbox.dead`); len(dead) > 0 || s.receiver.count() != 0 {
		t.Fatalf("dead messages: %v, want none; %d requests, want none", dead, s.receiver.count())
	}
	s.exec(strings.ReplaceAll(`UPDATE outbox.due SET due_at = now()`, "outbox.", s.db.Schema+"."))
	cmd := exec.Command(newer.worker, "run")
	cmd.Env = append(cmd.Environ(), "OUTBOX_EVENTS_URL="+s.receiver.URL, "OUTBOX_SIGNING_KEYS=default=whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32)))
	now := s.start(cmd)
	s.awaitOne(`SELECT id::text FROM outbox.status WHERE state = 'delivered'`)
	now.ends()
	if got := s.receiver.ids(); !slices.Equal(got, []string{id}) {
		t.Errorf("the messages %v arrived, want %s alone", got, id)
	}
}

// awaitOne waits until a query has a row.
func (s stand) awaitOne(sql string) {
	s.Helper()
	for deadline := time.Now().Add(stepMax); len(s.list(sql)) != 1; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("no row: %s", sql)
		}
	}
}
