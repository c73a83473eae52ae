package header_test

import (
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/header"
)

func TestKeysThatBecomeEqualKeepTheLastOnesValue(t *testing.T) {
	t.Parallel()
	got := header.Clean(map[string]string{"k\x00": "1", "k\xff": "2", "k": "3"})
	if len(got) != 2 || got["k�"] != "2" || got["k"] != "3" {
		t.Errorf("Clean returns %q", got)
	}
	if n := header.Size(got); n != len(`{"k":"3","k�":"2"}`) {
		t.Errorf("they take %d bytes", n)
	}
}
