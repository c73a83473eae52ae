package main

import "testing"

func TestTheOptionOnlyKeepsTheScenariosThatItNames(t *testing.T) {
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
		t.Errorf("kept %+v; want a whole, and x and z of c", kept)
	}
	if len(all[2].contenders) != 3 || all[2].contenders[1].name != "y" {
		t.Error("chosen changed the list that it got")
	}
	for _, unknown := range []string{"d", "a/z", "a,,b"} {
		if _, err := chosen(all, unknown); err == nil {
			t.Errorf("-only %q returns no error, want one", unknown)
		}
	}
}
