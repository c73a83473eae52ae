package postgres

import (
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
)

// claimMetrics are what a Claimer measures.
type claimMetrics struct {
	duration instruments.Histogram
	messages instruments.Histogram
	refused  instruments.Counter
	aside    instruments.Counters
}

func newClaimMetrics(m *instruments.Maker) claimMetrics {
	return claimMetrics{
		duration: m.Histogram("outbox.claim.duration", "s", "How long a claim takes, the wait for a connection included.", instruments.Statements),
		messages: m.Histogram("outbox.claim.messages", "{message}", "Messages that a claim takes.", instruments.Batches),
		refused:  refusedStatements(m).With("statement", "claim").FromZero(),
		aside: m.Counter("outbox.set_aside", "{message}", "Messages and endpoints that claims set aside, so that the others could be claimed.").
			By("what", AsidePoison, AsidePaused, AsideExpired, AsideRemoved, AsideLeftOut),
	}
}

func refusedStatements(m *instruments.Maker) instruments.Counter {
	return m.Counter("outbox.refused_statements", "{statement}", "Statements that the database refused because of the content of a row.")
}

// claimed counts one statement of a claim.
func (m *claimMetrics) claimed(began time.Time, messages int, err error) {
	m.duration.Took(time.Since(began))
	switch {
	case err == nil:
		m.messages.Size(float64(messages))
	case refuses(err):
		m.refused.Add(1)
	}
}

func (m *claimMetrics) setAside(all []Aside) {
	for _, a := range all {
		m.aside[a.What].Add(max(len(a.IDs), 1))
	}
}

// scanMetrics are what a Scanner measures.
type scanMetrics struct{ full, recent instruments.Histogram }

func newScanMetrics(m *instruments.Maker) scanMetrics {
	duration := m.Histogram("outbox.scan.duration", "s", "How long a scan for candidates takes, the wait for a connection included.", instruments.Statements)
	return scanMetrics{full: duration.With("kind", "full"), recent: duration.With("kind", "recent")}
}

// recordMetrics are what a Recorder measures.
type recordMetrics struct {
	duration instruments.Histogram
	results  instruments.Histogram
	refused  instruments.Counter
	settled  instruments.Counters  // by result
	lives    instruments.Histogram // from writing to settlement
}

// resultDelivered is the result of a settled message that was delivered.
const resultDelivered = "delivered"

func newRecordMetrics(m *instruments.Maker) recordMetrics {
	return recordMetrics{
		duration: m.Histogram("outbox.record.duration", "s", "How long it takes to record a batch of results, the wait for a connection included.", instruments.Statements),
		results:  m.Histogram("outbox.record.results", "{result}", "Results in a batch that is recorded.", instruments.Batches),
		refused:  refusedStatements(m).With("statement", "record").FromZero(),
		settled: m.Counter("outbox.settled", "{message}", "Messages that this process settled: delivered, or given up for this reason.").
			By("result", resultDelivered, "refused", "gone", "exhausted", ReasonPoison),
		lives: m.Histogram("outbox.settlement.duration", "s", "Time from a message's writing to its settlement, by the database's clock.", instruments.Lives),
	}
}

// recorded counts one statement that recorded a batch, without the results whose indices are in held.
func (m *recordMetrics) recorded(began time.Time, batch []Result, held []int, err error) {
	now := time.Now()
	m.duration.Took(now.Sub(began))
	if err != nil {
		if IsRefusal(err) {
			m.refused.Add(1)
		}
		return
	}
	m.results.Size(float64(len(batch) - len(held)))
	delivered := 0
	for i := range batch {
		if len(held) > 0 && held[0] == i { // they are in the batch's order
			held = held[1:]
			continue
		}
		x := &batch[i]
		switch x.Action {
		case ActionDelivered:
			delivered++
		case ActionDead:
			m.settled[x.Reason].Add(1)
		default:
			continue
		}
		if !x.WrittenAt.IsZero() {
			m.lives.Took(now.Sub(x.WrittenAt))
		}
	}
	m.settled[resultDelivered].Add(delivered)
}
