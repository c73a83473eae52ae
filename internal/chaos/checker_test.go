package main

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(d time.Duration) time.Time { return start.Add(d) }

// wellEvidence is the evidence of a trial without faults: one run was delivered, and the receiver refused one.
func wellEvidence() evidence {
	return evidence{
		committed: []committed{
			{run: "a", writer: "pgx", status: "succeeded", origin: "http://o", forwarded: "note a", bodySum: sha256.Sum256([]byte("body a"))},
			{run: "b", writer: "pq", status: "failed", origin: "http://o", forwarded: "note b", bodySum: sha256.Sum256([]byte("body b"))},
		},
		messages: []message{
			{id: "id-a", run: "a", same: true, attempts: 2},
			{id: "id-b", run: "b", same: true, attempts: 1, deadReason: "refused"},
		},
		requests: []request{
			sent("a", failing, 0), sent("a", accepted, time.Second), sent("b", refusing, time.Second),
		},
		faults: func(from, to time.Time) []fault { return nil },
	}
}

// sent is a correct request for a run of wellEvidence.
func sent(run string, a answer, when time.Duration) request {
	status := map[string]string{"a": "succeeded", "b": "failed"}[run]
	return request{
		id: "id-" + run, run: run, origin: "http://o", begin: at(when), end: at(when + 10*time.Millisecond), answer: a, complete: true,
		bodySum: sha256.Sum256([]byte("body " + run)), status: status, forwarded: "note " + run,
	}
}

func TestTheCheckerFindsNoViolationInATrialWithoutFaults(t *testing.T) {
	t.Parallel()
	found := check(wellEvidence())
	if len(found.violations) > 0 {
		t.Errorf("the violations are %+v, want none", found.violations)
	}
	if found.delivered != 1 || found.dead != 1 || found.repeats != 0 {
		t.Errorf("the result is %+v, want one delivered, one dead, and no repeat", found)
	}
}

// TestTheCheckerNamesTheBrokenRule: each case breaks one promise, and the checker must say which.
func TestTheCheckerNamesTheBrokenRule(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule  string
		spoil func(e *evidence)
	}{
		"a committed run without a message": {"lost", func(e *evidence) { e.messages = e.messages[:1] }},
		"a run with two messages": {"twice", func(e *evidence) {
			e.messages = append(e.messages, message{id: "id-a2", run: "a", same: true})
		}},
		"a message of a run that was rolled back":  {"phantom", func(e *evidence) { e.messages = append(e.messages, message{id: "id-c", run: "c"}) }},
		"a request for a run that was rolled back": {"phantom", func(e *evidence) { e.requests = append(e.requests, sent("c", accepted, 0)) }},
		"a message that differs from the commit":   {"changed", func(e *evidence) { e.messages[0].same = false }},
		"a request with another body":              {"changed", func(e *evidence) { e.requests[1].bodySum[0] ^= 1 }},
		"a request with another header":            {"changed", func(e *evidence) { e.requests[1].forwarded = "note b" }},
		"a request with another status":            {"changed", func(e *evidence) { e.requests[1].status = "failed" }},
		"a request to another origin":              {"changed", func(e *evidence) { e.requests[1].origin = "http://p" }},
		"another id on the second attempt":         {"two ids", func(e *evidence) { e.requests[1].id = "id-x" }},
		"a message that nobody accepted":           {"unsent", func(e *evidence) { e.requests = e.requests[2:] }},
		"delivered, but every answer was a 500":    {"unsent", func(e *evidence) { e.requests[1].answer = failing }},
		"still due in the end":                     {"unsettled", func(e *evidence) { e.messages[0].due = true }},
		"refused without a refusal":                {"dead", func(e *evidence) { e.requests[2].answer = failing }},
		"exhausted long before its attempts are used up": {"dead", func(e *evidence) {
			e.messages[0].deadReason, e.messages[0].attempts = "exhausted", attemptsMax-1
		}},
		"poison without a cause": {"dead", func(e *evidence) { e.messages[0].deadReason = "poison" }},
		"sent again after it was accepted, and nothing had failed": {"repeat", func(e *evidence) {
			e.requests = append(e.requests, sent("a", accepted, 8*time.Second))
		}},
		"sent again twice, the second time without a fault": {"repeat", func(e *evidence) {
			e.requests = append(e.requests, sent("a", accepted, 8*time.Second), sent("a", accepted, 16*time.Second))
			e.faults = killedAt(4 * time.Second)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := wellEvidence()
			c.spoil(&e)
			found := check(e)
			if !slices.ContainsFunc(found.violations, func(v violation) bool { return v.rule == c.rule }) {
				t.Errorf("want a violation of %q, got %+v", c.rule, found.violations)
			}
		})
	}
}

// killedAt are the faults of a trial in which one worker was killed, and started again a second later.
func killedAt(when time.Duration) func(from, to time.Time) []fault {
	return func(from, to time.Time) []fault {
		f := fault{kind: "kill", touches: touches{workers: []int{0}}, begin: at(when), ended: at(when + time.Second)}
		if f.overlaps(from, to, 0) {
			return []fault{f}
		}
		return nil
	}
}

func TestTheCheckerAllowsWhatAtLeastOnceAllows(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(e *evidence){
		"a repeat after a worker was killed": func(e *evidence) {
			e.requests = append(e.requests, sent("a", accepted, 8*time.Second))
			e.faults = killedAt(4 * time.Second)
		},
		"a repeat after an answer that may have come too late": func(e *evidence) {
			e.requests[1].answer = slow
			e.requests = append(e.requests, sent("a", accepted, 3*time.Second))
		},
		"a request whose body did not arrive whole": func(e *evidence) {
			torn := sent("a", accepted, 500*time.Millisecond)
			torn.complete, torn.bodySum = false, [sha256.Size]byte{}
			e.requests = append(e.requests, torn)
		},
		"a row that somebody made by hand": func(e *evidence) {
			e.messages = append(e.messages, message{id: "id-p", run: "poison-1", deadReason: "poison"})
			e.poison = map[string]bool{"id-p": true}
		},
		"exhausted, after every attempt": func(e *evidence) {
			e.messages[0].deadReason, e.messages[0].attempts = "exhausted", attemptsMax
			e.requests[1].answer = failing
		},
	} {
		e := wellEvidence()
		change(&e)
		if found := check(e); len(found.violations) > 0 {
			t.Errorf("%s: the violations are %+v, want none", name, found.violations)
		}
	}
}

func TestEvidenceNamesTheFaultsBefore(t *testing.T) {
	t.Parallel()
	line := &timeline{}
	line.begin("kill", "worker-1", touches{workers: []int{1}}).end()
	now := time.Now()
	if text := line.around(now, now); !strings.Contains(text, "worker-1") {
		t.Errorf("the text is %q, want the fault of worker-1", text)
	}
	if text := line.around(now.Add(time.Hour), now.Add(time.Hour)); !strings.Contains(text, "no fault") {
		t.Errorf("the text is %q, want no fault", text)
	}
}
