// Package outboxtest helps services that embed the hook to test that the outcomes of their runs are reported: a hook that
// records, checks of what a transaction wrote, and deliveries to an [http.Handler].
//
//	box := outboxtest.In(t, "")                        // the outbox in the default schema
//	box.RequireWritten(tx, outbox.RunOutcome{RunID: "order-4711", Status: outbox.Succeeded})
//	...                                                // commit
//	url := outboxtest.Serve(t, handler)                // for the runs' callback_url
//	box.Drain(pool, worker.Config{})                   // every message that is due has been tried, or arrived
//	box.RequireDelivered(pool, "order-4711")
//
// With database/sql, pass outbox.SQLTx(tx) for the transaction, outbox.SQLDB(db) for the pool, and call DrainURL.
//
// It is for tests only: it links the worker, and with it River.
package outboxtest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Recorder is a hook that records the outcomes and writes nothing. It cannot know which transactions were committed, and also
// holds the outcomes of those that were rolled back. Its zero value is ready, and safe for concurrent use.
type Recorder struct {
	// Err is returned to the caller when it is not nil: a service must then roll back. Set it before the first call.
	Err error

	mu   sync.Mutex
	told []outbox.RunOutcome
}

var _ hook.TerminalHook = (*Recorder)(nil)

// OnTermination records the outcome. One that contradicts itself is refused, as by any hook.
func (r *Recorder) OnTermination(_ context.Context, _ outbox.Tx, o outbox.RunOutcome) error {
	if err := o.Validate(); err != nil {
		return err
	}
	o.Result, o.Headers = slices.Clone(o.Result), maps.Clone(o.Headers)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, o)
	return r.Err
}

// Outcomes returns all recorded outcomes, in their order.
func (r *Recorder) Outcomes() []outbox.RunOutcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

// Of returns the recorded outcomes of one run, in their order.
func (r *Recorder) Of(runID string) []outbox.RunOutcome {
	return slices.DeleteFunc(r.Outcomes(), func(o outbox.RunOutcome) bool { return o.RunID != runID })
}
