package header_test

import (
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/header"
)

func TestKeysThatBecomeEqualKeepTheLastOnesValue(t *testing.T) {
	t.Parallel()
	got := header.Clean(map[string]string{"k\x00": "1", "k\xff": "2", "k": "3"})
	if len(got) != 2 || got["k�"] != "2" || got["k"] != "3" {
		t.Errorf("Clean returns %q, want two keys, with the values 2 and 3", got)
	}
	if n := header.Size(got); n != len(`{"k":"3","k�":"2"}`) {
		t.Errorf("Size returns %d, want the length of their JSON", n)
	}
}
