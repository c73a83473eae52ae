package worker

import (
	"context"
	"sync"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker/internal/outage"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// mover moves messages whose URL was set aside into the URL's lane, in the lanes where a sender met some. It also learns from the
// database which URLs other workers set aside.
type mover struct {
	to        *postgres.Mover
	blame     *schedule.Blame
	openAfter int
	every     time.Duration // between two reads of what is set aside
	outage    *outage.Part

	mu     sync.Mutex
	lanes  map[string]bool // where such messages were met since the last move
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

// met notes that a sender met a message whose URL is set aside, in this lane.
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
		case err == nil, postgres.IsLocked(err), postgres.IsConflict(err), postgres.IsRefusal(err): // of one row, which a sender then moves
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

// moveAll moves messages in every lane in which some were met. After a failure, a sender meets one there again.
func (m *mover) moveAll(ctx context.Context) error {
	m.mu.Lock()
	lanes := m.lanes
	m.lanes = map[string]bool{}
	m.mu.Unlock()
	for lane := range lanes {
		aside := m.blame.AsideOf(lane)
		for range movesMost {
			if len(aside) == 0 { // all answer again
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
