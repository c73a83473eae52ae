package worker

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// model is the outbox as a child would keep it: maps, walked from end to end. The claim and the record must agree with
// it, whatever happens in whatever order.
type model struct {
	due      map[outbox.ID]*modelDue
	attempts map[outbox.ID]map[int]string // "class by worker"
	dead     map[outbox.ID]string         // reason
	paused   map[string]bool
	held     map[string]bool
}

type modelDue struct {
	endpoint string
	since    int    // the lower, the longer due
	future   bool   // not due yet
	attempt  int    // claims so far
	holder   string // the worker with the lease; "" when nobody has it
	expired  bool   // the lease
}

func newModel() *model {
	return &model{
		due: map[outbox.ID]*modelDue{}, attempts: map[outbox.ID]map[int]string{}, dead: map[outbox.ID]string{},
		paused: map[string]bool{}, held: map[string]bool{},
	}
}

// claim returns what a claim takes, "id attempt" each.
func (m *model) claim(worker, cursor string, n, share int, room map[string]int) (took []string) {
	for _, endpoint := range m.turns(cursor) {
		limit, busy := room[endpoint]
		if !busy {
			limit = share
		}
		for _, id := range m.waiting(endpoint) {
			if limit == 0 || n == 0 {
				break
			}
			d := m.due[id]
			if d.holder != "" {
				m.attempt(id, d.attempt, "lost by "+d.holder)
			}
			d.attempt++
			d.holder, d.expired = worker, false
			took = append(took, fmt.Sprint(id, " ", d.attempt))
			limit, n = limit-1, n-1
		}
	}
	slices.Sort(took)
	return took
}

// turns are the endpoints in their circle, from the one behind the cursor on.
func (m *model) turns(cursor string) []string {
	all := map[string]bool{}
	for _, d := range m.due {
		all[d.endpoint] = true
	}
	var ahead, behind []string
	for _, endpoint := range slices.Sorted(maps.Keys(all)) {
		if endpoint > cursor {
			ahead = append(ahead, endpoint)
		} else {
			behind = append(behind, endpoint)
		}
	}
	return append(ahead, behind...)
}

// waiting is what can be claimed of an endpoint, the longest due first.
func (m *model) waiting(endpoint string) (ids []outbox.ID) {
	if m.paused[endpoint] || m.held[endpoint] {
		return nil
	}
	for id, d := range m.due {
		if d.endpoint == endpoint && !d.future && (d.holder == "" || d.expired) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b outbox.ID) int { return m.due[a].since - m.due[b].since })
	return ids
}

// record does what a result says, if its worker still holds the message under its attempt.
func (m *model) record(worker string, r result, now int) {
	d := m.due[r.id]
	if d == nil || d.attempt != r.attempt || d.holder != worker {
		return
	}
	switch r.action {
	case actionRelease:
		d.attempt--
		d.holder, d.expired = "", false
		return
	case actionRetry:
		d.since, d.future = now, r.delay > 0
		d.holder, d.expired = "", false
	case actionDead:
		m.dead[r.id] = r.reason
		delete(m.due, r.id)
	case actionDelivered:
		delete(m.due, r.id)
	}
	m.attempt(r.id, r.attempt, r.class+" by "+worker)
	m.paused[d.endpoint] = m.paused[d.endpoint] || r.pause
	m.held[d.endpoint] = m.held[d.endpoint] || r.hold > 0
}

func (m *model) attempt(id outbox.ID, n int, what string) {
	if m.attempts[id] == nil {
		m.attempts[id] = map[int]string{}
	}
	m.attempts[id][n] = what
}

// cancel gives a due message up.
func (m *model) cancel(id outbox.ID) {
	if m.due[id] != nil {
		delete(m.due, id)
		m.dead[id] = "cancelled"
	}
}

// lines is the whole state as text, to be compared with [tables].
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
	for endpoint := range m.paused {
		if m.paused[endpoint] || m.held[endpoint] {
			lines = append(lines, fmt.Sprintf("endpoint %s %v %v", endpoint, m.paused[endpoint], m.held[endpoint]))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// tables is the same of the database.
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
