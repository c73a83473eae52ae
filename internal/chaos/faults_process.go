package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// processKinds are the faults of processes: they are killed, stopped for a while, or replaced.
func processKinds() []kind {
	all := []kind{
		{"kill", drawKill},
		{"term", drawTerm},
		{"kill-writer", drawKillWriter},
	}
	if stopSignal != nil {
		all = append(all, kind{"stop", drawStop})
	}
	return all
}

func (s *stage) drawWorker(r *rand.Rand) (number int, worker *process, group string) {
	number = r.IntN(s.options.workers)
	return number, s.workers[number], fmt.Sprintf("worker %d", number)
}

// drawKill plans a SIGKILL of a worker, which is started again a while later.
func drawKill(s *stage, r *rand.Rand) planned {
	n, worker, group := s.drawWorker(r)
	return planned{
		kind: "kill", group: group, detail: worker.name, touches: touches{workers: []int{n}}, length: between(r, 0, 3*time.Second),
		make: func(context.Context, touch) (undo, error) {
			worker.current().kill()
			return func(context.Context) error { return worker.run(s.url()) }, nil
		},
	}
}

// drawTerm plans a SIGTERM of a worker, as at a deployment. It is started again at once.
func drawTerm(s *stage, r *rand.Rand) planned {
	n, worker, group := s.drawWorker(r)
	return planned{
		kind: "term", group: group, detail: worker.name, touches: touches{workers: []int{n}}, length: between(r, 0, 500*time.Millisecond),
		make: func(context.Context, touch) (undo, error) {
			took, err := worker.current().stop(stopMax)
			s.stopped(worker.name, took, err)
			return func(context.Context) error { return worker.run(s.url()) }, nil
		},
	}
}

// drawStop plans a SIGSTOP of a worker, mostly until its leases have expired and others have its messages, and then a SIGCONT.
func drawStop(s *stage, r *rand.Rand) planned {
	n, worker, group := s.drawWorker(r)
	return planned{
		kind: "stop", group: group, detail: worker.name, touches: touches{workers: []int{n}},
		length: between(r, 2*time.Second, lease+3*time.Second),
		make: func(context.Context, touch) (undo, error) {
			c := worker.current()
			c.signal(stopSignal)
			return func(context.Context) error { c.signal(continueSignal); return nil }, nil
		},
	}
}

// drawKillWriter plans a SIGKILL of a writer. Its transactions are committed or not, and its successor begins other runs.
func drawKillWriter(s *stage, r *rand.Rand) planned {
	n := r.IntN(len(writerKinds))
	return planned{
		kind: "kill-writer", group: fmt.Sprintf("writer %d", n), detail: writerKinds[n], length: between(r, 0, time.Second),
		make: func(context.Context, touch) (undo, error) {
			writer := s.writers[n]
			writer.current().signal(syscall.SIGKILL)
			<-writer.current().done
			return func(context.Context) error { return writer.run(s.url()) }, nil
		},
	}
}
