// Package worker drains the outbox: it turns due messages into HTTP requests, at least once each.
//
// # The way of a message
//
//	due ──claim──▶ leased ──2xx──▶ delivered (no longer due)
//	 ▲               │────410, 4xx, out of attempts──▶ dead
//	 └───retry───────┘   worker dies: the lease ends, and it is due again
//
// A doorbell in each worker looks at every poll interval, or at once on a wake, where something is due, makes that known
// to the drain and rings for one: it inserts a River job of the kind outbox_drain. A drain claims due messages of the
// endpoints that are known, and what was written elsewhere since the last claim, as many as requests may be begun, and
// starts their delivery; while one runs, a wake goes to it. Answers are recorded in batches, as many as came in while the
// last batch was written.
//
// # Who is authoritative
//
// The due row is. A claim leases it in the database's time and counts the attempt; only the worker that holds the
// lease, with that attempt's number, can record an answer, so one whose lease was taken over changes no row. The River
// job carries nothing: a drain too many finds nothing to claim, and one that is lost is rung for again. The database's
// clock decides leases, due times and what is old; a worker's own clock decides nothing that another worker sees.
//
// # What fails how
//
//	the worker is killed        its leases end; another worker (or itself, started again) delivers anew. The attempt
//	                            is kept as "lost"
//	the worker is stopped       no new claims; requests under way end within ShutdownTimeout; what is left is released
//	                            at once and not counted as an attempt
//	the database goes away      claims wait, answers are kept and recorded when it is back, and the fence decides
//	                            whether they still count
//	a commit's answer is lost   the batch is recorded again, which changes nothing if it was there already
//	the receiver hangs          its own share of requests is held, at most until DeliveryTimeout
//	River's leader is away      the doorbells ring all the same; retention waits for the next leader
package worker
