package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// health is the row of a lane, with the time that is left in place of a time.
type health struct {
	failures, openings int
	open               time.Duration // until open_until; 0: there is none
	probing            bool
	reason             string
	since              bool // this batch changed it
}

// healths are the rows that a lane can have when an answer comes. "none" means that there is no row.
var healths = map[string]health{
	"none":             {failures: -1},
	"limited":          {reason: "an operator's"},
	"held":             {open: 30 * time.Minute, reason: "Retry-After"},
	"was held":         {open: -time.Minute, reason: "Retry-After"},
	"failing":          {failures: 3, reason: "failing: reset"},
	"failing and held": {failures: 3, open: 30 * time.Minute, reason: "Retry-After"},
	"almost":           {failures: openAfter - 1, reason: "failing: reset"},
	"open":             {failures: openAfter, openings: 1, open: 30 * time.Minute, reason: "failing: reset"},
	"to be probed":     {failures: openAfter, openings: 1, open: -time.Minute, reason: "failing: reset"},
	"probed":           {failures: openAfter, openings: 1, open: 30 * time.Second, probing: true, reason: "failing: reset"},
	"probed again":     {failures: openAfter + 4, openings: 2, open: -time.Second, probing: true, reason: "failing: reset"},
	"probed for long":  {failures: 1000, openings: 60, open: 30 * time.Second, probing: true, reason: "failing: reset"},
}

// answered is a batch of results at one lane.
type answered struct {
	says    []Saying
	results func(m Message) Result // nil: failures, which are tried again
}

// as returns a function that makes results of this kind.
func as(kind string) func(Message) Result { return func(m Message) Result { return results(m)[kind] } }

const long, brief = 2 * time.Hour, time.Minute

var answereds = map[string]answered{
	"delivered":            {[]Saying{{}}, as("delivered")},
	"refused":              {[]Saying{{}}, as("refused")},
	"failed":               {[]Saying{{Failures: 1}}, nil},
	"failed often":         {[]Saying{{Failures: openAfter - 4}, {Failures: 4}}, nil},
	"failed and answered":  {[]Saying{{Failures: openAfter}, {}}, nil},
	"asked for long":       {[]Saying{{Hold: long}}, nil},
	"asked for a moment":   {[]Saying{{Hold: brief}}, nil},
	"failed and asked":     {[]Saying{{Failures: 1, Hold: long}}, nil},
	"failed often and did": {[]Saying{{Failures: openAfter, Hold: brief}}, nil},
	"gone":                 {[]Saying{{Failures: openAfter, HalfOpen: true}}, nil},
	"still half-open":      {[]Saying{{HalfOpen: true}}, nil},
	"blocked":              {[]Saying{{}}, as("blocked")},
	"released":             {[]Saying{{}}, as("released")},
	"without its key":      {[]Saying{{}}, as("waiting")},
}

// after is the row once a batch is recorded: it spells out what Saying and Recorder promise.
func (h health) after(a answered, paused bool) health {
	failures, hold, halfOpen, all := 0, time.Duration(0), false, true
	for _, s := range a.says {
		failures, hold, halfOpen, all = failures+s.Failures, max(hold, s.Hold), halfOpen || s.HalfOpen, all && s.Failures > 0
	}
	if !all { // an answer among failures shows that the endpoint works
		failures = 0
	}
	answers := failures == 0 && hold == 0 && !halfOpen
	before, isNew := h, h.failures < 0
	if isNew {
		before = health{}
	}
	if a.results != nil && !sent(a) || failures == 0 && hold == 0 && before.failures == 0 {
		return h // no request was sent, or nothing changes
	}
	h = before
	switch {
	case answers:
		h = health{reason: "answers", since: true}
	case halfOpen:
		h.failures = max(h.failures, failures)
	case failures > 0:
		h.failures += failures
	default:
		h.failures = 0
	}
	opens := !answers && !halfOpen && h.failures >= openAfter && (before.probing || before.open <= 0)
	switch {
	case opens:
		h.open = openFor
		for range h.openings {
			h.open = min(2*h.open, openForMax)
		}
		h.openings++
	case before.probing && (halfOpen || h.failures == 0): // the probe was answered without a failure
		h.open = 0
	}
	h.probing = before.probing && h.failures > 0 && !opens && !halfOpen
	if hold > 0 {
		h.open = max(h.open, hold)
	}
	h.since = h.since || isNew || before.failures < openAfter && h.failures >= openAfter || opens
	switch {
	case answers, halfOpen && failures == 0:
	case halfOpen:
		h.reason = "gone: answered 500"
	case hold > 0:
		h.reason = "Retry-After"
	default:
		h.reason = "failing: answered 500"
	}
	if paused {
		h.reason, h.since = before.reason, answers
	}
	return h
}

func sent(a answered) bool {
	class := a.results(Message{}).Class
	return class != "" && class != "blocked"
}

// TestTheHealthOfALane is a table: the lane's row × a batch × an operator's pause → the whole row. It is the same for a record
// that waits for locks and for one that does not.
func TestTheHealthOfALane(t *testing.T) {
	t.Parallel()
	record := map[string]func(*rig, []Result) error{
		"record": func(r *rig, batch []Result) error {
			_, err := r.recorder("w").Record(r.t.Context(), batch)
			return err
		},
		"record, deliveries by themselves": func(r *rig, batch []Result) error {
			isDelivery := func(x Result) bool { return x.Action == ActionDelivered }
			deliveries := slices.DeleteFunc(slices.Clone(batch), func(x Result) bool { return !isDelivery(x) })
			_, err := r.recorder("w").Record(r.t.Context(), deliveries)
			if err == nil {
				_, err = r.recorder("w").Record(r.t.Context(), slices.DeleteFunc(batch, isDelivery))
			}
			return err
		},
		"try": func(r *rig, batch []Result) error {
			tried, err := r.recorder("w").TryRecord(r.t.Context(), batch, false)
			if err == nil && len(tried.Held) > 0 {
				err = fmt.Errorf("%d are held", len(tried.Held))
			}
			return err
		},
	}
	for name, record := range record {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			var batch []Result
			r.eachHealth(func(lane string, before health, a answered, paused bool) {
				batch = append(batch, r.healthCase(lane, before, a, paused)...)
			})
			if err := record(r, batch); err != nil {
				t.Fatal(err)
			}
			n := 0
			r.eachHealth(func(lane string, before health, a answered, paused bool) {
				n++
				r.mustBeAs(lane, paused, before.after(a, paused))
			})
			t.Logf("%d cases in one batch of %d", n, len(batch))
		})
	}
}

func (r *rig) eachHealth(each func(lane string, before health, a answered, paused bool)) {
	for state, before := range healths {
		for what, a := range answereds {
			for _, paused := range []bool{false, true} {
				if paused && before.failures < 0 {
					continue // a paused lane has a row
				}
				each(fmt.Sprintf("https://%s.%s.%v.test", strings.ReplaceAll(state, " ", "-"), strings.ReplaceAll(what, " ", "-"), paused), before, a, paused)
			}
		}
	}
}

// healthCase makes the row of a lane, and the results of the batch there.
func (r *rig) healthCase(lane string, before health, a answered, paused bool) (batch []Result) {
	r.t.Helper()
	if before.failures >= 0 {
		r.exec(`INSERT INTO outbox.endpoint (endpoint, paused, failures, openings, open_until, probing, reason, since)
VALUES ($1, $2, $3, $4, CASE WHEN $5::interval <> interval '0' THEN now() + $5 END, $6, $7, now() - interval '1 day')`,
			lane, paused, before.failures, before.openings, before.open, before.probing, before.reason)
	}
	r.due(lane, len(a.says), 0)
	r.exec(`UPDATE outbox.due SET locked_by = 'w', locked_until = now() + interval '1 h', attempt = 1 WHERE endpoint = $1`, lane)
	rows, err := r.Pool.Query(r.t.Context(), sqlschema.In(`SELECT message_id FROM outbox.due WHERE endpoint = $1`, r.Schema), lane)
	if err != nil {
		r.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[outbox.ID])
	if err != nil || len(ids) != len(a.says) {
		r.t.Fatalf("%d messages, %v; want one for each result", len(ids), err)
	}
	for i, id := range ids {
		m := Message{ID: id, Endpoint: lane, Attempt: 1}
		x := results(m)["failed"]
		if a.results != nil {
			x = a.results(m)
		}
		says := a.says[i]
		says.Lane = lane
		x.Says = []Saying{says}
		batch = append(batch, x)
	}
	return batch
}

// mustBeAs checks the whole row of a lane.
func (r *rig) mustBeAs(lane string, paused bool, want health) {
	r.t.Helper()
	var got health
	var isPaused bool
	var open float64
	err := r.Pool.QueryRow(context.WithoutCancel(r.t.Context()), sqlschema.In(`SELECT paused, failures, openings,
coalesce(extract(epoch FROM open_until - now()), 0)::float8, probing, reason, since > now() - interval '1 h'
FROM outbox.endpoint WHERE endpoint = $1`, r.Schema), lane).Scan(&isPaused, &got.failures, &got.openings, &open, &got.probing, &got.reason, &got.since)
	if err != nil {
		got.failures = -1
	}
	got.open = time.Duration(open * float64(time.Second))
	// The time of an open circuit breaker varies by a fifth. On a slow machine a minute or two have passed.
	near := func(got, want time.Duration) bool {
		return got == want || got < 0 && want < 0 || got > want*79/100-2*time.Minute && got < want*121/100 && got > 0
	}
	if open := got.open; near(open, want.open) {
		got.open = want.open
	}
	if got != want || isPaused != paused {
		r.t.Errorf("%s: the row is %+v, paused %v; want %+v", lane, got, isPaused, want)
	}
}
