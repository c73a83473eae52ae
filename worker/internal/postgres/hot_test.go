package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestATransactionThatIsSacrificedToOthersIsMadeAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code     string
		failures int // before it succeeds
		runs     int
		fails    bool
	}{
		{"40P01", 1, 2, false},
		{"40001", 1, 2, false},
		{"40P01", conflictsMost, 1 + conflictsMost, false},
		{"40P01", 1 + conflictsMost, 1 + conflictsMost, true},
		{"55P03", 1, 1, true}, // a lock that was not free: its caller knows what to do
		{"23505", 1, 1, true},
	} {
		runs := 0
		err := within(t.Context(), "test", time.Minute, func(context.Context) error {
			if runs++; runs <= c.failures {
				return &pgconn.PgError{Code: c.code}
			}
			return nil
		})
		if runs != c.runs || (err != nil) != c.fails {
			t.Errorf("after %d times %s it was run %d times and returned %v, want %d runs, and an error: %v", c.failures, c.code, runs, err, c.runs, c.fails)
		}
	}
}

func TestASacrificedTransactionIsNotMadeAgainWhenTheTimeIsOver(t *testing.T) {
	t.Parallel()
	runs := 0
	err := within(t.Context(), "test", time.Millisecond, func(ctx context.Context) error {
		if runs++; runs > 1 {
			<-ctx.Done()
		}
		return &pgconn.PgError{Code: "40P01"}
	})
	if runs > 2 || !IsConflict(err) {
		t.Errorf("it was run %d times and returned %v, want 2 runs at most, and the conflict", runs, err)
	}
}

func TestAClaimThatIsSacrificedToOthersIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.due("https://a.test", 3, 0)
	r.exec(`CREATE SEQUENCE outbox.tries`) // counts across what is rolled back
	r.exec(`CREATE FUNCTION outbox.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40P01'; END $$`)
	r.exec(`CREATE TRIGGER refuse BEFORE UPDATE ON outbox.due FOR EACH ROW WHEN (nextval('outbox.tries') <= 3) EXECUTE FUNCTION outbox.refuse()`)
	if got := r.claim("w"); len(got) != 3 {
		t.Errorf("%d messages are claimed, want 3", len(got))
	}
	if n := r.count(`SELECT count(*) FROM outbox.due WHERE attempt <> 1`); n != 0 {
		t.Errorf("%d messages are not at their first attempt, want none", n)
	}
}
