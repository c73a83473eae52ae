package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// TestAResultThatTheDatabaseRefusesIsSetAsideAlone: a delivery is recorded without the receiver's text; otherwise the message
// is poison. The log names these messages only.
func TestAResultThatTheDatabaseRefusesIsSetAsideAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, runID := range []string{"good-1", "bad reason", "good-2", "bad text", "bad status", "good-3"} {
		r.writeTo("https://a.test/hook", runID)
	}
	claimer := postgres.NewClaimer(postgres.Direct(r.Pool), postgres.ClaimerConfig{Schema: r.Schema, Worker: "one", Lease: time.Minute, OpenAfter: 10})
	claimed, err := claimer.Claim(t.Context(), postgres.Order{Most: 10, Turns: []postgres.Turn{{Endpoint: "https://a.test", Most: 10}}})
	rows := claimed.Messages
	if err != nil || len(rows) != 6 {
		t.Fatalf("%d messages claimed, %v; want 6", len(rows), err)
	}
	var batch []postgres.Result
	ids := map[string]outbox.ID{}
	for i := range rows {
		x, _ := modelResult(&rows[i], "delivered")
		switch rows[i].RunID {
		case "bad reason":
			x, _ = modelResult(&rows[i], "refused")
			x.Reason = "because"
		case "bad text":
			x.Response = "\xff"
		case "bad status":
			x.StatusCode = 42
		}
		batch, ids[rows[i].RunID] = append(batch, x), x.ID
	}
	x := r.record(t.Context())
	x.hand(batch...)
	x.stop()
	if n := x.Unwritten(); n != 0 {
		t.Fatalf("Unwritten returns %d, want 0", n)
	}
	lines := x.lines
	for runID, id := range ids {
		bad := strings.HasPrefix(runID, "bad")
		if named := lines.count(id.String()) == 1; named != bad {
			t.Errorf("%s: the log names it once: %v; want %v", runID, named, bad)
		}
		want := outbox.StateDelivered
		if runID == "bad reason" {
			want = outbox.StateDead
		}
		d := r.state(id)
		if d.State != want {
			t.Errorf("%s is %s, want %s", runID, d.State, want)
		}
		if noted := len(d.AttemptList) == 1 && d.AttemptList[0].Note != nil; noted != (bad && want == outbox.StateDelivered) {
			t.Errorf("%s: its attempts are %+v; want a note on that of a bad delivery only", runID, d.AttemptList)
		}
	}
	if n := lines.count("level=ERROR"); n != 3 {
		t.Errorf("%d error lines, want 3, one for each bad row", n)
	}
}
