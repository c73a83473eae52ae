// Package postgres is the worker's SQL: it claims due messages, records what became of them, scans for endpoints that
// have something to claim, loads large bodies and prunes what is old.
//
// It owns the statements that the worker runs on the tables message, due, attempt, dead and endpoint, and the Go types
// of their rows. Each type stands beside its statement:
//
//	Claimer    takes due messages under a lease         claim.go, claimable.go, rate.go, read.go
//	           and sets aside what is refused           narrow.go, aside.go, leftout.go
//	Recorder   writes results                           record.go, try.go, refusal.go
//	Scanner    finds candidates for the next claims     scan.go
//	Loader     reads one large body                     load.go
//	Pruner     deletes what is old                      prune.go
//
// It touches the database and nothing else. It makes no HTTP request and knows no River job. It starts no goroutine,
// logs nothing and retries nothing: the caller does, because it knows whether the worker is stopping. The one exception is a
// claim that the database refuses: it is made again in parts, a bounded number of times.
//
// # Invariants
//
//   - The database's clock decides when a message is due, when a lease ends, how long an endpoint is held back and what a
//     rate has left. This process's clock only says how far back to read for recent messages. When it is wrong, messages
//     come later, by the next full scan.
//   - A claim that succeeds, a record and a scan are one round trip and one transaction each. The settings that they need end with it.
//   - A record touches a row only while its worker holds the lease under the same attempt number. So a batch that is
//     recorded twice, or by a worker whose lease was taken over, changes nothing.
//   - A claim skips rows that others have locked. Using up a rate, and probing an endpoint behind an open circuit breaker, must be
//     done by one worker at a time: a claim does it only if it could lock the endpoint's row unchanged.
//   - The hot statements go by an index wherever they read. Their cost depends on what they take, not on what waits. A claim
//     changes no indexed column of due, so that its update stays on the row's page (HOT).
//   - All records take their locks in one order. None waits long for a lock, and [Recorder.TryRecord] waits for none.
//   - One bad row, endpoint or setting fails only itself. Claims and scans calculate within bounds, and a claim sets aside what
//     the database refuses. [IsRefusal] and [IsLocked] tell the caller when to write a batch in parts.
package postgres
