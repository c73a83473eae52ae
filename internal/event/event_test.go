package event_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/keyname"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)

func TestASumHoldsTheScopeThatAllItsNotesShare(t *testing.T) {
	t.Parallel()
	for lanes, want := range map[string]string{
		"https://a.test":                                     "endpoint ",
		"https://a.test acme":                                "tenant acme",
		"https://a.test acme #1":                             "url acme",
		"https://a.test  #1":                                 "url ",
		"https://a.test acme|https://a.test acme":            "tenant acme",
		"https://a.test acme|https://a.test acme #1":         "tenant acme",
		"https://a.test acme|https://a.test other":           "endpoint ",
		"https://a.test acme #1|https://a.test b #2":         "url ",
		"https://a.test acme #1|https://a.test":              "endpoint ",
		"https://a.test a|https://a.test b|https://a.test a": "endpoint ",
	} {
		var s event.Sum
		for lane := range strings.SplitSeq(lanes, "|") {
			s.Add(event.Note{At: at, Kind: event.MessageDead, Lane: lane, N: 1})
		}
		if got := s.Scope + " " + s.Tenant; got != want {
			t.Errorf("%s: got %q, want %q", lanes, got, want)
		}
	}
}

func TestASumCountsAFewReasonsByThemselves(t *testing.T) {
	t.Parallel()
	var s event.Sum
	for i := range 100 {
		s.Add(event.Note{At: at, Kind: event.BreakerOpened, Lane: "https://a.test", N: 1, Reason: fmt.Sprintf("%d %s", i, strings.Repeat("ä", 500))})
	}
	if len(s.Reasons) > 17 || s.Reasons[event.OtherReasons] < 80 || s.N != 100 {
		t.Errorf("got %d reasons, want 17 at most; %d notes with another reason, want 80 at least; %d notes, want 100", len(s.Reasons), s.Reasons[event.OtherReasons], s.N)
	}
}

func TestEndpointsBeyondAThousandShareAnEvent(t *testing.T) {
	t.Parallel()
	var notes []event.Note
	for i := range 100_000 {
		notes = append(notes, event.Note{At: at, Kind: event.MessageDead, Lane: fmt.Sprintf("https://a%d.test", i), N: 1})
	}
	tell, wait := event.Decide(notes, nil)
	if len(tell) != 1001 || len(wait) != 0 {
		t.Fatalf("%d events are due, want 1001; %d wait, want none", len(tell), len(wait))
	}
	total := int64(0)
	for _, x := range tell {
		total += x.Sum.N
	}
	if total != 100_000 {
		t.Errorf("the events count %d notes, want 100000", total)
	}
}

func TestAMissingWorkerIsReportedOnce(t *testing.T) {
	t.Parallel()
	missing := event.Note{At: at, Kind: event.WorkerMissing, Lane: "host/12345678", N: 1, Reason: "host"}
	tell, _ := event.Decide([]event.Note{missing, missing}, nil)
	if len(tell) != 1 || tell[0].Sum.N != 1 {
		t.Fatalf("due: %+v, want one event that counts one", tell)
	}
	if tell, wait := event.Decide([]event.Note{missing}, []event.Told{{Endpoint: "host/12345678", Kind: event.WorkerMissing, Quiet: true}}); len(tell)+len(wait) != 0 {
		t.Errorf("after the report: due %+v, waiting %+v, want neither", tell, wait)
	}
}

func TestTheBodyIsTheDocumentedOne(t *testing.T) {
	t.Parallel()
	var s event.Sum
	s.Add(event.Note{At: at, Kind: event.MessageDead, Lane: "https://a.test acme", N: 3, Reason: "refused", MessageID: "m"})
	got := string(event.Body("outbox", "https://a.test", event.MessageDead, s, at))
	const want = `{"type":"outbox.message.dead","timestamp":"2026-01-02T03:04:05.678Z","data":{"outbox":"outbox","endpoint":"https://a.test","scope":"tenant",` +
		`"tenant":"acme","count":3,"since":"2026-01-02T03:04:05.678Z","until":"2026-01-02T03:04:05.678Z","reasons":{"refused":3},"message_id":"m"}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestNoSetOrTenantCanHaveTheNameThatMarksAnEvent: an older worker holds back the messages with this name, and no caller can
// write one.
func TestNoSetOrTenantCanHaveTheNameThatMarksAnEvent(t *testing.T) {
	t.Parallel()
	if keyname.Check(event.Mark) == nil {
		t.Error("a key set can have that name, want an error")
	}
	if err := (outbox.Options{SecretHeaders: event.Mark}).Validate(); err == nil {
		t.Error("a message can name that header set, want an error")
	}
	var o outbox.Options
	if err := json.Unmarshal([]byte(event.Options), &o); err != nil || o.SigningKey != event.Mark || o.SecretHeaders != event.Mark {
		t.Errorf("the options of an event are %+v, %v; want the mark as key set and header set", o, err)
	}
	if url, _, err := callback.Normalize(event.URL); err != nil || url != event.URL {
		t.Errorf("the URL of an event becomes %s, %v; want no change", url, err)
	}
	if _, err := outbox.CheckURL(event.Lane); err == nil {
		t.Error("a URL can have the lane of events, want an error")
	}
}
