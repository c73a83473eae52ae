package recording

import "github.com/seed-abbacb8b/epilogue/internal/instruments"

// newDropped makes the counter of results that are given up. The counter's other labels are of other packages.
func newDropped(m *instruments.Maker) instruments.Counter {
	return m.Counter("outbox.dropped", "{event}", "What this process dropped because a bound was reached: answers are then delivered again.").With("what", "answer").FromZero()
}
