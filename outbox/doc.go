// Package outbox is the domain: the outcome of a run ([RunOutcome]), the message that carries it, how a message is written, and
// what became of it. Package operator, below it, reads and changes messages for an operator.
//
// # Promise
//
// A message is written in the transaction that acknowledges the last step of the run ([Writer.Insert], or [Writer.Queue] for
// the batch of that transaction): both are committed, or neither. A worker (package worker) then delivers a committed message
// at least once, with the same webhook-id on every attempt.
//
// The writer pays for one INSERT: no NOTIFY, no queue, no further round trip. [Waker] wakes idle workers after the commit.
//
// # Not promised
//
// Messages are not ordered. A receiver may get a message twice, and recognises it by its webhook-id.
//
// # Tables
//
// Everything is in one schema, "outbox" unless configured otherwise. message is written once and never changed; due holds
// a row exactly while its message is still to be delivered; attempt has a row per HTTP request; dead holds what was
// given up; endpoint remembers what is paused. The views status, overview, dead_message and endpoint_status answer an
// operator's first questions in psql; package outbox/operator reads the same.
//
// # What submitters supply
//
// [CheckURL] says what can be delivered. What cannot be delivered is still written, as a dead message with the reason
// "invalid", because a run must be able to end. Text that Postgres cannot store is made valid: each NUL byte and each run of
// invalid UTF-8 becomes U+FFFD, in the run id, the error, the headers and the URL (which is then dead). A dedupe key with such text is
// replaced by its hash. The result is bytes, and is kept as it is.
//
// Package outbox links pgx and the standard library, nothing else.
package outbox
