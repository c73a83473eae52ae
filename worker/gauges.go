package worker

import (
	"context"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
)

// watch exports the state of this worker's parts, until its instruments are closed. It makes no query.
func (w *Worker) watch(m *instruments.Maker) {
	w.loops.clocks.Measure(m)
	w.samples.watch(m)
	inFlight := m.Gauge("outbox.requests.in_flight", "{request}", "Requests in flight.")
	inFlightMax := m.Gauge("outbox.requests.in_flight.limit", "{request}", "Requests that may be in flight (MaxInFlight).")
	waiting := m.Gauge("outbox.slot.waiting", "{message}", "Claimed messages that wait for a slot of their endpoint.")
	held := m.Gauge("outbox.large_bodies", "By", "Bytes of bodies over 64 KiB that are held.")
	unrecorded := m.Gauge("outbox.unrecorded.age", "s", "How long the oldest answer has waited to be recorded; 0 when none waits.")
	ready := m.Gauge("outbox.ready", "", "1 when the worker is ready, 0 when something keeps it from delivering, as /readyz says.")
	m.Watch(func(seen instruments.Seen) {
		seen(inFlight, float64(w.scheduler.InFlight()))
		seen(inFlightMax, float64(w.config.MaxInFlight))
		seen(waiting, float64(w.scheduler.Ahead()))
		seen(held, float64(w.senders.bodies.Held()))
		age := time.Duration(0)
		if since := w.recorder.Unrecorded(); !since.IsZero() {
			age = time.Since(since)
		}
		seen(unrecorded, max(age, 0).Seconds())
		if w.Ready(context.Background()) == nil {
			seen(ready, 1)
		} else {
			seen(ready, 0)
		}
	}, inFlight, inFlightMax, waiting, held, unrecorded, ready)
}
