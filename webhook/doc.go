// Package webhook signs and verifies webhooks as Standard Webhooks (https://www.standardwebhooks.com) specifies. A receiver in Go
// needs nothing else to trust a request. It links only the standard library.
//
// # What is signed
//
// A request carries webhook-id (the message's, the same on every attempt), webhook-timestamp (of the attempt, in seconds
// since 1970) and webhook-signature: signatures with a space between, over the bytes of
//
//	webhook-id "." webhook-timestamp "." body
//
// either "v1,", base64 of HMAC-SHA256, with a key "whsec_" that both sides hold, or "v1a,", base64 of Ed25519, with a key
// "whsk_" of the sender whose public half "whpk_" the receiver holds. No other header is signed. Workflow-Run-Id and
// Workflow-Run-Status are only as trustworthy as the connection: a receiver that does not terminate TLS itself reads them from
// the body.
//
// # A receiver
//
// [Verifier] is the function, [Handler] the middleware. The middleware bounds the body, reads all of it, verifies it and passes
// on the raw bytes; with a [Store], it answers repeats without calling the handler. The example shows all of it.
//
// The body must reach the verifier unchanged: a framework that parses JSON and encodes it again breaks every signature.
//
// # Rotation
//
// Sender and receiver hold several keys at once, and one signature that matches one key is enough. To replace a key
// without a rejected delivery: give the receivers the new key beside the old one; then let the sender sign with both;
// then take the old key from the receivers, and last from the sender. A receiver that lists the new key first can tell by
// [Delivery].KeyIndex whether the old one is still needed.
//
// # Repeats
//
// Delivery is at least once: a processed message may come again, under the same webhook-id. The tolerance of the timestamp does
// not prevent that, because a new attempt has a new timestamp. These prevent it, from weak to strong:
//
//   - [MemoryStore]: one process handles no message twice at a time, nor again once it was processed, until the process
//     ends or the entry falls out by age or number.
//   - [PostgresStore]: the same for all processes on one table, until the row is pruned. A message is handled again when a
//     process dies between the handler's end and its record, or when a handler outlives its claim. The handler's context ends
//     with the claim.
//   - [PostgresStore.Once]: the record is committed in the receiver's own transaction, with the work. Work in that
//     database is done exactly once.
//
// In all of them, a handler that fails (any answer but 2xx, or a panic) gives the message back: the sender retries, and the
// next attempt is handled.
//
// # Other languages
//
// Standard Webhooks publishes libraries for C#, Elixir, Go, Java, JavaScript and TypeScript, PHP, Python, Ruby and Rust
// (https://github.com/standard-webhooks/standard-webhooks). They verify v1: for receivers that use one, choose HMAC keys.
// For v1a there is an Ed25519 function in every language's cryptography library; the content and the encodings are those
// above. Public keys come as "whpk_" text, and as a JWKS from `outbox-worker keys public`.
package webhook
