package roster

import (
	"slices"
	"time"
)

const (
	// probeEvery is the time between two probes, while there is a worker to probe.
	probeEvery = 750 * time.Millisecond
	// grace is how long a new session declares no death: the server may have forgotten all locks a moment ago.
	grace = 5 * time.Second
	// believedFor is how long a death counts after the probe that showed it, in case no other probe succeeds.
	believedFor = 2 * time.Second
	// noticedAfter is how long it takes until every prober has seen that a worker has its lock again.
	noticedAfter = 3 * time.Second
)

// registration is the part of a worker's row that names the session with the lock. A worker that takes its lock again
// changes it.
type registration struct {
	name         string
	pid          int32
	backendStart time.Time
}

// probed is the result of one probe of another worker.
type probed struct {
	registration
	host  string
	lease time.Duration
	age   time.Duration // of the session that it names
	free  bool          // its lock
}

// judge decides who is dead, from the probes of one session. It is pure: state and a time in, a decision out.
type judge struct {
	since    time.Time // when the session got its own lock
	suspects map[string]*suspect
}

// suspect is a worker whose lock was free at the last probe.
type suspect struct {
	probed
	first time.Time // the probe that first found it so
	died  time.Time // when it was declared dead; zero before
}

func newJudge(now time.Time) *judge { return &judge{since: now, suspects: map[string]*suspect{}} }

// probe takes the answers of one probe, made at now. It returns those whose death must be verified. watch says that
// the next probe must be made soon: another worker lives, or has died a moment ago.
func (j *judge) probe(answers []probed, asked time.Time) (verify []*suspect, watch bool) {
	before := j.suspects
	j.suspects = map[string]*suspect{}
	for _, a := range answers {
		if !a.free {
			watch = true
			continue
		}
		s := before[a.name]
		if s == nil || s.registration != a.registration {
			s = &suspect{first: asked}
		}
		s.probed = a
		j.suspects[a.name] = s
		watch = watch || s.died.IsZero() || s.counts(asked)
		if s.died.IsZero() && asked.Sub(s.first) >= probeEvery && asked.Sub(j.since) >= grace {
			verify = append(verify, s)
		}
	}
	return verify, watch
}

// counts says that a dead worker may still have something under a lease.
func (s *suspect) counts(now time.Time) bool {
	return !s.died.IsZero() && now.Sub(s.died) <= s.lease
}

// dead are the names of dead workers that may still have something under a lease.
func (j *judge) dead(now time.Time) (names []string) {
	for name, s := range j.suspects {
		if s.counts(now) {
			names = append(names, name)
		}
	}
	return names
}

// believes says whether another worker has had its lock for long enough to declare a death, or nearly so.
func believes(others []probed) bool {
	return slices.ContainsFunc(others, func(o probed) bool { return !o.free && o.age >= grace-2*probeEvery })
}
