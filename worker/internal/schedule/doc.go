// Package schedule decides what one worker does next: which endpoints a claim serves and how many messages it may take
// from each, when to scan for candidates, when to wait and for what, and what follows from an answer.
//
// # What it owns
//
// The table of endpoints (one struct each, see endpoint), the slots for requests, the pace of claims and scans, and the
// retry policy. All of it stands in a [Scheduler] under one lock.
//
// # What it may touch
//
// Nothing outside. Every method takes the state and a time, and returns a decision. There is no I/O here, no SQL, no HTTP,
// no goroutine and no clock. Two loops in package worker carry the decisions out and report the results:
//
//	scan loop (always)            NextScan  ──▶ Scan | InsertDrain | Wait
//	claim loop (in the River job) NextClaim ──▶ Claim | EndDrain | Wait
//
// Each loop waits on one channel, which gets a token when one of the events happens that its last Wait named.
//
// # Invariants
//
//   - free + Σ inFlight = MaxInFlight, and free ≥ 0.
//   - ahead + Σ waiting + ready = MaxInFlight. It may be below 0 for a while after a window was halved.
//   - unproven = Σ inFlight of the endpoints that have not answered yet.
//   - 1 ≤ limit ≤ EndpointMaxInFlight.
//   - inFlight ≤ the endpoint's bound when a request begins. It may exceed the bound after the bound was lowered.
//   - While a slot is free, no message is ready.
//   - Where messages wait for a slot of their endpoint, a request is in flight: its end starts the next one or gives them all back.
//
// The candidates may be incomplete: a due message whose endpoint is no candidate is found by a later scan.
// A claim never takes what is not due, whatever the order says.
package schedule
