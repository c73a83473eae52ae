// Package faulty makes real faults between a client and Postgres, for tests and for the chaos program. It uses no mocks: the
// bytes go over real sockets to a real server.
//
//   - [Proxy] stands between a client and a server. It can stall, freeze, delay and cut connections, at once
//     ([Proxy.Do]) or at a chosen place in the protocol ([Proxy.On]).
//   - [Namespace] is a network namespace: it is like another host, whose link can go down. Its programs then vanish without a
//     FIN or an RST. A proxy cannot do that, because its kernel goes on answering keepalives.
//   - [Hold] holds locks in a forgotten transaction.
//
// A failover, which needs two servers, is in internal/testdb (Cluster).
//
// A fault must be in force before a test looks for its effect. So each function returns when its fault is in force, and
// [Armed.Fired] says when a planned one has happened: no test has to sleep.
package faulty
