package worker

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

func TestAMissingKeyIsLoggedOnceAMinuteHoweverManyMessagesWaitForIt(t *testing.T) {
	t.Parallel()
	r, to, lines := newRig(t), newReceiver(t, nil), &logLines{}
	for i := range 50 {
		r.endBy(hook.WebhookConfig{Options: outbox.Options{SigningKey: "tenant-a"}}, succeeded(fmt.Sprint("run-", i), to.URL, "x", nil))
	}
	c := r.patient()
	c.Logger = slog.New(slog.NewTextHandler(lines, nil))
	_, stop := r.run(c)
	r.await("all messages wait", func() bool { return r.count(`SELECT count(*) FROM outbox.due WHERE waits_for IS NOT NULL`) == 50 })
	stop()                                                                       // the stop logs what was counted and not logged yet
	if n := lines.count("attempt: wait"); n > 10 || lines.count("times=") == 0 { // usually two; one more for each minute on a slow machine
		t.Errorf("%d lines for one missing key, want 10 at most, and one with a count:\n%s", n, lines.text.String())
	}
}
