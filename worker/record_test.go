package worker

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/outage"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// TestARowThatTheDatabaseRefusesTakesNoOtherAlong, and only that row is logged as not recorded.
func TestARowThatTheDatabaseRefusesTakesNoOtherAlong(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, runID := range []string{"good-1", "bad reason", "good-2", "bad text", "bad status", "good-3"} {
		r.writeTo("https://a.test/hook", runID)
	}
	claimer := postgres.NewClaimer(r.Pool, postgres.ClaimerConfig{Schema: r.Schema, Worker: "one", Lease: time.Minute, OpenAfter: 10})
	rows, _, err := claimer.Claim(t.Context(), postgres.Order{Most: 10, Turns: []postgres.Turn{{Endpoint: "https://a.test", Most: 10}}})
	if err != nil || len(rows) != 6 {
		t.Fatalf("%d messages claimed: %v", len(rows), err)
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
	lines := &logLines{}
	logger := slog.New(slog.NewTextHandler(lines, nil))
	to := &recorder{
		to:     postgres.NewRecorder(r.Pool, postgres.RecorderConfig{Schema: r.Schema, Worker: "one", OpenAfter: 10, OpenFor: time.Second, OpenForMax: time.Second}),
		outage: outage.New(logger, time.Second, outage.Faults{}).Part("test"), logger: logger,
	}
	if unwritten, err := to.write(t.Context(), batch); err != nil || unwritten != 0 {
		t.Fatalf("%d results are said to be unwritten: %v", unwritten, err)
	}
	for runID, id := range ids {
		bad := strings.HasPrefix(runID, "bad")
		if named := lines.count(id.String()) == 1; named != bad {
			t.Errorf("%s is named once in the log: %v", runID, named)
		}
		want := outbox.StateDelivered
		if bad {
			want = outbox.StateDelivering // until its lease ends, and then anew
		}
		if d := r.state(id); d.State != want {
			t.Errorf("%s is %s, want %s", runID, d.State, want)
		}
	}
	if n := lines.count("level=ERROR"); n != 3 {
		t.Errorf("%d lines for three rows", n)
	}
}
