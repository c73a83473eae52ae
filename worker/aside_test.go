package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

func TestWhatIsSetAsideHasALineUnlessThereAreTooMany(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	l := asideLog{logger: slog.New(slog.NewTextHandler(&text, nil))}
	lines := func() []string {
		defer text.Reset()
		return strings.Split(strings.TrimSpace(text.String()), "\n")
	}
	now := time.Now()

	l.log(t.Context(), []postgres.Aside{
		{What: postgres.AsideExpired, IDs: make([]outbox.ID, 3), Reason: "too late"},
		{What: postgres.AsidePaused, Endpoint: "https://a.test", Reason: "refused"},
		{What: postgres.AsidePoison, IDs: make([]outbox.ID, 2*asideIDs), Reason: "unreadable"},
	}, now)
	got := lines()
	for i, want := range []string{"level=WARN", "level=ERROR", "level=ERROR"} { // to expire is what a writer wanted
		if !strings.Contains(got[i], want) {
			t.Errorf("the line is %q, want %s", got[i], want)
		}
	}
	for i, want := range []string{"reason=\"too late\" messages=3 ids=", "reason=refused endpoint=https://a.test", "reason=unreadable messages=40 ids="} {
		if !strings.Contains(got[i], want) {
			t.Errorf("the line is %q, want %s in it", got[i], want)
		}
	}
	if n := strings.Count(got[2], outbox.ID{}.String()); n != asideIDs {
		t.Errorf("the line names %d messages, want %d", n, asideIDs)
	}

	l.log(t.Context(), make([]postgres.Aside, asideLines), now.Add(time.Minute-1))
	if n := len(lines()); n != asideLines-3 {
		t.Errorf("%d lines more in the same minute, want %d", n, asideLines-3)
	}
	l.log(t.Context(), make([]postgres.Aside, 1), now.Add(time.Minute))
	if got := lines(); len(got) != 2 || !strings.Contains(got[0], "more=3") {
		t.Errorf("the next minute begins with %q, want how many lines were left out, and a line", got)
	}
}
