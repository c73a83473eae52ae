// Package measured reads metrics in tests, as a program that embeds a package gets them.
package measured

import (
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Metrics are all that was measured through one provider.
type Metrics struct {
	t        testing.TB
	reader   *sdk.ManualReader
	provider *sdk.MeterProvider
}

// New returns empty metrics.
func New(t testing.TB) *Metrics {
	reader := sdk.NewManualReader()
	return &Metrics{t, reader, sdk.NewMeterProvider(sdk.WithReader(reader))}
}

// Provider is for the configuration of what a test measures.
func (m *Metrics) Provider() metric.MeterProvider { return m.provider }

// Series are the values by name and labels, like outbox.attempts{class=status,status_class=5xx}; the label outbox is left out.
// For a histogram it is the count.
func (m *Metrics) Series() map[string]float64 {
	m.t.Helper()
	var all metricdata.ResourceMetrics
	if err := m.reader.Collect(m.t.Context(), &all); err != nil {
		m.t.Fatal(err)
	}
	series := map[string]float64{}
	for _, scope := range all.ScopeMetrics {
		for _, metric := range scope.Metrics {
			switch data := metric.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					series[metric.Name+labelsOf(p)] = float64(p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					series[metric.Name+labelsOf(p)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					series[metric.Name+labelsOf(metricdata.DataPoint[float64]{Attributes: p.Attributes})] = float64(p.Count)
				}
			}
		}
	}
	return series
}

func labelsOf[N int64 | float64](p metricdata.DataPoint[N]) string {
	var labels []string
	for _, label := range p.Attributes.ToSlice() {
		if label.Key != "outbox" {
			labels = append(labels, string(label.Key)+"="+label.Value.String())
		}
	}
	slices.Sort(labels)
	return "{" + strings.Join(labels, ",") + "}"
}
