package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/faulty"
)

// networkKinds are the faults between one process and the database.
func networkKinds() []kind {
	return []kind{
		{"cut", drawCut},
		{"cut-claim", drawCutAt("cut-claim", "outbox.due")},
		{"cut-commit", drawCutCommit},
		{"cut-batch", drawCutBatch},
		{"hold", drawLasting("hold", faulty.Stall(faulty.Both), 500*time.Millisecond, 9*time.Second)},
		{"freeze", drawLasting("freeze", faulty.Freeze(faulty.Both), time.Second, 9*time.Second)},
		{"refuse", drawRefuse},
		{"latency", drawLatency},
	}
}

// drawPeer draws the process whose network fails: a worker, or in a third of the cases a writer.
func (s *stage) drawPeer(r *rand.Rand) (peer func() *process, name, group string, what touches) {
	if r.IntN(3) == 0 {
		n := r.IntN(len(writerKinds))
		return func() *process { return s.writers[n] }, "writer " + writerKinds[n], fmt.Sprintf("writer %d", n), touches{}
	}
	n, worker, group := s.drawWorker(r)
	return func() *process { return worker }, worker.name, group, touches{workers: []int{n}}
}

func drawHow(r *rand.Rand) (faulty.How, string) {
	if r.IntN(2) == 0 {
		return faulty.FIN, "FIN"
	}
	return faulty.RST, "RST"
}

// unnoticed is how long a worker needs at most to notice that the server silently closed the session of its lock: until its
// next pulse, plus the time that the pulse waits for an answer (package roster). Other workers may take it for dead meanwhile.
const unnoticed = 6 * time.Second

// drawCut plans to cut every connection of one process, on both sides or on one of them.
func drawCut(s *stage, r *rand.Rand) planned {
	peer, name, group, what := s.drawPeer(r)
	how, text := drawHow(r)
	side := r.IntN(3)
	action := []faulty.Action{faulty.Cut(how), faulty.CutClient(how), faulty.CutServer(how)}[side]
	lasts := time.Duration(0)
	if side == 2 {
		lasts = unnoticed
	}
	return planned{
		length: lasts,
		kind:   "cut", group: group, touches: what, detail: name + ", " + text + " on " + []string{"both sides", "its side", "the server's side"}[side],
		make: func(context.Context, touch) (undo, error) {
			peer().proxy.Do(faulty.Existing, action)
			return nil, nil
		},
	}
}

// drawCutAt plans to cut a connection at a statement with this text, so that its answer or the statement itself is lost.
func drawCutAt(kind, text string) func(s *stage, r *rand.Rand) planned {
	return func(s *stage, r *rand.Rand) planned {
		n, worker, group := s.drawWorker(r)
		trigger, where := faulty.AfterStatement(text, 1+r.IntN(5)), "after"
		if r.IntN(2) == 0 {
			trigger, where = faulty.BeforeReady(text), "before the answer of"
		}
		how, name := drawHow(r)
		return armed(planned{
			kind: kind, group: group, detail: fmt.Sprintf("%s, %s %s a statement on %s", worker.name, name, where, text),
			touches: touches{workers: []int{n}}, length: between(r, 2*time.Second, 4*time.Second),
		}, func() *process { return worker }, trigger, faulty.Cut(how))
	}
}

// drawCutCommit plans that the server commits and the answer is lost. Mostly the commit is that of a writer, which then does not
// know whether its run has ended.
func drawCutCommit(s *stage, r *rand.Rand) planned {
	n := r.IntN(len(writerKinds))
	peer, name, group, what := func() *process { return s.writers[n] }, "writer "+writerKinds[n], fmt.Sprintf("writer %d", n), touches{}
	if r.IntN(3) == 0 {
		w, worker, workerGroup := s.drawWorker(r)
		peer, name, group, what = func() *process { return worker }, worker.name, workerGroup, touches{workers: []int{w}}
	}
	how, text := drawHow(r)
	return armed(planned{
		kind: "cut-commit", group: group, touches: what, detail: name + ", " + text + " before COMMIT's answer",
		length: between(r, time.Second, 4*time.Second),
	}, peer, faulty.BeforeCommitAnswer(), faulty.Cut(how))
}

// drawCutBatch plans to cut the client's side in the middle of a batch. The server waits for the rest, and keeps its locks.
func drawCutBatch(s *stage, r *rand.Rand) planned {
	peer, name, group, what := s.drawPeer(r)
	how, text := drawHow(r)
	nth := 1 + r.IntN(3)
	action, side := faulty.Cut(how), ""
	if r.IntN(2) == 0 {
		action, side = faulty.CutClient(how), ", and the server does not notice"
	}
	return armed(planned{
		kind: "cut-batch", group: group, touches: what, detail: fmt.Sprintf("%s, %s after %d statements%s", name, text, nth, side),
		length: between(r, time.Second, 4*time.Second),
	}, peer, faulty.AfterMessage('E', nth), action)
}

// armed completes a fault at a place in the protocol. It happens each time that the process gets there, armedMax times at
// most.
func armed(p planned, peer func() *process, trigger faulty.Trigger, action faulty.Action) planned {
	const armedMax = 4
	p.make = func(context.Context, touch) (undo, error) {
		var all []*faulty.Armed
		for range armedMax {
			all = append(all, peer().proxy.On(trigger, action))
		}
		return func(context.Context) error {
			for _, a := range all {
				a.Disarm()
			}
			return nil
		}, nil
	}
	return p
}

// drawLasting plans to hold bytes back, or drop them, for a while. In half of the cases the connections are cut afterwards;
// otherwise a connection that has lost bytes stays silent, and only new ones work.
func drawLasting(kind string, action faulty.Action, from, to time.Duration) func(s *stage, r *rand.Rand) planned {
	return func(s *stage, r *rand.Rand) planned {
		peer, name, group, what := s.drawPeer(r)
		cut, detail := r.IntN(2) == 0, name
		if cut {
			detail += ", then cut"
		}
		return planned{
			kind: kind, group: group, detail: detail, touches: what, length: between(r, from, to),
			make: func(context.Context, touch) (undo, error) {
				proxy := peer().proxy
				proxy.Do(faulty.All, action)
				return func(context.Context) error {
					if cut {
						proxy.Do(faulty.Existing, faulty.Cut(faulty.RST))
					}
					proxy.Do(faulty.All, faulty.Pass(faulty.Both))
					return nil
				}, nil
			},
		}
	}
}

// drawRefuse plans to refuse new connections and cut existing ones.
func drawRefuse(s *stage, r *rand.Rand) planned {
	peer, name, group, what := s.drawPeer(r)
	return planned{
		kind: "refuse", group: group, detail: name, touches: what, length: between(r, 500*time.Millisecond, 5*time.Second),
		make: func(context.Context, touch) (undo, error) {
			proxy := peer().proxy
			proxy.Refuse(true)
			proxy.Do(faulty.Existing, faulty.Cut(faulty.RST))
			return func(context.Context) error { proxy.Refuse(false); return nil }, nil
		},
	}
}

func drawLatency(s *stage, r *rand.Rand) planned {
	peer, name, group, what := s.drawPeer(r)
	latency := between(r, 5*time.Millisecond, 150*time.Millisecond).Round(time.Millisecond)
	return planned{
		kind: "latency", group: group, detail: fmt.Sprintf("%s, %v", name, latency), touches: what,
		length: between(r, time.Second, 6*time.Second),
		make: func(context.Context, touch) (undo, error) {
			proxy := peer().proxy
			proxy.Do(faulty.All, faulty.Delay(faulty.Both, latency))
			return func(context.Context) error { proxy.Do(faulty.All, faulty.Delay(faulty.Both, 0)); return nil }, nil
		},
	}
}
