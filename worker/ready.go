package worker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Ready means progress: it returns nil, or what keeps messages from being delivered. It makes no query: it judges by
// scans, claims and records that are made anyway. A worker is not ready
//
//   - before it works, and once it stops;
//   - when no scan for due messages succeeded for three polls;
//   - when messages could be claimed, a slot is free, and nobody has claimed anything for the lease and two polls;
//   - when an answer has waited for ten seconds to be recorded.
func (w *Worker) Ready(context.Context) error {
	now := time.Now()
	if !w.up.Load() {
		return errors.New("not started, or stopping")
	}
	if why := w.scheduler.Stuck(now); why != "" {
		return errors.New(why)
	}
	if since := w.recorder.Unrecorded(); !since.IsZero() && now.Sub(since) > unrecordedMax {
		return fmt.Errorf("an answer has waited for %v to be recorded", now.Sub(since).Round(time.Millisecond))
	}
	return nil
}

// unrecordedMax is how long an answer may wait to be recorded.
const unrecordedMax = 10 * time.Second

// readyEvery is how often the worker checks whether it is ready.
const readyEvery = time.Second

// tellReady logs when the worker becomes not ready, and when it is ready again, until ctx ends.
func (w *Worker) tellReady(ctx context.Context) {
	ticker := time.NewTicker(readyEvery)
	defer ticker.Stop()
	ready, since := true, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch err := w.Ready(ctx); {
		case ctx.Err() != nil:
		case ready && err != nil:
			ready, since = false, time.Now()
			w.config.Logger.ErrorContext(ctx, "not ready: messages are not delivered", "because", err)
		case !ready && err == nil:
			ready = true
			w.config.Logger.InfoContext(ctx, "ready again", "after", time.Since(since).Round(time.Millisecond))
		}
	}
}
