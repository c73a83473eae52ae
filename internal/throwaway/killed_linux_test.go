package throwaway

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestAKilledParentTakesItsServerAlong(t *testing.T) {
	temp := ownTemp(t)
	parent, server := startHelper(t)
	sweep(t.Context(), t.Logf) // must leave what a living parent has alone
	if got := query(t, server.URL, "SELECT 1::text"); got != "1" {
		t.Fatalf("SELECT 1 gives %q", got)
	}
	must(t, parent.Process.Kill())
	_ = parent.Wait() // it says that it was killed

	eventually(t, "the server of the killed parent ends", func() bool { return processGone(server.PID) })
	if conn, err := pgx.Connect(t.Context(), server.URL); err == nil {
		_ = conn.Close(t.Context())
		t.Error("it still answers")
	}
	if _, err := os.Stat(server.Dir); err != nil {
		t.Fatalf("its directory: %v", err)
	}
	eventually(t, "the sweep removes its directory", func() bool {
		sweep(t.Context(), t.Logf)
		_, err := os.Stat(server.Dir)
		return errors.Is(err, fs.ErrNotExist)
	})
	mustBeEmpty(t, temp)
}
