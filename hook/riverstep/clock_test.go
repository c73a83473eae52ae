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

// difference is more than River's scheduler looks ahead, and what nothing in these tests takes.
const difference = 3 * patience

// threeSteps are two at once and one after an hour, if they are given the time.
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
				t.Errorf("%d jobs have another clock's time", n)
			}
			// The later step waits an hour from the moment when the one before was settled, and for no clock's difference.
			if late := one[float64](t, r.db.Pool, r.in(`SELECT extract(epoch FROM scheduled_at - created_at)::float8 - 3600
FROM outbox.river_job WHERE state = 'scheduled'`)); late < 0 || late > 90 {
				t.Errorf("the later step is late by %v s", late)
			}
			if said := log.with("clock differs"); len(said) != 1 || !strings.Contains(said[0], "level=WARN") {
				t.Errorf("of four steps and a sweep the log says %q, want one warning", said)
			}
		})
	}
}

func TestARunThatIsToStartLaterStartsByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	r := newRigOn(t, testdb.NewAt(t, testdb.ServerWithClock(t, difference).URL()), echo(), nil)
	for id, at := range map[string]time.Time{
		"past":   time.Now().Add(difference / 2), // but the database says that it has come
		"future": time.Now().Add(time.Hour),
	} {
		r.submit(riverstep.RunSpec{ID: id, RunAt: at})
	}
	if got := one[string](t, r.db.Pool, r.in(`SELECT string_agg(args->>'run_id' || ' ' || state, ', ' ORDER BY id DESC) FROM outbox.river_job`)); got != "past available, future scheduled" &&
		got != "future scheduled, past available" {
		t.Errorf("the jobs: %s", got)
	}
}

func TestClocksThatAgreeAreNotReported(t *testing.T) {
	t.Parallel()
	log := &lines{}
	r := newRig(t, echo(), func(c *riverstep.Config, _ *river.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	r.start()
	r.submit(riverstep.RunSpec{ID: runID})
	r.wait(runID)
	if said := log.with("clock"); len(said) > 0 {
		t.Errorf("the log says %q", said)
	}
}

// lines is a log, to be read line by line.
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
