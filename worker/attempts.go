package worker

import (
	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// attemptMetrics are what the senders measure of attempts.
type attemptMetrics struct {
	counts     map[attemptKind]instruments.Counter
	durations  map[string]instruments.Histogram // by class
	firstDelay instruments.Histogram
	named      namedAttempts
}

// attemptKind is how an attempt ended, as the labels of metrics say it.
type attemptKind struct {
	class       string
	statusClass int // 2 for 2xx; 0 when no answer came
}

var attemptClasses = []string{
	delivery.ClassDelivered, delivery.ClassStatus, delivery.ClassTimeout, delivery.ClassDNS, delivery.ClassConnect, delivery.ClassTLS,
	delivery.ClassReset, delivery.ClassProtocol, delivery.ClassBlocked,
}

var statusClasses = []string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// newAttemptMetrics returns none without a maker: then an attempt looks nothing up.
func newAttemptMetrics(m *instruments.Maker, named []string) attemptMetrics {
	if m == nil {
		return attemptMetrics{}
	}
	counter := m.Counter("outbox.attempts", "{attempt}", "Attempts to deliver, by how they ended.")
	return attemptMetrics{
		counts: attemptCounters(counter),
		durations: m.Histogram("outbox.attempt.duration", "s", "How long an attempt takes, from the lookup to the last byte of the answer that is read.",
			instruments.Requests).By("class", attemptClasses...),
		firstDelay: m.Histogram("outbox.first_attempt.delay", "s", "Time from a message's writing to its first attempt, by the database's clock.", instruments.Lives),
		named:      newNamedAttempts(m, named),
	}
}

// attemptCounters returns a counter for each way in which an attempt can end.
func attemptCounters(counter instruments.Counter) map[attemptKind]instruments.Counter {
	counts := map[attemptKind]instruments.Counter{}
	for _, class := range attemptClasses {
		for i, statusClass := range statusClasses {
			counts[attemptKind{class, i}] = counter.With("class", class, "status_class", statusClass)
		}
	}
	return counts
}

// made counts an attempt. An answer without a class was no attempt.
func (x *attemptMetrics) made(m *postgres.Message, a delivery.Answer) {
	if a.Class == "" {
		return
	}
	x.counts[attemptKind{a.Class, a.StatusCode / 100}].Add(1)
	x.durations[a.Class].Took(a.Duration)
	x.named.made(m, a)
	if m.Attempt == 1 && !m.WrittenAt.IsZero() {
		x.firstDelay.Took(a.StartedAt.Sub(m.WrittenAt))
	}
}
