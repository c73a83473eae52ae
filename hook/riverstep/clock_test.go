package riverstep_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/seed-abbacb8b/epilogue/hook/riverstep"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
)

// difference is longer than River's scheduler looks ahead, and longer than anything in these tests takes.
const difference = 3 * patience

// threeSteps runs two steps at once, and a third one after an hour.
func threeSteps() riverstep.Runner {
	return riverstep.RunnerFunc(func(_ context.Context, s riverstep.Step) (riverstep.Verdict, error) {
		if s.Number < 2 {
			return riverstep.Continue(nil), nil
		}
		return riverstep.ContinueAfter(nil, time.Hour), nil
	})
}

func TestTheDatabasesClockDecidesWhenAStepBegins(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"ahead": difference, "behind": -difference} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &lines{}
			r := newRigOn(t, testdb.NewAt(t, testdb.ServerWithClock(t, ahead).URL()), threeSteps(), func(c *riverstep.Config, _ *river.Config) {
				c.Logger = slog.New(slog.NewTextHandler(log, nil))
			})
			r.start()
			r.submit(riverstep.RunSpec{ID: runID})
			r.until(func() bool {
				return one[int](t, r.db.Pool, r.in(`SELECT count(*) FROM outbox.river_job WHERE kind = 'workflow_step'`)) == 4
			})
			if n := one[int](t, r.db.Pool, r.in(`SELECT count(*) FROM outbox.river_job
WHERE state <> 'scheduled' AND scheduled_at <> created_at OR abs(extract(epoch FROM clock_timestamp() - created_at)) > 90`)); n > 0 {
				t.Errorf("%d jobs have a time that is not the database's, want none", n)
			}
			// The later step waits an hour after the one before was settled, whatever the clocks' difference is.
			if late := one[float64](t, r.db.Pool, r.in(`SELECT extract(epoch FROM scheduled_at - created_at)::float8 - 3600
FROM outbox.river_job WHERE state = 'scheduled'`)); late < 0 || late > 90 {
				t.Errorf("the later step is due %v s after its hour, want 0 to 90", late)
			}
			if said := log.with("clock differs"); len(said) != 1 || !strings.Contains(said[0], "level=WARN") {
				t.Errorf("the log of four steps and a sweep is %q, want one warning", said)
			}
		})
	}
}

func TestTheDatabasesClockDecidesWhenALaterRunStarts(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, testdb.NewAt(t, testdb.ServerWithClock(t, difference).URL()), echo(), nil)
	for id, at := range map[string]time.Time{
		"past":   time.Now().Add(difference / 2), // in the future here, in the past by the database's clock
		"future": time.Now().Add(time.Hour),
	} {
		r.submit(riverstep.RunSpec{ID: id, RunAt: at})
	}
	if got := one[string](t, r.db.Pool, r.in(`SELECT string_agg(args->>'run_id' || ' ' || state, ', ' ORDER BY id DESC) FROM outbox.river_job`)); got != "past available, future scheduled" &&
		got != "future scheduled, past available" {
		t.Errorf("the jobs are %s, want past available and future scheduled", got)
	}
}

func TestClocksThatAgreeAreNotLogged(t *testing.T) {
	t.Parallel()
	log := &lines{}
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	r.start()
	r.submit(riverstep.RunSpec{ID: runID})
	r.wait(runID)
	if said := log.with("clock"); len(said) > 0 {
		t.Errorf("the log is %q, want nothing about clocks", said)
	}
}

// lines keeps a log, which a test can search by line.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// with returns the lines that contain text.
func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}
