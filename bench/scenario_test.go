package main

import "testing"

func TestScenariosAndTheirContendersAreFoundByTheirNames(t *testing.T) {
	t.Parallel()
	taken := map[string]bool{}
	for _, sc := range scenarios() {
		if taken[sc.name] {
			t.Errorf("two scenarios are called %s", sc.name)
		}
		taken[sc.name] = true
		if found, ok := scenarioNamed(sc.name); !ok || found.name != sc.name {
			t.Errorf("%s is not found by its name", sc.name)
		}
		contenders := map[string]bool{}
		for _, c := range sc.contenders {
			if contenders[c.name] {
				t.Errorf("%s: two contenders are called %s", sc.name, c.name)
			}
			contenders[c.name] = true
		}
		if len(sc.metrics) == 0 || len(sc.contenders) == 0 {
			t.Errorf("%s has %d contenders and %d metrics", sc.name, len(sc.contenders), len(sc.metrics))
		}
	}
	if _, ok := scenarioNamed("nothing"); ok {
		t.Error("a scenario is found that there is not")
	}
}

func TestTheFirstRoundThatCountsIsWarm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o    options
		sc   scenario
		want bool
	}{
		{options{rounds: 5}, scenario{}, true},
		{options{rounds: 1}, scenario{}, true},
		{options{rounds: 2, short: true}, scenario{}, true},
		{options{rounds: 1, short: true}, scenario{}, false}, // which only shows that all works
		{options{rounds: 5}, scenario{noWarmUp: true}, false},
	} {
		if got := c.o.warmsUp(c.sc); got != c.want {
			t.Errorf("%+v, %+v: %v; want %v", c.o, c.sc, got, c.want)
		}
	}
}

func TestALongScenarioMakesFewerRounds(t *testing.T) {
	t.Parallel()
	o := options{rounds: 5}
	for most, want := range map[int]int{0: 5, 2: 2, 5: 5, 9: 5} {
		if got := o.roundsOf(scenario{roundsMax: most}); got != want {
			t.Errorf("at most %d: %d rounds; want %d", most, got, want)
		}
	}
}
