package worker

import (
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// The rooms do not know each other. Values that go from one to another are translated here, and nowhere else.

func scheduleConfig(c Config) schedule.Config {
	return schedule.Config{
		MaxInFlight: c.MaxInFlight, EndpointMaxInFlight: c.EndpointMaxInFlight, PollInterval: c.PollInterval, DrainTurn: c.drainTurn, Lease: c.Lease,
	}
}

func policyOf(c Config) schedule.Policy {
	statuses := make(map[int]bool, len(c.RetryStatuses))
	for _, status := range c.RetryStatuses {
		statuses[status] = true
	}
	return schedule.Policy{
		Schedule: c.RetrySchedule, Jitter: *c.RetryJitter, RetryAfterMax: c.RetryAfterMax, RetryStatuses: statuses, Random: rand.Float64,
	}
}

// deliveryConfig is the configuration of the sender. services are the addresses that nothing may be delivered to.
func deliveryConfig(c Config, services []delivery.Service) delivery.Config {
	return delivery.Config{
		Timeout: c.DeliveryTimeout, LookupTimeout: c.LookupTimeout, ConnectTimeout: c.ConnectTimeout, TLSTimeout: c.TLSTimeout,
		HeaderTimeout: c.HeaderTimeout, MaxInFlight: c.MaxInFlight, EndpointMaxInFlight: c.EndpointMaxInFlight,
		AllowHTTP: c.AllowHTTP, AllowedCIDRs: c.AllowedCIDRs, AllowedPorts: c.AllowedPorts, DeniedAddrs: c.DeniedAddrs,
		Services: services,
		ProxyURL: c.ProxyURL, CAFile: c.CAFile, ClientCertFile: c.ClientCertFile, ClientKeyFile: c.ClientKeyFile,
		ClientCertOrigins: c.ClientCertOrigins, SecretHeadersFile: c.SecretHeadersFile, EventsURL: c.EventsURL,
		Keys: c.Keys, UserAgent: c.UserAgent, Resolver: c.Resolver, DialControl: c.DialControl, TLSConfig: c.TLSConfig, Instruments: c.instruments,
		Tracer: tracerOf(c),
	}
}

// tracerOf is nil without a provider.
func tracerOf(c Config) trace.Tracer {
	if c.TracerProvider == nil {
		return nil
	}
	return c.TracerProvider.Tracer(module + "/worker")
}

// claimOrder translates a decision of the scheduler for the claim.
func claimOrder(o schedule.Order) postgres.Order {
	turns := make([]postgres.Turn, len(o.Turns))
	for i, t := range o.Turns {
		turns[i] = postgres.Turn(t)
	}
	return postgres.Order{Most: o.Most, Turns: turns, Recent: o.Recent, Except: o.Except}
}

// claimedMessages translates claimed rows for the scheduler. The row travels along as their payload.
func claimedMessages(rows []postgres.Message, at time.Time) []schedule.Message {
	messages := make([]schedule.Message, len(rows))
	for i := range rows {
		row := &rows[i]
		row.WrittenAt = at.Add(-row.Age)
		messages[i] = schedule.Message{
			Endpoint: row.Endpoint, OperatorLimit: row.MaxInFlight, OriginLimit: row.OriginMax, Rate: row.Rate, DueFrom: row.DueFrom, ClaimedAt: at, Payload: row,
		}
	}
	return messages
}

// rowOf is the claimed row of a message.
func rowOf(m schedule.Message) *postgres.Message { return m.Payload.(*postgres.Message) }

func rowsOf(messages []schedule.Message) []*postgres.Message {
	rows := make([]*postgres.Message, len(messages))
	for i, m := range messages {
		rows[i] = rowOf(m)
	}
	return rows
}

func candidates(found []postgres.Candidate) []schedule.Candidate {
	all := make([]schedule.Candidate, len(found))
	for i, c := range found {
		all[i] = schedule.Candidate(c)
	}
	return all
}

// outgoing translates a claimed row for one attempt.
func outgoing(row *postgres.Message) delivery.Message {
	return delivery.Message{
		ID: row.ID, RunID: row.RunID, Status: row.Status, Body: row.Body, URL: row.URL, Headers: row.Headers, Options: row.Options,
		Attempt: row.Attempt,
		Event:   event.IsLane(row.Endpoint),
	}
}

// judged translates an answer for the scheduler.
func judged(a delivery.Answer) schedule.Answer {
	return schedule.Answer{
		Kind: kindOf(a), StatusCode: a.StatusCode, Unreached: a.Unreached, RetryAfter: a.RetryAfter, StartedAt: a.StartedAt, Duration: a.Duration,
	}
}

func kindOf(a delivery.Answer) schedule.Kind {
	if a.WaitsFor != "" {
		return schedule.NotSent
	}
	switch a.Class {
	case delivery.ClassDelivered:
		return schedule.Delivered
	case delivery.ClassStatus:
		return schedule.Status
	case delivery.ClassBlocked:
		return schedule.Refused
	case delivery.ClassTimeout:
		return schedule.Timeout
	}
	return schedule.Failed
}

// resultOf translates an attempt, its verdict and the blame for the record.
func resultOf(row *postgres.Message, a delivery.Answer, v schedule.Verdict, b schedule.Blamed) postgres.Result {
	return postgres.Result{
		ID: row.ID, Endpoint: row.Endpoint, Attempt: row.Attempt,
		Action: postgres.Action(v.Action), Delay: v.Delay, Reason: v.Reason, MoveTo: b.MoveTo, Says: sayings(b),
		Class: a.Class, StatusCode: a.StatusCode, Err: a.Err, Response: a.Response, Note: a.Note, WaitsFor: a.WaitsFor,
		StartedAt: a.StartedAt, Duration: a.Duration, WrittenAt: row.WrittenAt,
	}
}

func sayings(b schedule.Blamed) []postgres.Saying {
	all := make([]postgres.Saying, len(b.Says))
	for i, s := range b.Says {
		all[i] = postgres.Saying(s)
	}
	return all
}

// attemptOf translates an attempt for the judgement of whose fault it is.
func attemptOf(row *postgres.Message, a delivery.Answer, v schedule.Verdict) schedule.Attempt {
	return schedule.Attempt{Lane: row.Endpoint, URL: row.URL, Answer: judged(a), Hold: v.Hold, Probe: row.Probe}
}

// moved is a message that was claimed and not sent, because its URL was set aside. If it was to be a probe, the next message
// is the probe.
func moved(row *postgres.Message, to string, now time.Time) postgres.Result {
	x := postgres.Result{ID: row.ID, Endpoint: row.Endpoint, Attempt: row.Attempt, Action: postgres.ActionMove, MoveTo: to, StartedAt: now}
	if row.Probe {
		x.Says = append(x.Says, postgres.Saying{Lane: row.Endpoint, HalfOpen: true})
		if origin := lane.Origin(row.Endpoint); origin != row.Endpoint {
			x.Says = append(x.Says, postgres.Saying{Lane: origin, HalfOpen: true})
		}
	}
	return x
}

// released is a message that was claimed and not sent: it is due again at once, and no attempt is counted.
func released(row *postgres.Message, now time.Time) postgres.Result {
	return postgres.Result{ID: row.ID, Endpoint: row.Endpoint, Attempt: row.Attempt, Action: postgres.ActionRelease, StartedAt: now}
}
