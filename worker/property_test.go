package worker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// play does the same things to the outbox and to its model, at random.
type play struct {
	*rig
	rng     *rand.Rand
	model   *model
	workers []*claims
	claims  []claimed // all that were ever made, stale ones too
	now     int       // the model's clock
	log     []string
}

type claimed struct {
	worker string
	m      message
}

// TestTheOutboxAgreesWithADumbModel plays a random sequence of writes, claims, answers (stale ones among them), ended
// leases and waits, cancellations and resumptions, and compares every claim and, now and then, every table.
func TestTheOutboxAgreesWithADumbModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	p := &play{rig: newRig(t), rng: rand.New(rand.NewPCG(seed, 0)), model: newModel()}
	p.workers = []*claims{p.claimer("one"), p.claimer("two")}
	defer func() {
		if t.Failed() {
			t.Logf("seed %d; the last events: %s", seed, strings.Join(p.log[max(0, len(p.log)-20):], "; "))
		}
	}()
	events := []func(){
		p.write, p.write, p.claim, p.claim, p.answer, p.answer, p.answer, p.expire, p.becomeDue, p.cancel, p.resume,
	}
	for i := range 1000 {
		p.now++
		events[p.rng.IntN(len(events))]()
		if i%50 == 0 || i == 999 {
			p.compare()
		}
		if t.Failed() {
			return
		}
	}
}

func (p *play) note(format string, args ...any) { p.log = append(p.log, fmt.Sprintf(format, args...)) }

func (p *play) endpoint() string { return fmt.Sprintf("https://e%d.test", p.rng.IntN(6)) }

// write makes a message that is due since some time before all that happens here, or in an hour.
func (p *play) write() {
	id, endpoint := outbox.NewID(), p.endpoint()
	p.now++
	d := &modelDue{endpoint: endpoint, since: p.now - 1_000_000*p.rng.IntN(5), future: p.rng.IntN(5) == 0}
	p.note("write %s to %s, future: %v", id, endpoint, d.future)
	p.exec(`INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint) VALUES ($1, 'run', 'succeeded', '', 0, $2::text, $2::text)`,
		id, endpoint)
	p.exec(`INSERT INTO outbox.due (message_id, endpoint, due_at) VALUES ($1, $2, now())`, id, endpoint)
	p.model.due[id] = d
	p.setDue(id, d)
}

// The order of due times is the model's clock; the times themselves are long past.
func (p *play) setDue(id outbox.ID, d *modelDue) {
	if d.future {
		p.exec(`UPDATE outbox.due SET due_at = now() + interval '1 h' WHERE message_id = $1`, id)
		return
	}
	p.exec(`UPDATE outbox.due SET due_at = timestamptz '2020-01-01' + $2 * interval '1 s' WHERE message_id = $1`, id, d.since)
}

func (p *play) claim() {
	c := p.workers[p.rng.IntN(2)]
	c.known.cursor = []string{"", "https://e", p.endpoint(), p.endpoint()}[p.rng.IntN(4)]
	n, share, room := 1+p.rng.IntN(8), 1+p.rng.IntN(3), map[string]int{}
	for range p.rng.IntN(4) {
		room[p.endpoint()] = p.rng.IntN(4)
	}
	p.note("%s claims %d, share %d, room %v, behind %q", c.worker, n, share, room, c.known.cursor)
	want := p.model.claim(c.worker, c.known.cursor, n, share, room)
	messages, err := c.claim(p.t.Context(), n, share, room)
	if err != nil {
		p.t.Fatal(err)
	}
	var got []string
	for _, m := range messages {
		got = append(got, fmt.Sprint(m.id, " ", m.attempt))
		p.claims = append(p.claims, claimed{c.worker, m})
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		p.t.Errorf("claimed:\n%s\nthe model's:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// answer records a batch of answers to claims of one worker, old or new.
func (p *play) answer() {
	worker := p.workers[p.rng.IntN(2)].worker
	var batch []result
	seen := map[outbox.ID]bool{} // a worker holds a message once
	for range 1 + p.rng.IntN(4) {
		if len(p.claims) == 0 {
			return
		}
		c := p.claims[max(0, len(p.claims)-1-p.rng.IntN(40))]
		if seen[c.m.id] {
			continue
		}
		seen[c.m.id] = true
		names := []string{"delivered", "retried", "again at once", "refused", "gone", "released"}
		name := names[p.rng.IntN(len(names))]
		x := results(c.m)[name]
		switch {
		case name == "again at once":
			x = results(c.m)["retried"]
			x.delay, x.hold = 0, 0
		case x.hold > 0 && p.rng.IntN(4) > 0, x.pause && p.rng.IntN(4) > 0: // now and then an endpoint is stopped
			x.hold, x.pause = 0, false
		}
		p.note("%s answers attempt %d of %s: %s", worker, x.attempt, x.id, name)
		batch = append(batch, x)
	}
	p.record(worker, batch...)
	for _, x := range batch {
		p.now++
		p.model.record(worker, x, p.now)
	}
	for _, x := range batch { // the database's clock gave them one time; the order is ours to give
		if d := p.model.due[x.id]; d != nil && d.holder == "" && x.action == actionRetry {
			p.setDue(x.id, d)
		}
	}
}

// pick returns one of the messages in some state of the model, or false.
func (p *play) pick(in func(*modelDue) bool) (id outbox.ID, d *modelDue, ok bool) {
	var ids []outbox.ID
	for id, d := range p.model.due {
		if in(d) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return id, nil, false
	}
	slices.SortFunc(ids, func(a, b outbox.ID) int { return strings.Compare(a.String(), b.String()) })
	id = ids[p.rng.IntN(len(ids))]
	return id, p.model.due[id], true
}

func (p *play) expire() {
	if id, d, ok := p.pick(func(d *modelDue) bool { return d.holder != "" && !d.expired }); ok {
		p.note("the lease of %s ends", id)
		d.expired = true
		p.exec(`UPDATE outbox.due SET locked_until = now() - interval '1 s' WHERE message_id = $1`, id)
	}
}

func (p *play) becomeDue() {
	if id, d, ok := p.pick(func(d *modelDue) bool { return d.future }); ok {
		p.note("%s becomes due", id)
		d.since, d.future = p.now, false
		p.setDue(id, d)
	}
}

func (p *play) cancel() {
	if id, _, ok := p.pick(func(*modelDue) bool { return true }); ok && p.rng.IntN(3) == 0 {
		p.note("%s is cancelled", id)
		if err := p.store.Cancel(p.t.Context(), []outbox.ID{id}, ""); err != nil {
			p.t.Fatal(err)
		}
		p.model.cancel(id)
	}
}

func (p *play) resume() {
	endpoint := p.endpoint()
	p.note("%s is resumed", endpoint)
	if _, err := p.store.Resume(p.t.Context(), endpoint); err != nil {
		p.t.Fatal(err)
	}
	p.model.paused[endpoint], p.model.held[endpoint] = false, false
}

func (p *play) compare() {
	if got, want := p.tables(), p.model.lines(); got != want {
		p.t.Errorf("the tables:\n%s\nthe model:\n%s", got, want)
	}
}
