package worker

import (
	"os/exec"
	"strings"
	"testing"
)

// TestTheRoomsDoNotReachIntoEachOther: a room is a package in worker/internal. The table says what each must not import, and
// why.
func TestTheRoomsDoNotReachIntoEachOther(t *testing.T) {
	t.Parallel()
	const module = "github.com/seed-abbacb8b/epilogue/"
	const (
		pure    = "a decision is a function of state and time: no I/O"
		noSQL   = "an attempt needs a URL and a body only, wherever they came from"
		noHTTP  = "statements and rows are independent of HTTP requests"
		noRiver = "only package worker knows that a drain is a River job"
		noRooms = "the rooms are independent of each other: package worker translates between them"
		upwards = "imports point down"
	)
	for room, forbidden := range map[string]map[string]string{
		"schedule": {
			"net": pure, "os": pure, "context": pure, "log/slog": pure, "math/rand/v2": pure, "github.com/jackc/pgx/v5": pure,
			"github.com/riverqueue/river": noRiver, module + "outbox": pure,
			module + "worker/internal/delivery": noRooms, module + "worker/internal/postgres": noRooms, module + "worker": upwards,
		},
		"delivery": {
			"github.com/jackc/pgx/v5/pgxpool": noSQL, "database/sql": noSQL, "github.com/riverqueue/river": noRiver,
			module + "worker/internal/schedule": noRooms, module + "worker/internal/postgres": noRooms, module + "worker": upwards,
		},
		"postgres": {
			"net/http": noHTTP, "github.com/riverqueue/river": noRiver, "log/slog": "faults are returned, and package worker logs them",
			module + "worker/internal/schedule": noRooms, module + "worker/internal/delivery": noRooms, module + "worker": upwards,
		},
		"database": {
			"net/http": noHTTP, "github.com/riverqueue/river": noRiver, module + "worker/internal/postgres": "connections are independent of the outbox's statements",
			module + "worker/internal/schedule": noRooms, module + "worker/internal/delivery": noRooms, module + "worker": upwards,
		},
		"recording": {
			"net/http": noHTTP, "github.com/riverqueue/river": noRiver, module + "worker/internal/delivery": noRooms, module + "worker": upwards,
		},
		"roster": {
			"net/http": noHTTP, "github.com/riverqueue/river": noRiver,
			module + "worker/internal/schedule": noRooms, module + "worker/internal/delivery": noRooms, module + "worker/internal/postgres": noRooms,
			module + "worker/internal/database": noRooms, module + "worker": upwards,
		},
	} {
		for _, imported := range importsOf(t, "./internal/"+room) {
			if why, no := forbidden[imported]; no {
				t.Errorf("%s imports %s: %s", room, imported, why)
			}
		}
	}
}

// importsOf returns what the files of a package import, without its tests.
func importsOf(t *testing.T, pattern string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, pattern).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}
