package keyring_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/keyring"
	"github.com/seed-abbacb8b/epilogue/internal/leakcheck"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

func TestMain(m *testing.M) { leakcheck.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func generate(t testing.TB, kind webhook.Kind) webhook.Key {
	t.Helper()
	k, err := webhook.Generate(kind)
	must(t, err)
	return k
}

func hmacKey(t testing.TB) string { return generate(t, webhook.HMAC).Reveal() }

// write replaces the file in the way that the documentation asks for: by a rename.
func write(t testing.TB, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(content), 0o600))
	must(t, os.Rename(path+".new", path))
}

func newFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	write(t, path, content)
	return path
}

// age sets the file's time back, so that the next change alters that time.
func age(t testing.TB, path string, by time.Duration) {
	t.Helper()
	at := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC).Add(-by) // synctest's clock begins in 2000
	must(t, os.Chtimes(path, at, at))
}

func open(t testing.TB, entries, path string) (*keyring.Ring, *[]keyring.Event) {
	t.Helper()
	events := new([]keyring.Event)
	r, err := keyring.Open(entries, path, func(e keyring.Event) { *events = append(*events, e) })
	must(t, err)
	return r, events
}

// holds checks that the set has these keys, in this order.
func holds(t testing.TB, r *keyring.Ring, name string, want ...string) {
	t.Helper()
	keys, ok := r.Keys(name)
	if ok != (len(want) > 0) || len(keys) != len(want) {
		t.Fatalf("the set %q has the keys %v (there: %v), want %d keys", name, keys, ok, len(want))
	}
	for i, k := range keys {
		if k.Reveal() != want[i] {
			t.Fatalf("set %q: key %d is not the one that was wanted", name, i+1)
		}
	}
}
