package outbox_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

var statuses = []outbox.TerminalStatus{outbox.Succeeded, outbox.Failed, outbox.Cancelled}

func TestAStatusComesBackFromTextAndJSON(t *testing.T) {
	t.Parallel()
	for _, status := range statuses {
		if got, err := outbox.ParseTerminalStatus(status.String()); got != status || err != nil {
			t.Errorf("ParseTerminalStatus(%q) returns %q, %v", status.String(), got, err)
		}
		var object, back struct {
			Status outbox.TerminalStatus
			Counts map[outbox.TerminalStatus]int
		}
		object.Status, object.Counts = status, map[outbox.TerminalStatus]int{status: 1}
		text, err := json.Marshal(object)
		must(t, err)
		must(t, json.Unmarshal(text, &back))
		if back.Status != status || back.Counts[status] != 1 {
			t.Errorf("%s came back as %+v", text, back)
		}
	}
}

func TestAStatusComesBackFromSQL(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	for name, conn := range map[string]*sql.DB{"pgx": stdlib.OpenDBFromPool(db.Pool), "lib/pq": openPQ(t, db)} {
		t.Cleanup(func() { must(t, conn.Close()) })
		for _, status := range statuses {
			for _, query := range []string{"SELECT $1::text", "SELECT convert_to($1, 'UTF8')"} { // as a string, as bytes
				var got outbox.TerminalStatus
				if err := conn.QueryRowContext(t.Context(), query, status).Scan(&got); err != nil || got != status {
					t.Errorf("%s: %s gives %q for %q: %v", name, query, got, status, err)
				}
			}
		}
	}
	for _, status := range statuses {
		if got := fixture.One[outbox.TerminalStatus](t, db.Pool, "SELECT $1::text", status); got != status {
			t.Errorf("pgx alone gives %q for %q", got, status)
		}
	}
}

func TestWhatIsNotAStatusIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "running", "SUCCEEDED", " failed", "failed\x00"} {
		var status outbox.TerminalStatus
		_, parse := outbox.ParseTerminalStatus(text)
		_, marshal := outbox.TerminalStatus(text).MarshalText()
		_, value := outbox.TerminalStatus(text).Value()
		for what, err := range map[string]error{
			"parse": parse, "marshal": marshal, "value": value,
			"unmarshal": status.UnmarshalText([]byte(text)), "scan": status.Scan(text), "scan of bytes": status.Scan([]byte(text)),
		} {
			if !errors.Is(err, outbox.ErrInvalidOutcome) {
				t.Errorf("%s of %q returns %v", what, text, err)
			}
		}
		if status != "" {
			t.Errorf("%q left the status %q behind", text, status)
		}
	}
	var status outbox.TerminalStatus
	for _, src := range []any{nil, int64(1), true} {
		if err := status.Scan(src); !errors.Is(err, outbox.ErrInvalidOutcome) {
			t.Errorf("scan of %T returns %v", src, err)
		}
	}
}
