package throwaway

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestTheServerOfAKilledParentEnds(t *testing.T) {
	temp := ownTemp(t)
	parent, server := startHelper(t)
	sweep(t.Context(), t.Logf) // must not touch the server of a parent that runs
	if got := query(t, server.URL, "SELECT 1::text"); got != "1" {
		t.Fatalf("SELECT 1 returns %q, want 1", got)
	}
	must(t, parent.Process.Kill())
	_ = parent.Wait() // its error is that it was killed

	eventually(t, "the server of the killed parent ends", func() bool { return processGone(server.PID) })
	if conn, err := pgx.Connect(t.Context(), server.URL); err == nil {
		_ = conn.Close(t.Context())
		t.Error("the server still answers after its parent was killed")
	}
	if _, err := os.Stat(server.Dir); err != nil {
		t.Fatalf("the directory of the server: %v, want it to be there until the sweep", err)
	}
	eventually(t, "the sweep removes its directory", func() bool {
		sweep(t.Context(), t.Logf)
		_, err := os.Stat(server.Dir)
		return errors.Is(err, fs.ErrNotExist)
	})
	mustBeEmpty(t, temp)
}
