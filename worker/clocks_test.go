package worker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/database"
)

// TestTheDatabasesClockDecides: when the host's clock is ten minutes ahead or behind, messages are delivered as usual, also
// after a drain ended, and few drains are inserted. One warning names the difference.
func TestTheDatabasesClockDecides(t *testing.T) {
	t.Parallel()
	for name, databaseAhead := range map[string]time.Duration{"the host is ahead": -10 * time.Minute, "the host is behind": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRigOn(t, testdb.NewAt(t, testdb.ServerWithClock(t, databaseAhead).URL()))
			to, lines := newReceiver(t, nil), &logLines{}
			waker, err := outbox.NewWaker(r.Pool, r.Schema)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = waker.Close(t.Context()) }()
			c := r.config()
			c.PollInterval = 200 * time.Millisecond
			c.Logger = slog.New(slog.NewTextHandler(lines, nil))
			w, _ := r.run(c)
			for range 3 {
				r.awaitState(r.writeTo(to.URL, "polled"), outbox.StateDelivered)
			}
			r.await("the drain ended", func() bool { return !w.scheduler.Draining() })
			id := r.writeTo(to.URL, "woken")
			waker.Wake()
			r.awaitState(id, outbox.StateDelivered)
			if n := r.count(`SELECT count(*) FROM outbox.river_job WHERE kind = 'outbox_drain'`); n > 10 {
				t.Errorf("%d drains were inserted for four messages, want 10 at most", n)
			}
			if n := r.count(`SELECT count(*) FROM outbox.river_job WHERE abs(extract(epoch FROM clock_timestamp() - scheduled_at)) > 60`); n > 0 {
				t.Errorf("%d jobs have a time that is not the database's, want none", n)
			}
			r.await("the difference is logged", func() bool { return lines.count("this host's clock is ") > 0 })
			if n := lines.count("this host's clock is "); n != 1 {
				t.Errorf("%d warnings within a minute, want 1", n)
			}
			if n := r.count(`SELECT count(*) FROM outbox.attempt WHERE class = 'lost'`); n > 0 {
				t.Errorf("%d attempts were lost, want none", n)
			}
		})
	}
}

// TestOnlyACertainDifferenceOfClocksIsLogged: one that may come from the round trip's duration is not.
func TestOnlyACertainDifferenceOfClocksIsLogged(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		database time.Duration // its time, counted from the question
		took     time.Duration
		says     string
	}{
		"the same":         {time.Millisecond, 2 * time.Millisecond, ""},
		"a slow answer":    {time.Minute, time.Minute, ""},
		"a little ahead":   {-database.ClocksMayDiffer, 0, ""},
		"the host ahead":   {-database.ClocksMayDiffer - time.Millisecond, 0, "ahead of"},
		"the host behind":  {database.ClocksMayDiffer + time.Second, 500 * time.Millisecond, "behind"},
		"it may be behind": {database.ClocksMayDiffer + time.Second, 2 * time.Second, ""},
	} {
		lines := &logLines{}
		clocks := &database.Clocks{Logger: slog.New(slog.NewTextHandler(lines, nil))}
		for range 3 {
			clocks.Compare(t.Context(), now, now.Add(c.database), now.Add(c.took))
		}
		if n := lines.count("clock is " + c.says + " the database's"); c.says != "" && n != 1 || c.says == "" && lines.count("clock") != 0 {
			t.Errorf("%s: the log says %q, want %q in it", name, lines.text.String(), c.says)
		}
	}
}

// TestWhileNobodyTakesADrainNoOtherIsInserted: with a paused queue, each scan that found something inserted one.
func TestWhileNobodyTakesADrainNoOtherIsInserted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(`INSERT INTO outbox.river_queue (name, created_at, metadata, paused_at, updated_at) VALUES ('outbox_drain', now(), '{}', now(), now())`)
	w, _ := r.run(r.config())
	r.writeTo(newReceiver(t, nil).URL, "run")
	r.await("a drain is inserted", func() bool { return r.count(`SELECT count(*) FROM outbox.river_job WHERE kind = 'outbox_drain'`) > 0 })
	end := time.Now().Add(40 * w.config.PollInterval) // long enough for 40 scans that find something
	r.await("many scans were made", func() bool { return time.Now().After(end) })
	if n := r.count(`SELECT count(*) FROM outbox.river_job WHERE kind = 'outbox_drain' AND state = 'available'`); n != 1 {
		t.Errorf("%d drains wait to be taken, want 1", n)
	}
}
