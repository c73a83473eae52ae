package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// violation is a broken rule, and the time around which its cause lies.
type violation struct {
	rule     string
	what     string
	message  string // its id; "" if there is none
	from, to time.Time
}

// committed is an acknowledgement as its writer committed it.
type committed struct {
	run, writer, status, origin string
	forwarded                   string
	bodySum                     [sha256.Size]byte
}

// message is what the outbox has at the end.
type message struct {
	id, run    string
	same       bool // status, body, URL and headers are those of the acknowledgement, compared by the database
	due        bool
	deadReason string
	attempts   int // recorded, lost ones included
}

// evidence is all that the checker reads.
type evidence struct {
	committed []committed
	messages  []message
	requests  []request
	faults    func(from, to time.Time) []fault // the faults of this time that can repeat an accepted message
	// poison are messages that were written by hand, or that a trigger refuses: they may be sent again, or be dead as
	// poison.
	poison map[string]bool
	cutOff bool // the trial was interrupted, so messages may still be due
}

// result is what a check found.
type result struct {
	violations                        []violation
	delivered, dead, repeats, excused int
}

// checker checks the evidence.
type checker struct {
	evidence
	result
	byRun    map[string]*committed
	requests map[string][]request // by message id, in the order in which they began
}

// check compares what was committed, what the outbox says, and what arrived.
func check(e evidence) result {
	c := &checker{evidence: e, byRun: map[string]*committed{}, requests: map[string][]request{}}
	for i := range e.committed {
		c.byRun[e.committed[i].run] = &e.committed[i]
	}
	for _, q := range e.requests {
		c.requests[q.id] = append(c.requests[q.id], q)
	}
	c.checkMessages()
	c.checkRequests()
	for id, all := range c.requests {
		slices.SortFunc(all, func(a, b request) int { return a.begin.Compare(b.begin) })
		c.checkRepeats(id, all)
	}
	return c.result
}

func (c *checker) violate(rule, message string, from, to time.Time, format string, args ...any) {
	c.violations = append(c.violations, violation{rule: rule, what: fmt.Sprintf(format, args...), message: message, from: from, to: to})
}

// checkMessages checks that each committed run has one message, which holds what was committed and was settled for a reason.
func (c *checker) checkMessages() {
	messages := map[string][]message{}
	for _, m := range c.messages {
		messages[m.run] = append(messages[m.run], m)
		if c.byRun[m.run] == nil && !c.poison[m.id] {
			c.violate("phantom", m.id, time.Time{}, time.Time{}, "message %s is of run %s, which nobody committed", m.id, m.run)
		}
	}
	for _, a := range c.evidence.committed {
		switch of := messages[a.run]; {
		case len(of) == 0:
			c.violate("lost", "", time.Time{}, time.Time{}, "run %s of writer %s is committed and has no message", a.run, a.writer)
		case len(of) > 1:
			c.violate("twice", of[0].id, time.Time{}, time.Time{}, "run %s has %d messages: %s, %s", a.run, len(of), of[0].id, of[1].id)
		default:
			c.checkSettled(a, of[0])
		}
	}
}

// checkSettled checks that a delivered message was accepted by the receiver, and that a dead one has a reason from it.
func (c *checker) checkSettled(a committed, m message) {
	var answers [answers]int
	var from, to time.Time
	for _, q := range c.requests[m.id] {
		answers[q.answer]++
		from, to = q.begin, q.begin
	}
	if !m.same {
		c.violate("changed", m.id, from, to, "message %s differs from what run %s of writer %s committed", m.id, a.run, a.writer)
	}
	maybe := answers[accepted] + answers[slow] + answers[truncated]
	failed := answers[failing] + answers[limited] + answers[hanging] + answers[resetting] + answers[truncated] + answers[slow] + answers[garbage]
	switch {
	case m.due && c.cutOff:
	case m.due:
		c.violate("unsettled", m.id, from, to, "message %s of run %s (%s) is still due; answers: %s", m.id, a.run, a.origin, countsText(answers))
	case m.deadReason == "":
		c.delivered++
		if maybe == 0 {
			c.violate("unsent", m.id, from, to, "message %s of run %s is delivered, and the receiver accepted no request; answers: %s", m.id, a.run, countsText(answers))
		}
	case m.deadReason == "refused" && answers[refusing] > 0,
		m.deadReason == "exhausted" && failed > 0 && m.attempts >= attemptsMax,
		m.deadReason == "poison" && c.poison[m.id]:
		c.dead++
	default:
		c.violate("dead", m.id, from, to, "message %s of run %s is dead (%s) after %d attempts, and the receiver gave no reason for that; answers: %s",
			m.id, a.run, m.deadReason, m.attempts, countsText(answers))
	}
}

var answerNames = [answers]string{"accepted", "failing", "limited", "refusing", "hanging", "resetting", "truncated", "slow", "garbage"}

// countsText returns the count of each answer as text.
func countsText(n [answers]int) string {
	text := ""
	for a, n := range n {
		if n > 0 {
			text += fmt.Sprintf(" %d %s", n, answerNames[a])
		}
	}
	if text == "" {
		return "none"
	}
	return text[1:]
}

// checkRequests checks that each request is of a committed run, has that run's one id, and holds what was committed.
func (c *checker) checkRequests() {
	ids := map[string]string{}
	for _, q := range c.evidence.requests {
		if c.poison[q.id] {
			continue
		}
		a := c.byRun[q.run]
		switch {
		case a == nil:
			c.violate("phantom", q.id, q.begin, q.begin, "a request %s is of run %q, which nobody committed", q.id, q.run)
			continue
		case q.origin != a.origin:
			c.violate("changed", q.id, q.begin, q.begin, "a request %s of run %s went to %s in place of %s", q.id, q.run, q.origin, a.origin)
		case q.status != a.status || q.forwarded != a.forwarded:
			c.violate("changed", q.id, q.begin, q.begin, "a request %s of run %s has the headers %q, %q in place of %q, %q", q.id, q.run, q.status, q.forwarded, a.status, a.forwarded)
		case q.complete && !bytes.Equal(q.bodySum[:], a.bodySum[:]):
			c.violate("changed", q.id, q.begin, q.begin, "a request %s of run %s has a body that differs from the committed one", q.id, q.run)
		}
		if first, seen := ids[q.run]; seen && first != q.id {
			c.violate("two ids", q.id, q.begin, q.begin, "run %s was sent as %s and as %s", q.run, first, q.id)
		}
		ids[q.run] = q.id
	}
}

// checkRepeats checks that an accepted message was sent again only if a fault can have prevented the record of the answer.
func (c *checker) checkRepeats(id string, all []request) {
	for i, q := range all[1:] {
		first := slices.IndexFunc(all[:i+1], func(q request) bool { return q.answer == accepted && q.complete })
		if first < 0 {
			continue
		}
		c.repeats++
		before := all[first : i+1]
		if last := before[len(before)-1]; last.answer == accepted {
			before = before[len(before)-1:]
		}
		switch {
		case c.poison[id] || mayRepeat(c.faults(before[0].begin, q.begin), q.origin, id):
			c.excused++
		default:
			c.violate("repeat", id, before[0].begin, q.begin, "message %s of run %s was accepted at %s, and sent again at %s without any fault between",
				id, q.run, before[0].begin.Format(timeFormat), q.begin.Format(timeFormat))
		}
	}
}
