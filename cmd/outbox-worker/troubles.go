package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// trouble is a problem now, in one line. measure is its size, for thresholds.
type trouble struct {
	kind string // of the flags of check
	text string
	age  time.Duration
	n    int64
}

// Kinds of trouble, the worst first.
const (
	troubleWorkers   = "workers"
	troubleSample    = "sample"
	troubleOldest    = "oldest-due"
	troubleWaiting   = "waiting"
	troublePaused    = "paused"
	troubleBreakers  = "breakers"
	troubleDead      = "dead"
	troubleHorizon   = "horizon"
	troubleRetention = "retention"
)

// troublesOf lists the problems, the worst first: no worker, then what is not delivered, then what will be a problem later.
func troublesOf(workers []operator.WorkerStatus, x *operator.Sample, now time.Time) (all []trouble) {
	living := living(workers, now)
	if living == 0 {
		all = append(all, trouble{kind: troubleWorkers, text: workersLine(workers, now), n: 0})
	}
	switch {
	case x == nil:
		return append(all, trouble{kind: troubleSample, text: "no worker has measured the outbox yet"})
	case x.Stale(now):
		return append(all, trouble{kind: troubleSample, text: "the outbox was last measured " + ago(now, x.At), age: now.Sub(x.At)})
	}
	count := func(kind string, n *int64, one, many string) {
		if n != nil && *n > 0 {
			all = append(all, trouble{kind: kind, text: counted(*n, one, many), n: *n})
		}
	}
	since := func(kind string, at *time.Time, text string) {
		if at == nil {
			return
		}
		if age := x.At.Sub(*at); age >= time.Second { // shorter waits are normal
			all = append(all, trouble{kind: kind, text: fmt.Sprintf(text, span(age)), age: age})
		}
	}
	since(troubleOldest, x.OldestDue, "the oldest message that nothing holds back has been due for %s")
	for _, kind := range slices.Sorted(maps.Keys(x.Waits)) {
		n := x.Waits[kind]
		count(troubleWaiting, &n, "message waits for "+waitName(kind), "messages wait for "+waitName(kind))
	}
	count(troublePaused, x.Paused, "endpoint is paused", "endpoints are paused")
	count(troubleBreakers, x.BreakersOpen, "circuit breaker is open", "circuit breakers are open")
	dead := int64(0)
	for reason, n := range x.Dead {
		if reason != "cancelled" {
			dead += n
		}
	}
	count(troubleDead, &dead, "message is dead", "messages are dead")
	since(troubleHorizon, x.HorizonSince, "a transaction has kept vacuum from removing rows for %s")
	since(troubleRetention, x.RetentionFrom, "retention is behind by %s")
	return all
}

func living(workers []operator.WorkerStatus, now time.Time) (n int) {
	for _, w := range workers {
		if w.Lives(now) {
			n++
		}
	}
	return n
}

// waitName is a kind of outbox.due_count.waits_for in words.
func waitName(kind string) string {
	switch kind {
	case "signing_key":
		return "a signing key"
	case "proxy":
		return "the proxy"
	case "database":
		return "the database to take their attempt"
	}
	return "something that the workers lack"
}
