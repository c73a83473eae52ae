package docs_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/event"
)

// TestTheEventOfThePageIsOneThatIsSent: its fields and values are those of the code, and the page names every type.
func TestTheEventOfThePageIsOneThatIsSent(t *testing.T) {
	t.Parallel()
	since, until := time.Date(2026, 3, 1, 9, 30, 2, 4e6, time.UTC), time.Date(2026, 3, 1, 9, 35, 0, 120e6, time.UTC)
	const lane, message = "https://hooks.example.com acme", "0195508a-5c3e-7c3a-9b1e-2f7d3c6a8e10"
	var sum event.Sum
	sum.Add(event.Note{At: since, Kind: event.MessageDead, Lane: lane, N: 12, Reason: "exhausted"})
	sum.Add(event.Note{At: until, Kind: event.MessageDead, Lane: lane, N: 300, Reason: "refused", MessageID: message})
	var sent, shown any
	must(t, json.Unmarshal(event.Body("outbox", "https://hooks.example.com", event.MessageDead, sum, until), &sent))
	found := ofLanguage(t, "json")
	if len(found) != 1 {
		t.Fatalf("%d blocks of JSON, want 1", len(found))
	}
	must(t, json.Unmarshal([]byte(found[0].text), &shown))
	if !reflect.DeepEqual(sent, shown) {
		t.Errorf("the page shows %v\nwant, as sent, %v", shown, sent)
	}
	page, err := os.ReadFile("events.md")
	must(t, err)
	for _, kind := range event.Kinds {
		if !strings.Contains(string(page), "`outbox."+string(kind)+"`") {
			t.Errorf("the page does not name outbox.%s", kind)
		}
	}
}
