package hook_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// hookFunc makes a hook of a function.
type hookFunc func(context.Context, outbox.Tx, outbox.RunOutcome) error

func (f hookFunc) OnTermination(ctx context.Context, tx outbox.Tx, o outbox.RunOutcome) error {
	return f(ctx, tx, o)
}

func TestTheNoopHookDoesNothing(t *testing.T) {
	t.Parallel()
	if err := (hook.NoopTerminalHook{}).OnTermination(t.Context(), nil, outbox.RunOutcome{}); err != nil {
		t.Error(err)
	}
}

func TestMultiCallsItsHooksInTurnUntilTheFirstError(t *testing.T) {
	t.Parallel()
	var called []string
	fault := errors.New("no luck")
	says := func(name string, err error) hook.TerminalHook {
		return hookFunc(func(_ context.Context, _ outbox.Tx, o outbox.RunOutcome) error {
			called = append(called, name+" "+o.RunID)
			return err
		})
	}
	multi := hook.Multi(nil, says("first", nil), nil, says("second", fault), says("third", nil))
	err := multi.OnTermination(t.Context(), nil, testdb.Outcome("run", ""))
	if !errors.Is(err, fault) || !strings.Contains(err.Error(), "terminal hook 2 of 3") {
		t.Errorf("Multi returns %v; want the second hook's error, and \"terminal hook 2 of 3\" in it", err)
	}
	if want := []string{"first run", "second run"}; !slices.Equal(called, want) {
		t.Errorf("the calls were %q, want %q", called, want)
	}
}

func TestMultiOfNothingDoesNothing(t *testing.T) {
	t.Parallel()
	for _, multi := range []hook.TerminalHook{hook.Multi(), hook.Multi(nil, nil), hook.Multi(hook.Multi())} {
		if err := multi.OnTermination(t.Context(), nil, outbox.RunOutcome{}); err != nil {
			t.Error(err)
		}
	}
}

func TestMultiWritesWhatEachOfItsHooksWrites(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	both := hook.Multi(newHook(t, db, hook.WebhookConfig{}), newHook(t, db, hook.WebhookConfig{URLHeader: "notify"}))
	o := testdb.Outcome("run", receiver)
	o.Headers["notify"] = "https://other.example"
	if all := end(t, db, both, o); len(all) != 2 || all[0].URL == all[1].URL {
		t.Errorf("the two hooks wrote %+v; want a message to each of two URLs", all)
	}
}
