package recording

import "github.com/seed-abbacb8b/epilogue/internal/instruments"

// NewDropped makes the counter of what a process drops, for one kind of it.
func NewDropped(m *instruments.Maker, what string) instruments.Counter {
	return m.Counter("outbox.dropped", "{event}",
		"What this process dropped because a bound was reached or the database refused it: answers are then delivered again, the others are lost.").With("what", what).FromZero()
}
