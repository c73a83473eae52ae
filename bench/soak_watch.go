package main

import (
	"context"
	"sync"
	"time"

	"github.com/seed-abbacb8b/epilogue/bench/internal/stand"
)

// soakLook has the values of one moment.
type soakLook struct {
	at       time.Time
	backlog  float64 // messages that are due and not claimed
	dead     float64 // dead rows of the table due, as the statistics know them
	indexes  float64 // size of its indexes, in MiB
	resident float64 // the worker's memory, in MiB; 0 where it is not known
}

// soakWatch looks once a second. The cost of its queries does not grow with the number of messages.
type soakWatch struct {
	soak

	endpoints []string
	worker    *stand.WorkerProcess
	seen      []soakLook
	err       error // to be read after stop
	stop      func() []soakLook
}

const soakLookSQL = `SELECT (` + backlogSQL + `)::float8, pg_stat_get_dead_tuples('bench.due'::regclass)::float8,
       pg_indexes_size('bench.due'::regclass)::float8`

// watch looks until it is stopped or the worker ends.
func (s soak) watch(ctx context.Context, l stand.Load, w *stand.WorkerProcess) (*soakWatch, error) {
	endpoints, err := l.Endpoints()
	if err != nil {
		return nil, err
	}
	watch := &soakWatch{soak: s, endpoints: endpoints, worker: w}
	watching, cancel := context.WithCancel(w.Running)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watch.err = watch.run(watching)
	}()
	watch.stop = sync.OnceValue(func() []soakLook {
		cancel()
		<-ended
		return watch.seen
	})
	return watch, ctx.Err()
}

func (w *soakWatch) run(ctx context.Context) error {
	every := pick(w.size, 100*time.Millisecond, 100*time.Millisecond, time.Second)
	for pause(ctx, every) == nil {
		look := soakLook{at: time.Now()}
		err := w.DB.Pool.QueryRow(ctx, w.DB.In(soakLookSQL), w.endpoints).Scan(&look.backlog, &look.dead, &look.indexes)
		if err != nil {
			return unlessOver(ctx, err)
		}
		look.indexes /= mib
		if m, ok := w.worker.Memory(); ok {
			look.resident = m.Resident
		}
		w.seen = append(w.seen, look)
	}
	return nil
}
