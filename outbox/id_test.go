package outbox_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/internal/fixture"
)

func TestAnIDIsAUUIDOfVersion7WithTheTimeOfItsMaking(t *testing.T) {
	t.Parallel()
	for range 1000 {
		before := time.Now().Truncate(time.Millisecond)
		id := outbox.NewID()
		after := time.Now()
		if id[6]>>4 != 7 || id[8]>>6 != 0b10 {
			t.Fatalf("%s has version %d and variant %b", id, id[6]>>4, id[8]>>6)
		}
		if made := id.Time(); made.Before(before) || made.After(after) {
			t.Fatalf("%s was made at %v, not within %v and %v", id, made, before, after)
		}
	}
}

func TestIDsAreOrderedByTheTimeOfTheirMaking(t *testing.T) {
	t.Parallel()
	const step = 250 * time.Nanosecond // what an id resolves, in whole numbers
	previous, at := outbox.NewID(), time.Now()
	for range 1000 {
		for now := time.Now(); now.Sub(at) < 2*step; now = time.Now() { // let the clock tick
		}
		at = time.Now()
		id := outbox.NewID()
		if bytes.Compare(previous[:], id[:]) >= 0 || previous.String() >= id.String() {
			t.Fatalf("%s is not before %s", previous, id)
		}
		previous = id
	}
}

func TestIDsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[outbox.ID]bool{}
	for range 10_000 {
		id := outbox.NewID()
		if seen[id] {
			t.Fatalf("%s twice", id)
		}
		seen[id] = true
	}
}

func TestAnIDComesBackFromTextJSONAndSQL(t *testing.T) {
	t.Parallel()
	db := testdb.NewEmpty(t)
	id := outbox.NewID()
	if back, err := outbox.ParseID(id.String()); back != id || err != nil {
		t.Errorf("ParseID(%s) returns %s, %v", id, back, err)
	}
	if back, err := outbox.ParseID(strings.ToUpper(id.String())); back != id || err != nil {
		t.Errorf("in capitals: %s, %v", back, err)
	}
	text, err := json.Marshal(id)
	must(t, err)
	var back outbox.ID
	must(t, json.Unmarshal(text, &back))
	if back != id || string(text) != `"`+id.String()+`"` {
		t.Errorf("%s came back from %s as %s", id, text, back)
	}
	if back := fixture.One[outbox.ID](t, db.Pool, "SELECT $1::uuid", id); back != id {
		t.Errorf("%s came back from SQL as %s", id, back)
	}
	if got := fixture.One[string](t, db.Pool, "SELECT $1::uuid::text", id); got != id.String() {
		t.Errorf("SQL writes %s as %s", id, got)
	}
	if err := db.Pool.QueryRow(t.Context(), "SELECT NULL::uuid").Scan(&back); !errors.Is(err, outbox.ErrInvalidID) {
		t.Errorf("NULL gives %v", err)
	}
}

func TestWhatIsNotAnIDIsRefused(t *testing.T) {
	t.Parallel()
	id := outbox.NewID().String()
	for _, s := range []string{
		"", "x", id[:35], id + "0", id[1:], strings.ReplaceAll(id, "-", ""), "{" + id + "}", "urn:uuid:" + id,
		strings.Replace(id, "-", "0", 1), id[:35] + "g", strings.Repeat("0", 36), strings.Repeat("-", 36), " " + id[1:],
		strings.Repeat("a", 1000),
	} {
		got, err := outbox.ParseID(s)
		if !errors.Is(err, outbox.ErrInvalidID) || got != (outbox.ID{}) {
			t.Errorf("ParseID(%.50q) returns %s, %v", s, got, err)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("the error about %.20q has %d bytes", s, len(err.Error()))
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10")
	f.Add("0190B7A5-5C3E-7C3A-9B1E-2F7D3C6A8E10")
	f.Add("0190b7a55c3e7c3a9b1e2f7d3c6a8e10")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := outbox.ParseID(s)
		if err != nil {
			if !errors.Is(err, outbox.ErrInvalidID) || id != (outbox.ID{}) {
				t.Errorf("ParseID(%q) returns %s, %v", s, id, err)
			}
			return
		}
		if !strings.EqualFold(id.String(), s) {
			t.Errorf("ParseID(%q) is written as %s", s, id)
		}
	})
}
