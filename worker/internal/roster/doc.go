// Package roster knows which workers live. Each has a row in outbox.worker, and holds an advisory lock for its name on the
// session on which it listens for wakes. The server frees the lock when that session ends, whatever happened to the worker.
//
// # Who is dead
//
// A worker that has a row, and whose lock is free at two probes 750 ms apart, is dead: what it has under a lease is
// claimable at once. The probes are made on the session that holds the prober's own lock. So they count only as long
// as the server has forgotten no locks: when it restarts, crashes or fails over, that session ends too. A new session then
// declares no death for 5 s, in which the living workers take their locks again. Before a death is declared, the pool that the claims
// use is asked whether it reaches the same server, and whether the row is still the same.
//
// Where there is no lock session (behind a pooler in transaction mode), no table (an older schema) or no row (an older
// worker), nobody is taken for dead, and leases end at their set time.
//
// # A worker that lost its session
//
// It lives, and soon the others will take it for dead. So it begins no request and claims nothing until it has its lock again;
// requests in flight go on. It tries every 250 ms. Where others may have taken it for dead meanwhile, it waits until they
// have seen that it lives, before it claims under its name again. A worker that cannot get a session for 5 s, while its pool
// works, removes its row, and goes on as a worker without a lock.
//
// A living worker can still be taken for dead, for example after 5 s without the server. Then its messages may be
// delivered twice, under their ids; the fence of each record keeps the two apart.
package roster
