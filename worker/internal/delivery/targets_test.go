package delivery

import (
	"fmt"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
)

func TestTheCacheOfURLsHoldsTheirNormalFormAndIsBounded(t *testing.T) {
	t.Parallel()
	var known targets
	for i := range 3 * targetsKept {
		raw := fmt.Sprintf("https://EXAMPLE.com/a b/%d", i/2) // each URL twice
		normal, endpoint, err := callback.Normalize(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := known.normal(raw); err != nil || got.url.String() != normal || got.endpoint != endpoint {
			t.Fatalf("%q becomes %v, %v; want %q at %q", raw, got, err, normal, endpoint)
		}
		if len(known.of) > targetsKept {
			t.Fatalf("the cache holds %d URLs, want %d at most", len(known.of), targetsKept)
		}
	}
	if _, err := known.normal("ftp://example.com"); err == nil || known.of["ftp://example.com"] != (target{}) {
		t.Errorf("a URL that nothing can be delivered to returns %v, want an error, and must not be in the cache", err)
	}
}
