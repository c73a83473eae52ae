package sqlstate_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
)

func TestTheStateOfAnErrorIsReadFromEveryDriver(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"40001": fmt.Errorf("settle: %w", &pgconn.PgError{Code: "40001"}),
		"23505": errors.Join(errors.New("another"), &pq.Error{Code: "23505"}),
		"":      errors.New("connection reset"),
	} {
		if got := sqlstate.Of(err); got != want {
			t.Errorf("Of(%v) is %q, want %q", err, got, want)
		}
	}
	if got := sqlstate.Of(nil); got != "" {
		t.Errorf("Of(nil) is %q, want none", got)
	}
}
