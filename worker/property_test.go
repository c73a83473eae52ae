package worker

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
	"github.com/seed-abbacb8b/epilogue/internal/uuid7"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

var (
	modelEvents = flag.Int("model-events", 4000, "events of one run of the model")
	modelSeed   = flag.Uint64("model-seed", 0, "seed of the model's run; 0: a random one")
)

// modelEpoch is the time of the model's second 0. It is long ago, so that every due time of the model is in the past.
var modelEpoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// play does random things to the outbox, and the same to its model. Its workers are real schedulers over the real statements.
// They make no requests, and their clocks run ahead of the real time.
type play struct {
	*rig
	rng     *rand.Rand
	model   *model
	workers []*player
	drains  int           // River jobs that no worker has taken yet
	second  int           // the model's clock
	ahead   time.Duration // how far the schedulers' clocks are ahead of the real time
	named   int
	log     []string
}

// player is one worker.
type player struct {
	name      string
	scheduler *schedule.Scheduler
	claimer   *postgres.Claimer
	recorder  *postgres.Recorder
	scanner   *postgres.Scanner
	draining  bool
	scans     []schedule.ScanOrder // under way
	inFlight  []*postgres.Message
	stale     []*postgres.Message // answered or lost: a result that is recorded for one of these must change nothing
}

// TestTheWorkersAgreeWithASimpleModel plays random events with several workers: writes (some committed late), wakes (some
// lost), scans, claims, answers (some of them stale), leases that end, waits, cancellations, pauses and crashes. It compares
// every claim with the model, and all tables every 50 events. In the end nothing fails any more, and all that is due must be
// delivered.
func TestTheWorkersAgreeWithASimpleModel(t *testing.T) {
	t.Parallel()
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	p := &play{rig: newRig(t), rng: rand.New(rand.NewPCG(seed, 0)), model: newModel()}
	for range 3 {
		p.workers = append(p.workers, p.player())
	}
	defer func() {
		if t.Failed() {
			t.Logf("-model-seed %d; the last events: %s", seed, strings.Join(p.log[max(0, len(p.log)-30):], "; "))
		}
	}()
	events := []func(){
		p.write, p.write, p.write, p.scan, p.scan, p.takeDrain, p.takeDrain, p.claim, p.claim, p.claim, p.claim, p.claim, p.answer, p.answer, p.answer, p.answer,
		p.answerStale, p.wake, p.wait, p.expire, p.becomeDue, p.cancel, p.pause, p.resume, p.resume, p.crash,
	}
	claims := 0
	for i := range *modelEvents {
		p.second++
		events[p.rng.IntN(len(events))]()
		if i%50 == 0 || i == *modelEvents-1 {
			p.compare()
		}
		if t.Failed() {
			return
		}
	}
	for _, line := range p.log {
		if strings.Contains(line, "claims") {
			claims++
		}
	}
	t.Logf("%d events, %d claims", *modelEvents, claims)
	p.settle()
}

func (p *play) note(format string, args ...any) { p.log = append(p.log, fmt.Sprintf(format, args...)) }

// modelLanes are the lanes of origins, of tenants at some of them, and of one URL of each.
var modelLanes = func() (all []string) {
	for _, owner := range []string{"https://e0.test", "https://e0.test acme", "https://e0.test globex", "https://e1.test acme", "https://e2.test"} {
		all = append(all, owner, lane.OfURL(owner, "u"))
	}
	return all
}()

func (p *play) endpoint() string { return modelLanes[p.rng.IntN(len(modelLanes))] }

func (p *play) worker() *player { return p.workers[p.rng.IntN(len(p.workers))] }

func (p *play) now() time.Time { return time.Now().Add(p.ahead) }

func (p *play) player() *player {
	p.named++
	name, slots := fmt.Sprint("w", p.named), 1+p.rng.IntN(12)
	return &player{
		name: name,
		scheduler: schedule.New(schedule.Config{
			MaxInFlight: slots, EndpointMaxInFlight: 1 + p.rng.IntN(slots), PollInterval: time.Second, DrainTurn: time.Minute,
		}, p.now()),
		claimer: postgres.NewClaimer(postgres.Direct(p.Pool), postgres.ClaimerConfig{Schema: p.Schema, Worker: name, Lease: time.Hour, OpenAfter: 1_000_000}),
		recorder: postgres.NewRecorder(postgres.Direct(p.Pool), postgres.RecorderConfig{
			Schema: p.Schema, Worker: name, OpenAfter: 1_000_000, OpenFor: time.Second, OpenForMax: time.Second,
		}),
		scanner: postgres.NewScanner(postgres.Direct(p.Pool), p.Schema, nil),
	}
}

// write makes a message that is due, or will be in an hour. One in four is committed late: its id and due time are older than
// those of messages that were claimed already. Every second write is followed by a wake.
func (p *play) write() {
	id, endpoint := outbox.NewID(), p.endpoint()
	p.second++
	d := &modelDue{endpoint: endpoint, since: p.second, future: p.rng.IntN(6) == 0}
	if p.rng.IntN(4) == 0 {
		floor := uuid7.Floor(time.Now().Add(-time.Minute))
		copy(id[:6], floor[:6])
		d.since -= p.rng.IntN(1000)
	}
	p.note("write %s to %s, future: %v", id, endpoint, d.future)
	p.exec(`INSERT INTO outbox.message (id, run_id, status, result, final_step, url, endpoint) VALUES ($1, 'run', 'succeeded', '', 0, 'u', split_part($2::text, ' ', 1))`,
		id, endpoint)
	p.exec(`INSERT INTO outbox.due (message_id, endpoint, due_at) VALUES ($1, $2, now() + interval '1 h')`, id, endpoint)
	p.model.due[id] = d
	p.setDue(id, d)
	if p.rng.IntN(2) == 0 {
		p.wake()
	}
}

// setDue replaces the due time that the database's clock gave by the model's.
func (p *play) setDue(id outbox.ID, d *modelDue) {
	at := modelEpoch.Add(time.Duration(d.since) * time.Second)
	if d.future {
		at = time.Now().Add(time.Hour)
	}
	p.exec(`UPDATE outbox.due SET due_at = $2 WHERE message_id = $1`, id, at)
}

// wake wakes some of the workers; for the others it is lost.
func (p *play) wake() {
	for _, w := range p.workers {
		if p.rng.IntN(3) > 0 {
			w.scheduler.Woken(p.now())
		}
	}
}

func (p *play) wait() { p.ahead += time.Duration(p.rng.IntN(int(3 * time.Second))) }

// scan does the next step of a worker's scan loop, or ends a scan that is under way.
func (p *play) scan() { p.scanOf(p.worker()) }

func (p *play) scanOf(w *player) (waits bool) {
	if len(w.scans) > 0 && p.rng.IntN(2) == 0 {
		p.endScan(w)
		return false
	}
	switch step := w.scheduler.NextScan(p.now()); step.Do {
	case schedule.Scan:
		w.scans = append(w.scans, step.Scan)
	case schedule.InsertDrain:
		p.note("%s inserts a drain", w.name)
		p.drains++
	default:
		if len(w.scans) > 0 {
			p.endScan(w)
			return false
		}
		return true
	}
	return false
}

// endScan runs the statement of the scan that began first. One in ten fails.
func (p *play) endScan(w *player) {
	order := w.scans[0]
	w.scans = w.scans[1:]
	if p.rng.IntN(10) == 0 {
		w.scheduler.ScanFailed(order, p.now(), 100*time.Millisecond)
		return
	}
	var scan postgres.Scan
	var err error
	if order.Kind == schedule.Full {
		scan, err = w.scanner.Full(p.t.Context(), order.After)
	} else {
		scan, err = w.scanner.Recent(p.t.Context(), p.now().Sub(order.Since))
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.note("%s scans and finds %d", w.name, len(scan.Candidates))
	w.scheduler.Scanned(order, candidates(scan.Candidates), scan.Took, p.now())
}

// takeDrain makes a worker take a River job.
func (p *play) takeDrain() {
	if w := p.worker(); p.drains > 0 && !w.draining {
		p.note("%s drains", w.name)
		p.drains--
		w.draining = true
		w.scheduler.DrainBegan(p.now())
	}
}

// claim does the next step of a worker's claim loop.
func (p *play) claim() { p.claimOf(p.worker()) }

func (p *play) claimOf(w *player) (waits bool) {
	if !w.draining {
		return true
	}
	step := w.scheduler.NextClaim(p.now())
	switch step.Do {
	case schedule.EndDrain:
		w.draining = false
		w.scheduler.DrainEnded()
		return false
	case schedule.WaitFor:
		if p.rng.IntN(2) == 0 {
			p.ahead += max(step.Until.Sub(p.now()), 0)
		}
		return true
	}
	if p.rng.IntN(20) == 0 {
		w.scheduler.ClaimFailed(p.now(), 100*time.Millisecond)
		return false
	}
	order, from := claimOrder(step.Order), make([]int, len(step.Order.Turns))
	for i, t := range order.Turns {
		from[i] = int(t.From.Sub(modelEpoch) / time.Second)
	}
	claimed, err := w.claimer.Claim(p.t.Context(), order)
	if err != nil {
		p.t.Fatal(err)
	}
	rows := claimed.Messages
	p.note("%s claims %d of %v and %d recent, takes %d", w.name, order.Most, order.Turns, order.Recent, len(rows))
	for _, fault := range p.model.claim(w.name, order, from, rows) {
		p.t.Error(fault)
	}
	start, back := w.scheduler.Claimed(p.now(), claimedMessages(rows, p.now()), candidates(claimed.Left))
	w.inFlight = append(w.inFlight, rowsOf(start)...)
	p.release(w, rowsOf(back))
	return false
}

func (p *play) release(w *player, rows []*postgres.Message) {
	for _, row := range rows {
		p.record(w, released(row, time.Now()))
	}
}

// answer ends one request of a worker. One in ten answers is recorded twice, as after a commit whose answer was lost.
func (p *play) answer() {
	w := p.worker()
	if len(w.inFlight) == 0 {
		return
	}
	i := p.rng.IntN(len(w.inFlight))
	row := w.inFlight[i]
	w.inFlight = slices.Delete(w.inFlight, i, i+1)
	names := []string{"delivered", "delivered", "retried", "again at once", "refused", "set aside", "moved", "failed", "timed out", "released"}
	name := names[p.rng.IntN(len(names))]
	if (name == "set aside" || name == "retried") && p.rng.IntN(4) > 0 { // an endpoint is held back only now and then
		name = "again at once"
	}
	p.answered(w, row, name)
}

func (p *play) answered(w *player, row *postgres.Message, name string) {
	x, kind := modelResult(row, name)
	p.note("%s answers attempt %d of %s: %s", w.name, x.Attempt, x.ID, name)
	p.record(w, x)
	if p.rng.IntN(10) == 0 {
		p.record(w, x)
	}
	now := p.now()
	next, more, back := w.scheduler.Answered(row.Endpoint, schedule.Answer{Kind: kind, StatusCode: x.StatusCode, StartedAt: now, Duration: time.Millisecond}, now)
	if more {
		w.inFlight = append(w.inFlight, rowOf(next))
	}
	p.release(w, rowsOf(back))
	w.stale = append(w.stale, row)
}

// modelResult returns the result of this name for a message.
func modelResult(row *postgres.Message, name string) (x postgres.Result, kind schedule.Kind) {
	x = postgres.Result{ID: row.ID, Endpoint: row.Endpoint, Attempt: row.Attempt, StartedAt: time.Now()}
	of, owner, origin := postgres.Saying{Lane: row.Endpoint}, lane.Owner(row.Endpoint), postgres.Saying{Lane: lane.Origin(row.Endpoint)}
	ofURL := lane.OfURL(owner, "u")
	switch name {
	case "delivered":
		x.Class, x.StatusCode, x.Action, kind = "delivered", 200, postgres.ActionDelivered, schedule.Delivered
	case "retried":
		x.Class, x.StatusCode, x.Action, x.Delay, kind = "status", 429, postgres.ActionRetry, time.Hour, schedule.Status
		of.Hold = time.Hour
	case "again at once":
		x.Class, x.StatusCode, x.Action, kind = "status", 429, postgres.ActionRetry, schedule.Status
	case "set aside":
		x.Class, x.StatusCode, x.Action, x.Delay, x.MoveTo, kind = "status", 429, postgres.ActionRetry, time.Hour, ofURL, schedule.Status
		of = postgres.Saying{Lane: ofURL, Hold: time.Hour}
	case "moved":
		return postgres.Result{
			ID: row.ID, Endpoint: row.Endpoint, Attempt: row.Attempt, Action: postgres.ActionMove, MoveTo: ofURL, StartedAt: time.Now(),
		}, schedule.Moved
	case "failed":
		x.Class, x.Action, x.Delay, kind = "reset", postgres.ActionRetry, time.Hour, schedule.Failed
		of.Failures, origin.Failures = 1, 1
	case "timed out":
		x.Class, x.Action, kind = "timeout", postgres.ActionRetry, schedule.Timeout
		of.Failures, origin.Failures = 1, 1
	case "refused":
		x.Class, x.StatusCode, x.Action, x.Reason, kind = "status", 404, postgres.ActionDead, "refused", schedule.Status
	case "released":
		x.Action, kind = postgres.ActionRelease, schedule.Failed
		return x, kind
	}
	x.Says = []postgres.Saying{of}
	if of.Lane != origin.Lane {
		x.Says = append(x.Says, origin)
	}
	return x, kind
}

func (p *play) record(w *player, x postgres.Result) {
	if _, err := w.recorder.Record(p.t.Context(), []postgres.Result{x}); err != nil {
		p.t.Fatal(err)
	}
	p.second++
	before := p.model.due[x.ID]
	held := before != nil && before.holder == w.name && before.attempt == x.Attempt
	p.model.record(w.name, x, p.second)
	if d := p.model.due[x.ID]; d != nil && held && x.Action == postgres.ActionRetry {
		p.setDue(x.ID, d)
	}
}

// answerStale records another answer to a claim that was answered or lost before.
func (p *play) answerStale() {
	w := p.worker()
	if len(w.stale) == 0 {
		return
	}
	row := w.stale[p.rng.IntN(len(w.stale))]
	if d := p.model.due[row.ID]; d != nil && d.holder == w.name && d.attempt == row.Attempt {
		return // not stale: a release gave the attempt's number back, and this worker claimed the message again (DESIGN, known limits)
	}
	names := []string{"delivered", "retried", "refused", "set aside", "moved", "released"}
	x, _ := modelResult(row, names[p.rng.IntN(len(names))])
	p.note("%s answers attempt %d of %s once more", w.name, x.Attempt, x.ID)
	p.record(w, x)
}

// crash replaces a worker by a new one. The old one's messages are claimed again when their leases end.
func (p *play) crash() {
	if p.rng.IntN(5) > 0 {
		return
	}
	i := p.rng.IntN(len(p.workers))
	p.note("%s crashes", p.workers[i].name)
	p.workers[i] = p.player()
}

// pick returns one of the model's messages for which in holds, or false.
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
		d.since, d.future = p.second, false
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

func (p *play) resume() { p.resumed(p.endpoint()) }

func (p *play) resumed(endpoint string) {
	p.note("%s is resumed", endpoint)
	p.exec(`UPDATE outbox.endpoint SET paused = false, open_until = NULL, failures = 0, openings = 0, probing = false WHERE endpoint = $1`, endpoint)
	p.model.paused[endpoint], p.model.held[endpoint], p.model.failing[endpoint] = false, false, false
}

func (p *play) pause() {
	endpoint := p.endpoint()
	if p.rng.IntN(4) > 0 {
		return
	}
	p.note("%s is paused", endpoint)
	p.exec(`INSERT INTO outbox.endpoint (endpoint, paused, reason) VALUES ($1, true, '') ON CONFLICT (endpoint) DO UPDATE SET paused = true`, endpoint)
	p.model.paused[endpoint] = true
}

func (p *play) compare() {
	got, want := strings.Split(p.tables(), "\n"), strings.Split(p.model.lines(), "\n")
	for _, line := range got {
		if !slices.Contains(want, line) {
			p.t.Errorf("the tables have the line %q, and the model does not; want equal lines", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			p.t.Errorf("the model has the line %q, and the tables do not; want equal lines", line)
		}
	}
}

// roundsMax bounds the rounds after which all that is due must be delivered, once nothing fails any more. A round is a poll
// interval. With windows of one request, the workers deliver the messages of all lanes one by one.
const roundsMax = 400

// settle ends every lease, resumes every endpoint, and then lets the workers deliver all that is due.
func (p *play) settle() {
	for _, endpoint := range modelLanes {
		p.resumed(endpoint)
	}
	for range len(p.model.due) {
		p.expire()
		p.becomeDue()
	}
	for round := range roundsMax {
		if len(p.model.due) == 0 {
			p.t.Logf("delivered after %d rounds", round)
			p.compare()
			return
		}
		for _, w := range p.workers {
			for range 20 {
				if p.scanOf(w) {
					break
				}
			}
			p.takeDrain()
			for range 50 {
				if waits := p.claimOf(w); waits && len(w.inFlight) == 0 {
					break
				}
				rows := w.inFlight
				w.inFlight = nil
				for _, row := range rows {
					p.answered(w, row, "delivered")
				}
			}
			if p.t.Failed() {
				return
			}
		}
		p.ahead += time.Second
	}
	p.t.Errorf("after %d rounds %d messages are still due, want none", roundsMax, len(p.model.due))
}
