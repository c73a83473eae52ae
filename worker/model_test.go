package worker

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
)

// model is the simplest possible outbox: maps that are searched from end to end. What the real scheduler orders and what the
// real statements do must agree with it after any sequence of events.
type model struct {
	due      map[outbox.ID]*modelDue
	attempts map[outbox.ID]map[int]string // "class by worker"
	dead     map[outbox.ID]string         // reason
	paused   map[string]bool
	held     map[string]bool
	failing  map[string]bool
}

type modelDue struct {
	endpoint string
	since    int    // seconds after modelEpoch
	future   bool   // not due yet
	attempt  int    // claims so far
	holder   string // the worker that has the lease; "" when none has
	expired  bool   // the lease has ended
}

func newModel() *model {
	return &model{
		due: map[outbox.ID]*modelDue{}, attempts: map[outbox.ID]map[int]string{}, dead: map[outbox.ID]string{},
		paused: map[string]bool{}, held: map[string]bool{}, failing: map[string]bool{},
	}
}

// claimable are the messages of an endpoint that a claim can take from the second from on, the longest due first.
func (m *model) claimable(endpoint string, from int) (ids []outbox.ID) {
	for _, bound := range bounds(endpoint) {
		if m.paused[bound] || m.held[bound] {
			return nil
		}
	}
	for id, d := range m.due {
		if d.endpoint == endpoint && d.since >= from && !d.future && (d.holder == "" || d.expired) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b outbox.ID) int { return m.due[a].since - m.due[b].since })
	return ids
}

// bounds are the lanes whose pauses and holds stop a lane: its own, its owner's and its origin's.
func bounds(of string) []string { return []string{of, lane.Owner(of), lane.Origin(of)} }

// claim checks what a claim took against its order, and does the same to the model. from is the second at which each turn
// begins. It returns what is wrong.
func (m *model) claim(worker string, o postgres.Order, from []int, took []postgres.Message) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	by := map[string][]outbox.ID{}
	for _, t := range took {
		by[t.Endpoint] = append(by[t.Endpoint], t.ID)
	}
	for i, t := range o.Turns {
		waiting := m.claimable(t.Endpoint, from[i])
		want := waiting[:min(len(waiting), t.Most)]
		got := by[t.Endpoint]
		delete(by, t.Endpoint)
		// A claim that took as many messages as it may can end within a turn, and before the last turns.
		if len(got) < len(want) && len(took) == o.Most {
			want = want[:len(got)]
		}
		if !m.equallyDue(got, want, waiting) {
			fault("%s gave %v, want %v", t.Endpoint, got, want)
		}
	}
	for endpoint, got := range by {
		longest := m.claimable(endpoint, 0)
		if len(got) > 1 || slices.Contains(o.Except, endpoint) || !slices.Contains(longest, got[0]) {
			fault("%s has no turn and gave %v; it is excepted: %v; want one of %v at most", endpoint, got, slices.Contains(o.Except, endpoint), longest)
		}
	}
	if len(took) > o.Most || len(by) > o.Recent {
		fault("%d messages taken, of %d endpoints without a turn; want %d and %d at most", len(took), len(by), o.Most, o.Recent)
	}
	for _, t := range took {
		d := m.due[t.ID]
		if d == nil || t.Attempt != d.attempt+1 {
			fault("%s was taken as attempt %d; want the one after that of the model: %+v", t.ID, t.Attempt, d)
			continue
		}
		if d.holder != "" {
			m.attempt(t.ID, d.attempt, "lost by "+d.holder)
		}
		d.attempt++
		d.holder, d.expired = worker, false
	}
	return faults
}

// equallyDue reports whether a turn gave waiting messages with the same due times as those that it should give.
func (m *model) equallyDue(got, want, waiting []outbox.ID) bool {
	since := func(ids []outbox.ID) (all []int) {
		for _, id := range ids {
			if !slices.Contains(waiting, id) {
				return nil
			}
			all = append(all, m.due[id].since)
		}
		slices.Sort(all)
		return all
	}
	return len(got) == len(want) && slices.Equal(since(got), since(want))
}

// record does what a result says, if its worker still has the lease of this attempt.
func (m *model) record(worker string, r postgres.Result, now int) {
	d := m.due[r.ID]
	if d == nil || d.attempt != r.Attempt || d.holder != worker {
		return
	}
	switch r.Action {
	case postgres.ActionRelease:
		d.attempt--
		d.holder, d.expired = "", false
		return
	case postgres.ActionMove:
		d.attempt--
		d.holder, d.expired, d.endpoint = "", false, r.MoveTo
		return
	case postgres.ActionRetry:
		if r.MoveTo != "" {
			d.endpoint = r.MoveTo
		}
		d.since, d.future = now, r.Delay > 0
		d.holder, d.expired = "", false
	case postgres.ActionDead:
		m.dead[r.ID] = r.Reason
		delete(m.due, r.ID)
	case postgres.ActionDelivered:
		delete(m.due, r.ID)
	}
	m.attempt(r.ID, r.Attempt, r.Class+" by "+worker)
	for _, s := range r.Says {
		if s.Failures == 0 && s.Hold == 0 && m.failing[s.Lane] { // it answers again, so nothing holds it back any more
			m.held[s.Lane] = false
		}
		m.failing[s.Lane] = s.Failures > 0
		m.held[s.Lane] = m.held[s.Lane] || s.Hold > 0
	}
}

func (m *model) attempt(id outbox.ID, n int, what string) {
	if m.attempts[id] == nil {
		m.attempts[id] = map[int]string{}
	}
	m.attempts[id][n] = what
}

// cancel makes a due message dead.
func (m *model) cancel(id outbox.ID) {
	if m.due[id] != nil {
		delete(m.due, id)
		m.dead[id] = "cancelled"
	}
}

// lines is the model's whole state as text, to be compared with that of tables.
func (m *model) lines() string {
	var lines []string
	for id, d := range m.due {
		lines = append(lines, fmt.Sprintf("due %s %s %d %q %v %v", id, d.endpoint, d.attempt, d.holder, d.expired, d.future))
	}
	for id, attempts := range m.attempts {
		for n, what := range attempts {
			lines = append(lines, fmt.Sprintf("attempt %s %d %s", id, n, what))
		}
	}
	for id, reason := range m.dead {
		lines = append(lines, fmt.Sprintf("dead %s %s", id, reason))
	}
	for _, endpoint := range modelLanes {
		if m.paused[endpoint] || m.held[endpoint] {
			lines = append(lines, fmt.Sprintf("endpoint %s %v %v", endpoint, m.paused[endpoint], m.held[endpoint]))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// tables is the database's whole state as text, in the form of model.lines.
func (r *rig) tables() string {
	r.t.Helper()
	rows, err := r.Pool.Query(r.t.Context(), inSchema(`SELECT line FROM (
SELECT format('due %s %s %s "%s" %s %s', message_id, endpoint, attempt, locked_by, coalesce(locked_until <= now(), false)::text,
              (due_at > now())::text) FROM outbox.due
UNION ALL SELECT format('attempt %s %s %s by %s', message_id, attempt, class, worker) FROM outbox.attempt
UNION ALL SELECT format('dead %s %s', message_id, reason) FROM outbox.dead
UNION ALL SELECT format('endpoint %s %s %s', endpoint, paused::text, coalesce(open_until > now(), false)::text) FROM outbox.endpoint
          WHERE paused OR open_until > now()
) AS x (line)`, r.Schema))
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			r.t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		r.t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
