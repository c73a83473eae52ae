package riverstep

import (
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// metrics are what this package measures.
type metrics struct {
	runner  instruments.Histogram
	settle  instruments.Histogram
	settled instruments.Counters
	again   instruments.Counters // transactions that are repeated, by cause
}

// How an attempt of a step was settled, other than by the end of the run; that end is named by its status.
const (
	settledNext     = "next"     // the run goes on with its next step
	settledReleased = "released" // the step failed, and is tried again
	settledLost     = "lost"     // another worker has it by now; nothing was written
	settledNot      = "snoozed"  // the database refused it; River tries the step again
)

// collisions are the causes of a repeated transaction, by SQLSTATE.
var collisions = map[string]string{"40001": "serialization", "40P01": "deadlock", lockNotAvailable: "lock"}

func newMetrics(m *instruments.Maker) metrics {
	ends := []string{settledNext, settledReleased, settledLost, settledNot}
	for _, status := range []outbox.TerminalStatus{outbox.Succeeded, outbox.Failed, outbox.Cancelled} {
		ends = append(ends, string(status))
	}
	return metrics{
		runner: m.Histogram("outbox.step.duration", "s", "How long a step's runner takes for one attempt.", instruments.Lives),
		settle: m.Histogram("outbox.step.settle.duration", "s", "How long it takes to settle an attempt of a step, repetitions included.", instruments.Statements),
		settled: m.Counter("outbox.step.settled", "{attempt}", "Attempts of steps that were settled, by what followed: next, released (tried again), lost, snoozed, or the run's end.").
			By("end", ends...),
		again: m.Counter("outbox.step.transactions_again", "{transaction}", "Transactions that were repeated because another session was in the way.").
			By("because", "serialization", "deadlock", "lock"),
	}
}

// settledAs counts a decision that was committed.
func (m *metrics) settledAs(d decision) {
	switch {
	case d.release:
		m.settled[settledReleased].Add(1)
	case d.next:
		m.settled[settledNext].Add(1)
	default:
		m.settled[string(d.status)].Add(1)
	}
}

func (m *metrics) ran(began time.Time) { m.runner.Since(began) }

func (m *metrics) madeAgain(err error) { m.again[collisions[sqlstate.Of(err)]].Add(1) }
