package worker

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/seed-abbacb8b/epilogue/worker/internal/outage"
	"github.com/seed-abbacb8b/epilogue/worker/internal/postgres"
	"github.com/seed-abbacb8b/epilogue/worker/internal/schedule"
)

// recorder writes results in batches: while one batch is written, the next one gathers. The first result after a pause is
// written at once; in a stream, a batch waits until it is large enough to be worth a statement, schedule.BatchPace at
// most.
type recorder struct {
	to     *postgres.Recorder
	in     chan postgres.Result // bounded: when the database is slower than the receivers, requests wait here
	outage *outage.Part
	logger *slog.Logger
	last   time.Time // when the last batch was begun
	stream bool      // it was one of many results

	unwritten atomic.Int64 // results that were given up
}

// batchMax bounds a batch, and with it one statement's memory.
const batchMax = 512

// run records until in is closed and everything in it is written, or until ctx ends, which loses what is unwritten: it
// is delivered again when its lease ends.
func (r *recorder) run(ctx context.Context) {
	for first := range r.in {
		batch := r.gather(first)
		if unwritten, err := r.write(ctx, batch); err != nil {
			r.unwritten.Add(int64(unwritten))
		}
	}
}

func (r *recorder) gather(first postgres.Result) []postgres.Result {
	batch := make([]postgres.Result, 1, 64)
	batch[0] = first
	var paced <-chan time.Time
	if left := schedule.BatchPace - time.Since(r.last); r.stream && left > 0 {
		paced = time.After(left)
	}
	for len(batch) < batchMax {
		select {
		case next, ok := <-r.in:
			if !ok {
				return batch
			}
			batch = append(batch, next)
			continue
		default:
		}
		if paced == nil || len(batch) >= schedule.BatchWorth {
			break
		}
		select {
		case next, ok := <-r.in:
			if !ok {
				return batch
			}
			batch = append(batch, next)
		case <-paced:
			paced = nil
		}
	}
	r.last, r.stream = time.Now(), len(batch) >= schedule.BatchOfStream
	return batch
}

// write retries while the database is away. A batch that the database refuses is written row by row, so that one row
// cannot take the others with it. A row that is refused alone is logged, and delivered again when its lease ends. An error
// says how many results were not written because ctx ended.
func (r *recorder) write(ctx context.Context, batch []postgres.Result) (unwritten int, err error) {
	for {
		changes, err := r.to.Record(ctx, batch)
		switch {
		case err == nil:
			r.outage.Worked()
			r.logChanges(ctx, changes)
			return 0, nil
		case postgres.IsRefusal(err) && len(batch) == 1:
			r.logger.ErrorContext(ctx, "an answer is not recorded, for the database refuses it; the message will be delivered again",
				"message", batch[0].ID.String(), "error", err)
			return 0, nil
		case postgres.IsRefusal(err):
			for i := range batch {
				if _, err := r.write(ctx, batch[i:i+1]); err != nil {
					return len(batch) - i, err
				}
			}
			return 0, nil
		}
		if r.outage.Wait(ctx, err) != nil {
			return len(batch), err
		}
	}
}

// logChanges tells what a batch changed of the endpoints' health.
func (r *recorder) logChanges(ctx context.Context, changes []postgres.EndpointChange) {
	for _, c := range changes {
		level, attrs := slog.LevelWarn, []slog.Attr{slog.String("endpoint", c.Endpoint), slog.String("reason", c.Reason)}
		if c.OpenUntil != nil {
			attrs = append(attrs, slog.Time("open_until", *c.OpenUntil))
		}
		if c.What == postgres.EndpointClosed {
			level = slog.LevelInfo
		}
		r.logger.LogAttrs(ctx, level, "endpoint: "+c.What, attrs...)
	}
}
