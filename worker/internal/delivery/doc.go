// Package delivery makes one HTTP attempt: it takes a claimed message, sends one request to the message's URL, and
// returns the answer. [Sender.Send] is the only way in and out.
//
// # What this package owns
//
//   - The request: its body and format (format.go), its headers (request.go, forward.go) and its signature.
//   - The connection: the lookup (dial.go), the check of the address (guard.go), an egress proxy (proxy.go, socks.go), the
//     TLS handshake (tls.go), what a connection does beyond net/http (conn.go), and the pool of idle connections.
//   - The answer: what is kept of it (answer.go), the class of a failure (classify.go), and the phase of the request in
//     which a failure came (trip.go).
//
// It does not decide what follows from an answer. The caller decides whether to retry, when, and what an answer says about
// the health of an endpoint.
//
// # What this package may touch
//
// It uses the network, and it reads the certificate files that [Config] names. It imports outbox and webhook. It has no
// SQL and no River, and it imports neither worker nor its sibling packages worker/internal/schedule and
// worker/internal/postgres.
//
// # Invariants
//
//  1. One call of Send is one request at the receiver. It is sent a second time only over a new connection, and only if the
//     first one had been used before and ended before any byte of an answer. Redirects are not followed. One attempt uses two
//     connections at most, whatever net/http would do by itself (connections.go).
//  2. Every wait has a bound. Send returns soon after its timeout, and each phase can have a shorter timeout of its own. A
//     dial ends at the latest one second (dialGrace) after the deadline of its request.
//  3. No connection is made to an address that the guard blocks. The address that was checked is the address that is
//     dialled: there is no second lookup. The address is checked again by the socket that connects.
//  4. Nothing that a submitter or a hook supplies replaces a header of the worker, or adds a value to it. The signature
//     covers exactly the bytes that are sent. A message that names an unknown key is not sent.
//  5. The texts of an Answer can be stored in Postgres: they are valid UTF-8 without NUL. No error text quotes the URL, which
//     may contain a secret, the proxy's password, or bytes of an answer. For a redirect, only the target's origin is named.
//  6. Memory is bounded: at most 64 KiB of an answer's headers and 64 KiB of its body are read or buffered, and nothing is
//     decompressed.
//  7. A failure of the proxy, a missing key, or a shortage of this machine's is not an attempt. Answer.WaitsFor says so, and Answer.Class is empty.
package delivery
