package report

import "slices"

// Promise is a row of the design's table of budgets. Its bounds are those of the scenario that measures it.
type Promise struct{ What, Target, Scenario string }

// furtherBounds are the bounds of all scenarios that are not in the design's table.
func furtherBounds(all []Scenario) []Scenario {
	promised := map[string]bool{}
	for _, p := range Promises() {
		promised[p.Scenario] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(sc Scenario) bool {
		return promised[sc.Name] || !slices.ContainsFunc(sc.Budgets, Budget.Bounded)
	})
}

// Promises are the design's budgets, in its order and its words.
func Promises() []Promise {
	return []Promise{
		{
			"drain, one endpoint, 256-byte bodies, against the bare POST loop",
			"≥ 0.6; and ≥ 2 × plain River tuned, ≥ 5 × a River job per outbox row", "drain",
		},
		{"the same with 1 000 endpoints", "≥ 0.5", "drain-1000"},
		{"WAL per message of 256 bytes, write and drain together", "≤ 1.6 KB (plain River: 2.8 KB)", "wal"},
		{
			"step ack + hook against the bare step ack, 16 writers, one pipeline",
			"≥ 0.75 of its transactions/s; ≥ 1.5 × a River insert", "write",
		},
		{
			"commit → first byte at the receiver, 200/s",
			"p50 ≤ 10 ms, p99 ≤ 40 ms with wake; p99 ≤ 2 poll intervals without", "latency",
		},
		{"drain with 10 million messages waiting, against 100 thousand", "≥ 0.9", "backlog"},
		{"drain with the MVCC horizon pinned for 1 million messages", "≥ 0.9 of unpinned, and flat", "pinned"},
		{
			"30 % of 100 endpoints hang until the timeout: p99 of the healthy ones",
			"≤ 1.2 × without them, after the first timeout", "hang",
		},
		{"one endpoint has 1 million waiting: p99 of the others' new messages", "≤ 1.5 × without it", "flood"},
		{"memory of a worker", "bounded by bytes in flight, not by the backlog; ≤ 64 MiB at rest", "memory"},
		{
			"recovery after kill -9 of the only worker",
			"first redelivery ≤ lease + 2 s after restart; a graceful stop releases at once", "recovery",
		},
	}
}
