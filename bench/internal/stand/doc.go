// Package stand is what trials run on: the [Stand] that all share, which is a Postgres of its own and a receiver in another
// process, and the [Trial] of each, which has a schema. It also has what contenders share: the load and
// how it is written, the worker as a process, and the measuring of CPU and memory.
//
// It measures and does not judge: the scenarios decide what its figures mean.
//
// A program that uses it must become the receiver when its first argument is [ReceiverCommand], by calling
// [ServeReceiver]: [New] starts it with that argument.
package stand
