package stand

import (
	"encoding/json"
	"testing"
)

func TestABodyHoldsItsTrialAndNumber(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 255, 1 << 20} {
		body := Load{Trial: 0xfeed, URLs: []string{"http://127.0.0.1/hook"}}.Body(n)
		if len(body) != bodyBytes || !json.Valid(body) {
			t.Fatalf("%s: %d bytes, valid JSON: %v; want %d bytes of JSON", body, len(body), json.Valid(body), bodyBytes)
		}
		if trial, number, ok := parseBody(body); !ok || trial != 0xfeed || number != n {
			t.Errorf("body %d is read as trial %x, number %d, %v; want trial feed, number %d", n, trial, number, ok, n)
		}
	}
	if _, _, ok := parseBody(make([]byte, bodyBytes)); ok {
		t.Error("parseBody accepts bytes that are not one of our bodies")
	}
}

func TestARunIDHoldsItsNumber(t *testing.T) {
	t.Parallel()
	if n, err := NumberOf(RunID(41), 42); n != 41 || err != nil {
		t.Errorf("got %d, %v; want 41", n, err)
	}
	for _, id := range []string{RunID(42), "run--1", "run-", "41", "run-041"} {
		if n, err := NumberOf(id, 42); err == nil {
			t.Errorf("%q: got %d; want an error", id, n)
		}
	}
}
