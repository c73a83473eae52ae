package postgres

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
)

const moment = ` + interval '1 microsecond'`

// endings has, for each lane, the times in its rows, and whether its message is claimed then.
var endings = map[string]struct {
	due, endpoint string // what is set in the lane's due row and in its row of outbox.endpoint
	claimed       bool
}{
	"https://due.test":              {"due_at = now()", "", true},
	"https://due-soon.test":         {"due_at = now()" + moment, "", false},
	"https://lease.test":            {"locked_by = 'x', attempt = 1, locked_until = now()", "", true},
	"https://lease-soon.test":       {"locked_by = 'x', attempt = 1, locked_until = now()" + moment, "", false},
	"https://lease-long.test":       {"locked_by = 'x', attempt = 1, locked_until = now() + interval '2 days'", "", false},
	"https://lease-longer.test":     {"locked_by = 'x', attempt = 1, locked_until = now() + interval '2 days'" + moment, "", true},
	"https://held.test":             {"", "open_until = now()", true},
	"https://held-soon.test":        {"", "open_until = now()" + moment, false},
	"https://open.test":             {"", "failures = 10, open_until = now()", true},
	"https://open-soon.test":        {"", "failures = 10, open_until = now()" + moment, false},
	"https://origin.test tenant":    {"", "open_until = now()", true},
	"https://origin-soon.test some": {"", "open_until = now()" + moment, false},
}

// TestATimeThatEndsNowHasEnded, and one that ends a microsecond later has not. The claim and the scan run in the same
// transaction, so that they have the same now().
func TestATimeThatEndsNowHasEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var turns []Turn
	for lane := range endings {
		r.due(lane, 1, 0)
		turns = append(turns, Turn{Endpoint: lane, Most: 9})
	}
	err := pgx.BeginFunc(t.Context(), r.Pool, func(tx pgx.Tx) error {
		exec := func(sql string, args ...any) {
			if _, err := tx.Exec(t.Context(), sqlschema.In(sql, r.Schema), args...); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		names := func(sql string, args ...any) (all []string) {
			rows, err := tx.Query(t.Context(), sqlschema.In(sql, r.Schema), args...)
			if err == nil {
				all, err = pgx.CollectRows(rows, pgx.RowTo[string])
			}
			if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			return all
		}
		for lane, c := range endings {
			if c.due != "" {
				exec(`UPDATE outbox.due SET `+c.due+` WHERE endpoint = $1`, lane)
			}
			if c.endpoint != "" {
				exec(`INSERT INTO outbox.endpoint (endpoint, reason) VALUES (split_part($1, ' ', 1), '')`, lane)
				exec(`UPDATE outbox.endpoint SET `+c.endpoint+` WHERE endpoint = split_part($1, ' ', 1)`, lane)
			}
		}
		full := names(`SELECT endpoint::text FROM (`+fullScanSQL+`) s`, []string{}, "", ScanMax)
		exec(claimSQL, r.claimer("w").args(Order{Most: 99, Turns: turns}, 0)...)
		claimed := names(`SELECT endpoint::text FROM outbox.due WHERE locked_by = 'w'`)
		for lane, c := range endings {
			if got := slices.Contains(full, lane); got != c.claimed {
				t.Errorf("%s: the scan finds it: %v, want %v", lane, got, c.claimed)
			}
			if got := slices.Contains(claimed, lane); got != c.claimed {
				t.Errorf("%s: the claim takes its message: %v, want %v", lane, got, c.claimed)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
