// Package instruments makes metrics with the API of OpenTelemetry, so that a package can declare its own in a few lines beside
// the code that changes them.
//
// Every instrument has the label outbox, the name of the schema. Labels are bound when an instrument is made, to values in the
// source: no value from outside ever becomes a label, so the number of series is bounded. To count is then one call without an
// allocation, and costs almost nothing without a MeterProvider.
//
// This package links only the API. The MeterProvider of a program decides where the metrics go.
package instruments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Maker makes instruments. A nil Maker makes instruments that do nothing. It is used by one goroutine at a time.
type Maker struct {
	meter    metric.Meter
	outbox   attribute.KeyValue
	faults   []error
	watching []metric.Registration
}

// New returns a maker whose instruments have the label outbox. scope is the import path of the instrumented package. A nil
// provider makes instruments that do nothing.
func New(provider metric.MeterProvider, scope, outbox string) *Maker {
	if provider == nil {
		return nil
	}
	return &Maker{meter: provider.Meter(scope), outbox: attribute.String("outbox", outbox)}
}

func (m *Maker) of() metric.Meter {
	if m == nil {
		return noop.Meter{}
	}
	return m.meter
}

func (m *Maker) labels() []attribute.KeyValue {
	if m == nil {
		return nil
	}
	return []attribute.KeyValue{m.outbox}
}

func (m *Maker) fault(name string, err error) {
	if m != nil && err != nil {
		m.faults = append(m.faults, fmt.Errorf("metric %s: %w", name, err))
	}
}

// Err returns the faults of the instruments made so far.
func (m *Maker) Err() error {
	if m == nil {
		return nil
	}
	return errors.Join(m.faults...)
}

// Close ends what Watch began: the counts stay with the provider.
func (m *Maker) Close() {
	if m == nil {
		return
	}
	for _, w := range m.watching {
		_ = w.Unregister() // it was registered, so it can be unregistered
	}
	m.watching = nil
}

// Counter counts. Bind its labels with With.
type Counter struct {
	counter metric.Int64Counter
	labels  []attribute.KeyValue
	options []metric.AddOption
}

// Counter makes a counter. Its unit is in braces, like {message}, unless Prometheus knows the unit.
func (m *Maker) Counter(name, unit, what string) Counter {
	counter, err := m.of().Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
	m.fault(name, err)
	return Counter{counter: counter, labels: m.labels()}.With()
}

// With returns the counter with more labels, given as name, value, name, value.
func (c Counter) With(labels ...string) Counter {
	c.labels = withLabels(c.labels, labels)
	c.options = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(c.labels...))}
	return c
}

// FromZero exports the counter before it has counted anything. Otherwise it appears with its first event, which
// Prometheus does not count as an increase.
func (c Counter) FromZero() Counter {
	if c.counter != nil {
		c.counter.Add(context.Background(), 0, c.options...)
	}
	return c
}

// By returns one counter for each value of a label, from zero.
func (c Counter) By(label string, values ...string) Counters {
	return by(values, func(value string) Counter { return c.With(label, value).FromZero() })
}

// Add counts n more. A zero Counter counts nothing.
func (c Counter) Add(n int) {
	if c.counter != nil && n != 0 {
		c.counter.Add(context.Background(), int64(n), c.options...)
	}
}

// Counters are the counters of a label's values. There is one for each value that was named, and for no other.
type Counters map[string]Counter

// Histogram takes measurements.
type Histogram struct {
	histogram metric.Float64Histogram
	labels    []attribute.KeyValue
	options   []metric.RecordOption
}

// Histogram makes a histogram with these upper bounds of its buckets.
func (m *Maker) Histogram(name, unit, what string, buckets []float64) Histogram {
	histogram, err := m.of().Float64Histogram(name, metric.WithUnit(unit), metric.WithDescription(what), metric.WithExplicitBucketBoundaries(buckets...))
	m.fault(name, err)
	return Histogram{histogram: histogram, labels: m.labels()}.With()
}

// With is as for a Counter.
func (h Histogram) With(labels ...string) Histogram {
	h.labels = withLabels(h.labels, labels)
	h.options = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(h.labels...))}
	return h
}

// By is as for a Counter.
func (h Histogram) By(label string, values ...string) map[string]Histogram {
	return by(values, func(value string) Histogram { return h.With(label, value) })
}

// Took measures a duration in seconds; it ignores one below zero, which comes from clocks that differ. A zero Histogram measures
// nothing.
func (h Histogram) Took(d time.Duration) { h.Size(max(d, 0).Seconds()) }

// Since measures the time since then.
func (h Histogram) Since(then time.Time) { h.Took(time.Since(then)) }

// Size measures a size.
func (h Histogram) Size(n float64) {
	if h.histogram != nil {
		h.histogram.Record(context.Background(), n, h.options...)
	}
}

// Gauge is asked for its value when metrics are collected.
type Gauge struct {
	gauge  metric.Float64ObservableGauge
	labels []attribute.KeyValue
	set    attribute.Set
}

// Gauge makes a gauge. Watch says who knows its value.
func (m *Maker) Gauge(name, unit, what string) Gauge {
	gauge, err := m.of().Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
	m.fault(name, err)
	return Gauge{gauge: gauge, labels: m.labels()}.With()
}

// With is as for a Counter.
func (g Gauge) With(labels ...string) Gauge {
	g.labels = withLabels(g.labels, labels)
	g.set = attribute.NewSet(g.labels...)
	return g
}

// By is as for a Counter.
func (g Gauge) By(label string, values ...string) map[string]Gauge {
	return by(values, func(value string) Gauge { return g.With(label, value) })
}

// Seen takes the values of gauges. A gauge without a value is left out.
type Seen func(g Gauge, value float64)

// Watch calls f for the values of these gauges at each collection, until Close. f must be quick and wait for nothing.
func (m *Maker) Watch(f func(Seen), gauges ...Gauge) {
	if m == nil {
		return
	}
	var all []metric.Observable
	for _, g := range gauges {
		all = append(all, g.gauge)
	}
	registration, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		f(func(g Gauge, value float64) { o.ObserveFloat64(g.gauge, value, metric.WithAttributeSet(g.set)) })
		return nil
	}, all...)
	m.fault("callback", err)
	if err == nil {
		m.watching = append(m.watching, registration)
	}
}

func withLabels(have []attribute.KeyValue, more []string) []attribute.KeyValue {
	all := append([]attribute.KeyValue{}, have...)
	for i := 0; i+1 < len(more); i += 2 {
		all = append(all, attribute.String(more[i], more[i+1]))
	}
	return all
}

func by[T any](values []string, make func(string) T) map[string]T {
	all := map[string]T{}
	for _, value := range values {
		all[value] = make(value)
	}
	return all
}
