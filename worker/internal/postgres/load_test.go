package postgres

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// TestALargeBodyIsLoadedAfterTheClaim: the claim returns its size only.
func TestALargeBodyIsLoadedAfterTheClaim(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bodies := map[outbox.ID][]byte{}
	for _, n := range []int{0, 1, BodyMax, BodyMax + 1, 1 << 20} {
		body := bytes.Repeat([]byte("x"), n)
		bodies[r.write(outbox.Message{URL: "https://a.test", Outcome: outbox.RunOutcome{RunID: "run", Status: outbox.Succeeded, Result: body}})] = body
	}
	bodies[r.write(outbox.Message{URL: "https://a.test", Outcome: outbox.RunOutcome{RunID: "run", Status: outbox.Failed, Error: "grüße"}})] = []byte("grüße")
	l := NewLoader(Direct(r.Pool), r.Schema)
	messages := r.claim("one")
	for _, m := range messages {
		want := bodies[m.ID]
		if small := len(want) <= BodyMax; m.BodyBytes != len(want) || (m.Body != nil) != small || small && !bytes.Equal(m.Body, want) {
			t.Errorf("the claim returns %d of %d bytes, and the size %d; want the body only if it is small, and its size", len(m.Body), len(want), m.BodyBytes)
		}
		if got, err := l.Load(t.Context(), m.ID); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes were loaded, want %d; %v", len(got), len(want), err)
		}
	}
	if len(messages) != len(bodies) {
		t.Errorf("%d messages claimed, want %d", len(messages), len(bodies))
	}
	if _, err := l.Load(t.Context(), outbox.NewID()); !errors.Is(err, pgx.ErrNoRows) {
		t.Errorf("for a missing message, Load returns %v, want ErrNoRows", err)
	}
}

// Otherwise a few messages that were pruned meanwhile would keep all large bodies from being loaded, for ever.
func TestABodyThatCannotBeLoadedGivesItsBytesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := NewBodies(NewLoader(Direct(r.Pool), r.Schema), 2*BodyMax, time.Minute)
	for range 3 {
		if _, err := b.Load(t.Context(), &Message{ID: outbox.NewID(), BodyBytes: 2 * BodyMax}); err == nil {
			t.Fatal("a message that is not there was loaded, want an error")
		}
		if n := b.Held(); n != 0 {
			t.Fatalf("%d bytes are held after a body could not be loaded, want none", n)
		}
	}
}
