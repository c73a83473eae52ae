package outbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/seed-abbacb8b/epilogue/internal/header"
)

// keepHeaders returns headers that the tables can hold. It takes them in the order of their names, and leaves out those that exceed
// HeadersBytesMax; the fault then says how large all of them were.
func keepHeaders(headers map[string]string) (kept map[string]string, fault string) {
	clean := header.Clean(headers)
	size := header.Size(clean)
	if size <= HeadersBytesMax {
		return clean, ""
	}
	kept, bytes := map[string]string{}, len("{}")
	for _, key := range slices.Sorted(maps.Keys(clean)) {
		pair := header.Size(map[string]string{key: clean[key]}) - 1 // its braces, less the comma
		if bytes+pair <= HeadersBytesMax {
			kept[key], bytes = clean[key], bytes+pair
		}
	}
	return kept, fmt.Sprintf("headers: %d bytes as JSON, the limit is %d; those that fit are kept", size, HeadersBytesMax)
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings and our own structs always encode
	}
	return string(text)
}
