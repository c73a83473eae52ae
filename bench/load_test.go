package main

import (
	"encoding/json"
	"testing"
)

func TestABodyTellsItsTrialAndNumber(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 255, 1 << 20} {
		body := load{trial: 0xfeed, urls: []string{"http://127.0.0.1/hook"}}.body(n)
		if len(body) != bodyBytes || !json.Valid(body) {
			t.Fatalf("%s: %d bytes, JSON: %v; want %d bytes of JSON", body, len(body), json.Valid(body), bodyBytes)
		}
		if trial, number, ok := parseBody(body); !ok || trial != 0xfeed || number != n {
			t.Errorf("body %d reads as trial %x, number %d, %v", n, trial, number, ok)
		}
	}
	if _, _, ok := parseBody(make([]byte, bodyBytes)); ok {
		t.Error("what is not one of our bodies reads as one")
	}
}

func TestOnlyKeepsWhatItNames(t *testing.T) {
	t.Parallel()
	all := []scenario{
		{name: "a", contenders: []contender{{name: "x"}, {name: "y"}}},
		{name: "b", contenders: []contender{{name: "x"}}},
		{name: "c", contenders: []contender{{name: "x"}, {name: "y"}, {name: "z"}}},
	}
	kept, err := chosen(all, "c/z, a,c/x")
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) != 2 || kept[0].name != "a" || len(kept[0].contenders) != 2 || kept[1].name != "c" ||
		len(kept[1].contenders) != 2 || kept[1].contenders[0].name != "x" || kept[1].contenders[1].name != "z" {
		t.Errorf("kept %+v", kept)
	}
	if len(all[2].contenders) != 3 || all[2].contenders[1].name != "y" {
		t.Error("choosing changed what there is")
	}
	for _, unknown := range []string{"d", "a/z", "a,,b"} {
		if _, err := chosen(all, unknown); err == nil {
			t.Errorf("-only %q: no error", unknown)
		}
	}
}

func TestFlatnessComparesTheLastQuarterWithTheFirst(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arrived []int64
		want    float64
	}{
		"even":              {[]int64{10, 20, 30, 40, 50, 60, 70, 80}, 1},
		"in another order":  {[]int64{80, 20, 30, 10, 50, 60, 70, 40}, 1},
		"half as fast last": {[]int64{10, 20, 30, 40, 50, 60, 80, 100}, 0.5},
		"one message":       {[]int64{10}, 0},
	} {
		if got := flatness(c.arrived); got != c.want {
			t.Errorf("%s: %v; want %v", name, got, c.want)
		}
	}
}
