// Package riverstep runs workflows as steps on the service's own River client. Every way a run can end writes its outcome,
// through a [hook.TerminalHook], in the transaction that settles the run: crashes included.
//
//	steps, err := riverstep.New(pool, runner, riverstep.Config{Hook: webhookHook})
//	config := &river.Config{...}               // the service's own: queues, middleware, retry policy
//	err = steps.Register(config)               // adds two workers and a periodic job to it
//	client, err := river.NewClient(riverpgxv5.New(pool), config)
//	steps.Bind(client)
//	err = client.Start(ctx)
//	...
//	submitted, err := steps.Submit(ctx, riverstep.RunSpec{ID: "order-4711", Input: order, Headers: headers})
//
// A [Runner] gets a [Step] and returns a [Verdict]: go on with this payload, succeed, fail, cancel. A step that returns an
// error is retried by the retry policy of River, unless the error is [Permanent] or this was the last attempt.
//
// # Which row decides
//
// The row of the run (table riverstep_run, migration 00002) does. It holds the step of the run, its payload and headers, and how
// the run ended. A River job only brings a step to a worker, and its arguments are three identifiers. So payloads and headers,
// which may hold secrets, are not in the tables of River, nor on the pages of River UI, nor in the GIN index of River over
// arguments.
//
// The job's end happens in one of two ways:
//
//   - completed: with [river.JobCompleteTx], in the settling transaction itself. Continue, Succeed, Fail and Cancel end so.
//     The next step's job is inserted there too, with InsertTx: a successor exists exactly if its step was settled.
//   - discarded or cancelled: River has no public call that fails a job inside a transaction of ours. The transaction ends
//     the run; the job follows, by the error that its worker then returns. If the process dies between the two, the job is
//     rescued and taken up again, finds that its run has ended, and only repeats the job's end.
//
// The alternative was a call into the driver of River (JobSetStateIfRunningMany), which semver does not cover, for a job state
// that nothing depends on. All calls here are in the public API of River, with one exception: to discard a job before its
// attempts are used up, MaxAttempts is lowered in the row in memory, which River reads when the worker returns. If a version of
// River read a copy instead, the job would be retried and would repeat its end until it is discarded: later, with the same end.
// TestEveryWayARunCanEnd checks River (v0.51.1 in go.mod) for this.
//
// # What fences
//
// A settling transaction first locks the row of the job through River (JobCompleteTx, or JobUpdateTx when it is not to be
// completed), then the row of the run. It goes on only if the job is still in the same attempt of this worker (attempt and
// attempted_at), the run is active, and the run is at this job. So a worker whose job was rescued, cancelled or run again
// settles nothing and writes nothing. Every transaction takes the locks in this order, cancels too.
//
// A run's end is an UPDATE from active of one row per run instance, and a trigger refuses any change of an ended row. So
// there is one end, and one call of the hook that is committed, per instance. With [DedupeKey] in
// hook.WebhookConfig.DedupeKey, the message has a unique key per instance as well.
//
// # Cancelling
//
// [Steps.Cancel] cancels the job with JobCancelTx. A job that waits never runs: its run ends in the same transaction. For a
// running job, River cancels the context, in whatever process it runs; the request is kept in the row of the run and in that of
// the job. What the runner then returns is discarded, unless it is Cancel, whose reason is kept. A runner that returned without
// settling records that in the row of the run, so that a cancel between two attempts ends the run at once.
//
// # What River does by itself
//
// Some jobs end without a worker: one that was cancelled or deleted by hand in River UI, one that the rescuer cancelled or
// discarded after a crash, one whose row cannot be decoded. A periodic River job, the sweep, finds active runs whose job has
// ended, and ends them: as cancelled, or as failed with the last error of the job. It also removes runs that ended longer ago
// than Config.Retention. A crash on the last attempt of a step is handled sooner: River gets a few attempts more than the step
// has, and a worker that takes the job beyond the last one ends the run as failed.
//
// # Attempts
//
// A step is tried until its attempts are used up. Errors, panics, timeouts and crashes count. An attempt that River takes
// back (a soft stop of the client) does not, nor does one whose verdict could not be committed because the database or the
// hook refused: such a step is snoozed, with growing delays, and the refusal is in the metadata of the job (riverstep_error)
// and in the log. An outcome that cannot be recorded is never acknowledged.
//
// A transaction that collides with another (it cannot be serialised, is the victim of a deadlock, does not get a lock) is
// tried again within Config.SettleTimeout; the runner is not called again for it. While another session holds the row of
// the step's job or of its run, the settling waits and tries again, in its slot, until that session releases the row or the client is
// stopped hard.
//
// # Caller's duties
//
//  1. Migrate: the outbox's tables, and River's where the client has them.
//  2. Write through the transaction that [Verdict.With] and the hook are given, and nowhere else: it is committed with the
//     step or not at all. Code that takes a second connection from the pool meanwhile can deadlock. What the runner
//     does elsewhere happens at least once per step, and again after a crash.
//  3. Return when the context ends. A runner that goes on keeps its slot until the rescuer of River gives its step to another
//     worker; then it has lost the step.
//  4. Give all processes that register steps the same limits and hook: the process that settles a run calls its own hook.
//  5. Set river.Config.RescueStuckJobsAfter to what a crash may delay a step; River's default is an hour, and it must be
//     longer than Config.Timeout and Config.SettleTimeout together, by as much as the processes' clocks may differ.
//  6. Set TCP keepalives for the pool (tcp_keepalives_idle and its siblings, tcp_user_timeout): they alone end a session
//     whose host vanished in the middle of a message.
//
// # Whose settings, whose clock
//
// riverstep's own transactions are READ COMMITTED and READ WRITE, whatever the database's defaults are, with timeouts of
// their own. In the caller's transaction ([Steps.SubmitTx], [Steps.CancelTx]) no setting is changed: isolation is the
// caller's, and a failure to serialise (SQLSTATE 40001) is returned, to be found by errors.As. The database's clock decides
// when a step may begin; retries and snoozes are River's, and follow the clock of the process. A process warns when the
// two clocks differ by more than a second.
//
// # Not promised
//
// A step's work is done at least once, not exactly once. Runs do not wait for each other. Steps of one run follow each
// other; there is no branching.
//
// # Cost
//
// A step is one read and a transaction of three statements; by hand, with JobCompleteTx and InsertTx alone, it is two and
// no read, without any of the above but success. bench (-only steps) prints the ratio: 0.7 of the steps per second.
// Against steps by hand that keep a row per run, too, it was 0.93 in one measurement, and 0.79 in another on a busy machine.
//
// No goroutine is started here; River's own run everything.
package riverstep
