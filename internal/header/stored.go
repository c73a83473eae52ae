package header

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
)

// Clean returns headers with keys and values that the tables can hold. Two keys that become equal keep the value of the one
// that sorts last.
func Clean(headers map[string]string) map[string]string {
	clean := make(map[string]string, len(headers))
	for _, key := range slices.Sorted(maps.Keys(headers)) {
		clean[cleantext.Of(key)] = cleantext.Of(headers[key])
	}
	return clean
}

// Size returns how many bytes clean headers take as JSON.
func Size(clean map[string]string) int {
	text, err := json.Marshal(clean)
	if err != nil {
		panic(err) // maps of strings always encode
	}
	return len(text)
}
