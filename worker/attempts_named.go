package worker

import (
	"fmt"
	"slices"

	"github.com/seed-abbacb8b/epilogue/internal/instruments"
	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// MetricsEndpointsMax bounds Config.MetricsEndpoints. A metric label without a bound fills the memory of whoever
// collects it.
const MetricsEndpointsMax = 50

// checkMetricsEndpoints wants endpoints as the tables hold them: another spelling would never be counted.
func checkMetricsEndpoints(endpoints []string) error {
	if len(endpoints) > MetricsEndpointsMax {
		return fmt.Errorf("%d endpoints; want at most %d", len(endpoints), MetricsEndpointsMax)
	}
	for i, endpoint := range endpoints {
		canonical, err := outbox.CheckURL(endpoint)
		switch {
		case err != nil:
			return fmt.Errorf("%.200q: %w", endpoint, err)
		case canonical != endpoint:
			return fmt.Errorf("%.200q: want the origin of the URL, %s", endpoint, canonical)
		case slices.Contains(endpoints[:i], endpoint):
			return fmt.Errorf("%.200q is there twice", endpoint)
		}
	}
	return nil
}

// namedAttempts measure the attempts at the endpoints that the configuration names, each endpoint separately.
type namedAttempts map[string]namedEndpoint

type namedEndpoint struct {
	counts    map[attemptKind]instruments.Counter
	durations instruments.Histogram
}

func newNamedAttempts(m *instruments.Maker, endpoints []string) namedAttempts {
	if len(endpoints) == 0 {
		return nil
	}
	counter := m.Counter("outbox.endpoint.attempts", "{attempt}", "Attempts at an endpoint that OUTBOX_METRICS_ENDPOINTS names, by how they ended.")
	durations := m.Histogram("outbox.endpoint.attempt.duration", "s", "How long an attempt at such an endpoint takes, from the lookup to the last byte of the answer that is read.",
		instruments.Requests)
	all := namedAttempts{}
	for _, endpoint := range endpoints {
		all[endpoint] = namedEndpoint{counts: attemptCounters(counter.With("endpoint", endpoint)), durations: durations.With("endpoint", endpoint)}
	}
	return all
}

func (x namedAttempts) made(m *postgres.Message, a delivery.Answer) {
	if e, named := x[lane.Origin(m.Endpoint)]; named {
		e.counts[attemptKind{a.Class, a.StatusCode / 100}].Add(1)
		e.durations.Took(a.Duration)
	}
}
