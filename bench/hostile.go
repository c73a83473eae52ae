package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/report"
	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// The load of the hostile scenario.
const (
	hostileEndpoints = 200
	hostileRate      = 200 // messages a second to all of them together
	healthyEndpoints = 20
	healthyRate      = 200 // messages a second to all of these together
)

// hostileScenario: what hostile endpoints cost the others.
func hostileScenario() scenario {
	return scenario{
		name: "hostile",
		about: fmt.Sprintf("from the commit's return to the receiver, %d messages/s to %d endpoints, beside %d messages/s to %d others",
			healthyRate, healthyEndpoints, hostileRate, hostileEndpoints),
		contenders: []contender{
			{name: "healthy", about: "no others", run: hostileEpilogue(nobody)},
			{name: "ordinary", about: "the others are ordinary: what that many more messages cost", run: hostileEpilogue(ordinary)},
			{name: "hostile", about: "silence, resets, other protocols, headers and bodies without an end, drips, cut-off answers, redirects, 500",
				run: hostileEpilogue(meaningHarm)},
		},
		metrics: fairMetrics(
			report.Metric{Name: "attempts", Title: "hostile attempts", Detail: true},
			report.Metric{Name: "opened", Title: "opened", Detail: true},
		),
		budgets: []report.Budget{
			{Metric: "p99", Of: "hostile", Against: "healthy", AtMost: 2},
			{Metric: "p99", Of: "hostile", Against: "ordinary"},
		},
		roundsMax: fairnessRoundsMax,
	}
}

// others are the endpoints beside the healthy ones.
type others int

const (
	nobody others = iota
	ordinary
	meaningHarm
)

func hostileEpilogue(beside others) runner {
	return func(ctx context.Context, t *trial) (report.Sample, error) {
		length := pick(t.size, 500*time.Millisecond, 1500*time.Millisecond, 20*time.Second)
		timed, all := int(healthyRate*length.Seconds()), int((healthyRate+hostileRate)*length.Seconds())
		config := drainConfig(t.DB.Schema)
		config.DeliveryTimeout = pick(t.size, 100*time.Millisecond, 200*time.Millisecond, 2*time.Second)
		f, err := t.newFair(ctx, timed, all, healthyEndpoints+hostileEndpoints, 0, config)
		if err != nil {
			return nil, err
		}
		healthy, err := f.stream(ctx, f.to(0, healthyEndpoints), 0, timed, healthyRate)
		if err != nil {
			return nil, err
		}
		streams := []stand.Stream{healthy}
		if beside != nobody {
			l := f.to(healthyEndpoints, healthyEndpoints+hostileEndpoints)
			if beside == meaningHarm {
				if l.URLs, err = t.Receiver.OpenHostile(hostileEndpoints); err != nil {
					return nil, err
				}
			}
			others, err := f.stream(ctx, l, timed, all, hostileRate)
			if err != nil {
				return nil, err
			}
			streams = append(streams, others)
		}
		flown, err := f.measure(ctx, streams)
		if err != nil {
			return nil, err
		}
		found, err := fairSample(waitsOf(flown, healthy, flown.Begun, flown.Begun.Add(time.Hour)), flown.Used)
		if err != nil || beside != meaningHarm {
			return found, err
		}
		return found, t.addHostile(ctx, found)
	}
}

// addHostile adds what happened to the messages to hostile endpoints.
func (t *trial) addHostile(ctx context.Context, found report.Sample) (err error) {
	if found["attempts"], err = stand.One[float64](ctx, t.DB, "SELECT count(*) FROM bench.attempt WHERE class <> 'delivered'"); err != nil {
		return err
	}
	if found["attempts"] == 0 {
		return errors.New("no attempt failed, so no endpoint was hostile")
	}
	found["opened"], err = stand.One[float64](ctx, t.DB, "SELECT count(*) FROM bench.endpoint WHERE openings > 0")
	return err
}
