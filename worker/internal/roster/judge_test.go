package roster

import (
	"slices"
	"testing"
	"time"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return began.Add(d) }

// other is the result of a probe of a worker whose row names a session.
func other(free bool, pid int32) probed {
	return probed{registration: registration{name: "other", pid: pid}, lease: 30 * time.Second, free: free}
}

// TestADeathIsBelievedAfterTwoProbesOfASessionThatIsOldEnough has a case for each rule of the judgement.
func TestADeathIsBelievedAfterTwoProbesOfASessionThatIsOldEnough(t *testing.T) {
	t.Parallel()
	type look struct {
		after time.Duration
		probed
	}
	for name, c := range map[string]struct {
		looks []look
		want  bool
	}{
		"free twice":                        {[]look{{10 * time.Second, other(true, 1)}, {10*time.Second + probeEvery, other(true, 1)}}, true},
		"free once: it changes its session": {[]look{{10 * time.Second, other(true, 1)}}, false},
		"free twice, too close together":    {[]look{{10 * time.Second, other(true, 1)}, {10*time.Second + probeEvery/2, other(true, 1)}}, false},
		"it took its lock again between":    {[]look{{10 * time.Second, other(true, 1)}, {11 * time.Second, other(false, 1)}, {12 * time.Second, other(true, 1)}}, false},
		"it registered again between":       {[]look{{10 * time.Second, other(true, 1)}, {11 * time.Second, other(true, 2)}}, false},
		"the server may have begun anew":    {[]look{{0, other(true, 1)}, {4 * time.Second, other(true, 1)}}, false},
		"and five seconds have passed":      {[]look{{0, other(true, 1)}, {grace, other(true, 1)}}, true},
	} {
		j := newJudge(began)
		var verify []*suspect
		for _, l := range c.looks {
			verify, _ = j.probe([]probed{l.probed}, at(l.after))
		}
		if got := len(verify) == 1; got != c.want {
			t.Errorf("%s: is the death believed? got %v, want %v", name, got, c.want)
		}
	}
}

// TestADeadWorkerIsListedUntilItsLeasesEnd: it is probed as long, because it may live after all.
func TestADeadWorkerIsListedUntilItsLeasesEnd(t *testing.T) {
	t.Parallel()
	j := newJudge(began)
	j.probe([]probed{other(true, 1)}, at(9*time.Second))
	verify, _ := j.probe([]probed{other(true, 1)}, at(10*time.Second))
	if names := j.dead(at(10 * time.Second)); len(names) > 0 {
		t.Errorf("dead before the verification: %v, want none", names)
	}
	verify[0].died = at(10 * time.Second)
	if names := j.dead(at(40 * time.Second)); !slices.Equal(names, []string{"other"}) {
		t.Errorf("dead: %v, want other", names)
	}
	if verify, watch := j.probe([]probed{other(true, 1)}, at(40*time.Second)); len(verify) > 0 || !watch {
		t.Error("a known death is verified again, or the worker is no longer watched")
	}
	if _, watch := j.probe([]probed{other(true, 1)}, at(41*time.Second)); watch || len(j.dead(at(41*time.Second))) > 0 {
		t.Error("the worker is listed as dead for longer than its lease")
	}
	if j.probe([]probed{other(false, 2)}, at(42*time.Second)); len(j.dead(at(42*time.Second))) > 0 {
		t.Error("a worker that holds its lock is listed as dead")
	}
}
