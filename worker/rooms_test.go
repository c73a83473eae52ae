package worker

import (
	"os/exec"
	"strings"
	"testing"
)

// TestTheRoomsDoNotReachIntoEachOther: what each room must not link, and why.
func TestTheRoomsDoNotReachIntoEachOther(t *testing.T) {
	t.Parallel()
	const module = "github.com/seed-abbacb8b/epilogue/"
	const (
		pure    = "a decision is a function of state and time: no I/O"
		noSQL   = "one attempt is made of an URL and a body, wherever they came from"
		noHTTP  = "statements and their rows know nothing of requests"
		noRiver = "River carries the drain, which is the worker's affair"
		noRooms = "the rooms do not know each other: worker translates between them"
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
			"net/http": noHTTP, "github.com/riverqueue/river": noRiver, "log/slog": "what went wrong is returned: the worker says it",
			module + "worker/internal/schedule": noRooms, module + "worker/internal/delivery": noRooms, module + "worker": upwards,
		},
		"database": {
			"net/http": noHTTP, "github.com/riverqueue/river": noRiver, module + "worker/internal/postgres": "connections know no statement of the outbox",
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

// importsOf are the packages that a package's own files import, without its tests.
func importsOf(t *testing.T, pattern string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, pattern).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}
