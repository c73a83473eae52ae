package worker

import (
	"math/rand/v2"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker/internal/delivery"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// The rooms do not know each other. What one says to another is translated here, and nowhere else.

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

func deliveryConfig(c Config) delivery.Config {
	return delivery.Config{
		Timeout: c.DeliveryTimeout, LookupTimeout: c.LookupTimeout, ConnectTimeout: c.ConnectTimeout, TLSTimeout: c.TLSTimeout,
		HeaderTimeout: c.HeaderTimeout, MaxInFlight: c.MaxInFlight, EndpointMaxInFlight: c.EndpointMaxInFlight,
		AllowHTTP: c.AllowHTTP, AllowedCIDRs: c.AllowedCIDRs, AllowedPorts: c.AllowedPorts, DeniedAddrs: c.DeniedAddrs,
		ProxyURL: c.ProxyURL, CAFile: c.CAFile, ClientCertFile: c.ClientCertFile, ClientKeyFile: c.ClientKeyFile,
		Keys: c.Keys, UserAgent: c.UserAgent, Resolver: c.resolver,
	}
}

// claimOrder is a decision as the claim takes it.
func claimOrder(o schedule.Order) postgres.Order {
	turns := make([]postgres.Turn, len(o.Turns))
	for i, t := range o.Turns {
		turns[i] = postgres.Turn(t)
	}
	return postgres.Order{Most: o.Most, Turns: turns, Recent: o.Recent, Except: o.Except}
}

// claimedMessages are a claim's messages as the scheduler takes them. The row travels along as their payload.
func claimedMessages(rows []postgres.Message, at time.Time) []schedule.Message {
	messages := make([]schedule.Message, len(rows))
	for i := range rows {
		row := &rows[i]
		messages[i] = schedule.Message{
			Endpoint: row.Endpoint, OperatorLimit: row.MaxInFlight, Rate: row.Rate, DueFrom: row.DueFrom, ClaimedAt: at, Payload: row,
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

// outgoing is a claimed row as one attempt takes it.
func outgoing(row *postgres.Message) delivery.Message {
	return delivery.Message{
		ID: row.ID, RunID: row.RunID, Status: row.Status, Body: row.Body, URL: row.URL, Headers: row.Headers, Options: row.Options,
	}
}

// judged is an answer as the scheduler takes it.
func judged(a delivery.Answer) schedule.Answer {
	return schedule.Answer{
		Kind: kindOf(a), StatusCode: a.StatusCode, RetryAfter: a.RetryAfter, StartedAt: a.StartedAt, Duration: a.Duration,
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

// resultOf is an attempt and its verdict as the record takes them.
func resultOf(row *postgres.Message, a delivery.Answer, v schedule.Verdict) postgres.Result {
	return postgres.Result{
		ID: row.ID, Endpoint: row.Endpoint, Attempt: row.Attempt,
		Action: postgres.Action(v.Action), Delay: v.Delay, Reason: v.Reason, Hold: v.Hold, Pause: v.Pause,
		Class: a.Class, StatusCode: a.StatusCode, Err: a.Err, Response: a.Response, Note: a.Note, WaitsFor: a.WaitsFor,
		StartedAt: a.StartedAt, Duration: a.Duration, Unhealthy: judged(a).Unhealthy(),
	}
}

// released is a message that was claimed and not sent: it is due again at once, and no attempt is counted.
func released(row *postgres.Message, now time.Time) postgres.Result {
	return postgres.Result{ID: row.ID, Endpoint: row.Endpoint, Attempt: row.Attempt, Action: postgres.ActionRelease, StartedAt: now}
}
