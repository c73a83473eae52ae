// Package worker drains the outbox: it turns due messages into HTTP requests, at least once each.
//
// # The way of a message
//
//	          claim loop ──▶ postgres ──▶ send loop ──▶ delivery ──▶ send loop ──▶ recorder ──▶ postgres
//	          (schedule decides)  leased             one attempt   (schedule judges)      fenced
//
//	due ──claim──▶ leased ──2xx──▶ delivered (no longer due)
//	 ▲               │────410, 4xx, out of attempts──▶ dead
//	 └───retry───────┘   worker dies: the lease ends, and it is due again
//
// The scan loop of each worker looks for endpoints with due messages at every poll interval, or at once on a wake, and
// inserts a River job of the kind outbox_drain when none runs. That job is the claim loop: it claims due messages of the
// candidate endpoints, and recent messages of other endpoints, as many as requests may begin, and starts
// their delivery. Answers are recorded in batches: those that came in while the last batch was written.
//
// # Rooms
//
//	schedule   what to do next: pure decisions about endpoints, slots, claims, scans and retries
//	delivery   one HTTP attempt
//	postgres   the statements: claim, record, scan, load, prune
//	database   connections: sessions, failover, the listener
//
// They do not import each other. This package translates between them (translate.go), and owns what runs: the lifecycle,
// the River client and its jobs, the loops.
//
// # Which row decides
//
// The due row does. A claim leases it by the database's clock and counts the attempt. Only the worker that holds the
// lease, with that attempt's number, can record an answer, so one whose lease was taken over changes no row. The River
// job carries no data: a surplus drain finds nothing to claim, and a lost one is inserted again. The database's clock
// decides leases, due times and what is old; a worker's own clock decides nothing that another worker sees.
//
// # Events
//
// The statements note what they change in the table event, in their transaction, if there is a URL for events (Config.EventsURL);
// one worker makes messages of the notes (tell.go, package event). Config.OnEvent and OnAttempt are called from queues of their
// own (callbacks.go).
//
// # What fails how
//
//	the worker is killed        its leases end; another worker (or the same, started again) delivers again. The attempt
//	                            is kept as "lost"
//	the worker is stopped       no new claims; requests in flight end within most of ShutdownTimeout; what is left is
//	                            released and not counted as an attempt. Everything ends 2 s after ShutdownTimeout
//	the database goes away      claims wait; answers are kept, and recorded when it is back if the lease is still the
//	                            worker's
//	it fails over, or is        sessions are replaced, River's too; deliveries go on with the first try after that
//	read-only for a while
//	a row is refused            the claim is narrowed down; the row is dead (poison) or its endpoint paused, the others go on
//	a commit's answer is lost   the batch is recorded again, which changes nothing if it was there already
//	the receiver hangs          its own share of requests is held, at most until DeliveryTimeout
//	River's leader is away      the scan loops still insert drains; retention waits for the next leader
package worker
