// Package outbox is the domain: what a run leaves behind ([RunOutcome]), the message that carries it, how a message is
// written and how an operator looks at it and changes it.
//
// # Promise
//
// A message is written in the transaction that acknowledges the run's last step ([Writer.Insert], or [Writer.Queue]
// for a place in that transaction's batch): both are committed, or neither. A committed message is then delivered at
// least once by a worker (package worker), with the same webhook-id on every attempt.
//
// The writer pays for one INSERT: no NOTIFY, no queue, no further round trip. [Waker] tells idle workers after the
// commit.
//
// # Not promised
//
// Messages are not ordered. A receiver may get a message twice, and tells by its webhook-id.
//
// # Tables
//
// All lives in one schema, "outbox" unless configured otherwise. message is written once and never changed; due holds
// a row exactly while its message is still to be delivered; attempt has a row per HTTP request; dead holds what was
// given up; endpoint remembers what is paused. The views status, overview, dead_message and endpoint_status answer an
// operator's first questions in psql; [Store] reads the same.
//
// # What strangers supply
//
// [CheckURL] and [CheckHeader] say what can be delivered. What cannot is still written, as a dead message with the
// reason "invalid", for a run must be able to end. Text that Postgres cannot carry is made valid: each NUL byte and
// each run of invalid UTF-8 becomes U+FFFD, in the run id, the error, the headers and the URL (which is then dead). A
// dedupe key like that is replaced by its hash. The result is bytes, and is kept as it is.
//
// Package outbox links pgx and the standard library, nothing else.
package outbox
