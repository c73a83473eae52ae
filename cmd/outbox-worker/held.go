package main

import (
	"fmt"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// heldText says in full why a message is not tried, since when and until when; nothing when nothing holds it back.
func heldText(h operator.Hold, now time.Time) string {
	if h.HeldBy == nil {
		return ""
	}
	text := "held back"
	if h.HeldSince != nil {
		text += " since " + clockTime(now, *h.HeldSince)
	}
	if *h.HeldBy != operator.HeldByPause && h.HeldUntil != nil {
		text += ", until " + clockTime(now, *h.HeldUntil)
	}
	return text + ": " + heldWhy(h)
}

// heldShort says the same in a cell of a table.
func heldShort(h operator.Hold, now time.Time) string {
	if h.HeldBy == nil {
		return ""
	}
	text := printable(*h.HeldBy)
	if h.HeldScope != nil && *h.HeldScope == "tenant" {
		text = "tenant: " + text
	}
	switch {
	case *h.HeldBy == operator.HeldByPause && h.HeldSince != nil:
		text += " " + ago(now, *h.HeldSince)
	case *h.HeldBy != operator.HeldByPause && h.HeldUntil != nil:
		text += ", resumes " + until(now, *h.HeldUntil)
	}
	if h.HeldReason != nil && *h.HeldReason != *h.HeldBy {
		text += ": " + cell(*h.HeldReason, 80)
	}
	return text
}

// heldWhy names what holds back what.
func heldWhy(h operator.Hold) string {
	reason := ""
	if h.HeldReason != nil && *h.HeldReason != *h.HeldBy {
		reason = ": " + printable(*h.HeldReason)
	}
	what := "the message"
	switch {
	case h.HeldScope == nil:
	case *h.HeldScope == "tenant":
		what = "the tenant at the endpoint"
	default:
		what = "the " + printable(*h.HeldScope)
	}
	switch *h.HeldBy {
	case operator.HeldByPause:
		return what + " is paused" + reason
	case operator.HeldByBreaker:
		return "the circuit breaker of " + what + " is open" + reason
	case operator.HeldByRetryAfter:
		return what + " asked for it (Retry-After)" + reason
	case operator.HeldByRate:
		return "the rate limit of " + what + " is used up" + reason
	case operator.HeldByWorker:
		return "the worker lacks what it needs" + reason
	}
	return printable(*h.HeldBy) + reason
}

// clockTime is a time of the day, or a date as well when that is another one, and how far away it is.
func clockTime(now, t time.Time) string {
	distance := ago(now, t)
	if t.After(now) {
		distance = until(now, t)
	}
	if farFrom(now, t) != "" {
		return distance
	}
	layout := "15:04"
	if now.UTC().Format(time.DateOnly) != t.UTC().Format(time.DateOnly) {
		layout = "2006-01-02 15:04"
	}
	return fmt.Sprintf("%s UTC (%s)", t.UTC().Format(layout), distance)
}
