package main

import (
	"slices"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
)

// backlogGrain is added to both sides of the backlog's growth: a difference of a few messages is no growth,
// but what a single claim happens to find.
const backlogGrain = 50

// part is a stretch of time.
type part struct{ from, until time.Time }

func (p part) holds(at time.Time) bool { return !at.Before(p.from) && at.Before(p.until) }

// outerThirds are the first and the last third of the writing, without its beginning.
func (e endured) outerThirds(beginning time.Duration) (first, last part) {
	from := e.begun.Add(beginning)
	third := e.ended.Sub(from) / 3
	return part{from, from.Add(third)}, part{e.ended.Add(-third), e.ended}
}

// judge adds the figures. Growth is judged only in the full size: a few seconds do not show whether it levels off, and the
// server looks for dead rows once a minute.
func (e endured) judge(s size, found report.Sample) {
	all := e.waits(part{e.begun, e.ended})
	found["rate"] = float64(len(e.committed)) / e.ended.Sub(e.begun).Seconds()
	found["p50"], found["p99"] = report.Quantile(all, 0.5), report.Quantile(all, 0.99)
	found["backlog"] = e.mean(part{e.begun, e.ended}, func(l soakLook) float64 { return l.backlog })
	if s != full {
		return
	}
	first, last := e.outerThirds(time.Minute)
	growth := func(name string, grain float64, of func(soakLook) float64) {
		if before := e.mean(first, of); before > 0 || grain > 0 {
			found[name] = (e.mean(last, of) + grain) / (before + grain)
		}
	}
	growth("backlog_growth", backlogGrain, func(l soakLook) float64 { return l.backlog })
	growth("rss_growth", 0, func(l soakLook) float64 { return l.resident })
	growth("dead_growth", 0, func(l soakLook) float64 { return l.dead })
	found["p99_growth"] = report.Quantile(e.waits(last), 0.99) / report.Quantile(e.waits(first), 0.99)
}

// waits are the times from commit to arrival, in milliseconds and sorted, of the messages that were committed in p and
// whose first request succeeded.
func (e endured) waits(p part) []float64 {
	var took []float64
	for n, at := range e.committed {
		if p.holds(at) && !e.failedFirst[n] {
			took = append(took, float64(e.arrived[n]-at.UnixNano())/1e6)
		}
	}
	slices.Sort(took)
	return took
}

// mean of the values in p, 0 if there are none.
func (e endured) mean(p part, of func(soakLook) float64) float64 {
	sum, n := 0.0, 0
	for _, look := range e.seen {
		if p.holds(look.at) {
			sum += of(look)
			n++
		}
	}
	return sum / float64(max(n, 1))
}

// draw plots the curves: the values of the looks, and p99 and deliveries for each window.
func (e endured) draw(t *trial) {
	for _, look := range e.seen {
		x := look.at.Sub(e.begun).Seconds()
		t.Plot("backlog", x, look.backlog)
		t.Plot("dead", x, look.dead)
		t.Plot("indexes", x, look.indexes)
		if look.resident > 0 {
			t.Plot("rss", x, look.resident)
		}
	}
	window := pick(t.size, 500*time.Millisecond, 500*time.Millisecond, 10*time.Second)
	for from := e.begun; !from.Add(window).After(e.ended); from = from.Add(window) {
		p := part{from, from.Add(window)}
		x := p.until.Sub(e.begun).Seconds()
		if took := e.waits(p); len(took) > 0 {
			t.Plot("p99", x, report.Quantile(took, 0.99))
		}
		t.Plot("delivered", x, e.deliveries(p)/window.Seconds())
	}
}

// deliveries counts the messages that arrived in p, at any attempt.
func (e endured) deliveries(p part) float64 {
	n := 0
	for _, at := range e.arrived {
		if at >= p.from.UnixNano() && at < p.until.UnixNano() {
			n++
		}
	}
	return float64(n)
}
