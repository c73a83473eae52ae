package worker

import (
	"context"
	"sync"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker/internal/outage"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// mover takes messages out of the way whose URL was set aside, in the lanes where a sender met some. It also learns from the
// database which URLs other workers set aside.
type mover struct {
	to        *postgres.Mover
	blame     *schedule.Blame
	openAfter int
	every     time.Duration // between two reads of what is set aside
	outage    *outage.Part

	mu     sync.Mutex
	lanes  map[string]bool // in which messages were met since the last look
	metOne chan struct{}
}

func newMover(to *postgres.Mover, blame *schedule.Blame, c Config, part *outage.Part) *mover {
	return &mover{
		to: to, blame: blame, openAfter: c.OpenAfter, every: max(c.PollInterval, asideEvery), outage: part,
		lanes: map[string]bool{}, metOne: make(chan struct{}, 1),
	}
}

// asideEvery is the least time between two reads of what is set aside.
const asideEvery = time.Second

// movesMost bounds the moves of one lane before another one has its turn.
const movesMost = 16

// met says that a message was met in a lane whose URL is set aside.
func (m *mover) met(lane string) {
	m.mu.Lock()
	m.lanes[lane] = true
	m.mu.Unlock()
	select {
	case m.metOne <- struct{}{}:
	default:
	}
}

// run moves and reads until ctx ends.
func (m *mover) run(ctx context.Context) {
	read := time.NewTicker(m.every)
	defer read.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-m.metOne:
			err = m.moveAll(ctx)
		case <-read.C:
			err = m.read(ctx)
		}
		switch {
		case err == nil, postgres.IsLocked(err), postgres.IsConflict(err), postgres.IsRefusal(err): // a row's, which a sender moves by itself
			m.outage.Worked()
		case m.outage.Wait(ctx, err) != nil:
			return
		}
	}
}

func (m *mover) read(ctx context.Context) error {
	lanes, err := m.to.Aside(ctx, m.openAfter)
	if err == nil {
		m.blame.SetAside(lanes, time.Now())
	}
	return err
}

// moveAll moves in every lane in which messages were met. A lane that fails is met again.
func (m *mover) moveAll(ctx context.Context) error {
	m.mu.Lock()
	lanes := m.lanes
	m.lanes = map[string]bool{}
	m.mu.Unlock()
	for lane := range lanes {
		aside := m.blame.AsideOf(lane)
		for range movesMost {
			if len(aside) == 0 { // all were taken back meanwhile
				break
			}
			more, err := m.to.MoveAhead(ctx, lane, aside)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}
