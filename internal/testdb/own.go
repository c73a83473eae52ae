package testdb

import (
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// OwnServer returns a server that only this test uses, and that it may crash and restart. fsync is on, so that a crash loses
// only what it would lose in production. Use [NewAt] for a schema on it.
func OwnServer(t testing.TB) *throwaway.Server {
	t.Helper()
	return ownServer(t, throwaway.Options{Settings: map[string]string{"fsync": "on"}})
}

func ownServer(t testing.TB, o throwaway.Options) *throwaway.Server {
	t.Helper()
	o.Own, o.Memory, o.Log = true, true, t.Logf
	server, err := throwaway.Start(t.Context(), o)
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("testdb: %v", err)
		}
	})
	return server
}
