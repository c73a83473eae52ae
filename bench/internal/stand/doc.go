// Package stand is what trials run on: the [Stand] that all share, which is a Postgres of its own and a receiver in another
// process, and the [Trial] that each has of it, which is a schema. What contenders have in common is here too: the load and
// how it is written, the worker as a process, and what tells CPU and memory.
//
// It measures and does not judge: what its figures mean is for the scenarios to say.
//
// A program that uses it must become the receiver when its first argument is [ReceiverCommand], by calling
// [ServeReceiver]: [New] starts it so.
package stand
