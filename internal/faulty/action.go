package faulty

import "time"

// Direction is the way that bytes go.
type Direction uint8

// The directions. The zero value is both.
const (
	Both Direction = iota
	ToServer
	ToClient
)

func (d Direction) includes(one Direction) bool { return d == Both || d == one }

// Scope says which connections of a proxy are meant.
type Scope uint8

// The scopes. The zero value is all: those that are open now, and those that will be.
const (
	All Scope = iota
	Existing
	New
)

// How is the way in which a connection is cut.
type How uint8

// The ways to cut.
const (
	// RST resets the connection: the peer's next read or write fails with ECONNRESET or EPIPE. The peer can still read what it
	// has already received.
	RST How = iota
	// FIN ends the connection in order: the peer reads EOF after all that was sent. If bytes of the peer have arrived
	// that the proxy has not read, because it stalls them, the kernel sends an RST in place of the FIN.
	FIN
)

type verb uint8

const (
	pass verb = iota
	stall
	freeze
	delay
	cutBoth
	cutClient
	cutServer
)

// Action is what a proxy does to a connection. The zero value is Pass(Both).
type Action struct {
	verb      verb
	direction Direction
	how       How
	latency   time.Duration
}

// Pass forwards bytes. It ends a [Stall]: stalled bytes are forwarded first, in order. It ends a [Freeze] that has not dropped
// anything. A connection that has lost bytes stays frozen, because no network forwards a stream with a gap. It does not change
// a [Delay].
func Pass(d Direction) Action { return Action{verb: pass, direction: d} }

// Stall forwards nothing until [Pass]. Nothing is lost. The proxy keeps at most 2 MiB per direction and connection. Then it
// stops reading, and the sender has to wait. The end of a connection is stalled as well.
func Stall(d Direction) Action { return Action{verb: stall, direction: d} }

// Freeze drops bytes: from now on nothing is forwarded, not even the end of the connection. Nothing is closed. For the receiver
// it is as if the sender's host had vanished, except for TCP's own traffic: the proxy's kernel acknowledges bytes and answers
// keepalives.
func Freeze(d Direction) Action { return Action{verb: freeze, direction: d} }

// Delay forwards each byte at least the latency after it arrived. Zero ends it.
func Delay(d Direction, latency time.Duration) Action {
	return Action{verb: delay, direction: d, latency: latency}
}

// Cut closes both sides.
func Cut(how How) Action { return Action{verb: cutBoth, how: how} }

// CutClient closes the client's side only. The server does not notice: its side stays open, and frozen, until the server itself
// ends it. In this way a backend stays in the middle of a pipeline, with its locks.
func CutClient(how How) Action { return Action{verb: cutClient, how: how} }

// CutServer closes the server's side only. The client does not notice: its side stays open, and frozen.
func CutServer(how How) Action { return Action{verb: cutServer, how: how} }

func (a Action) cuts() bool { return a.verb >= cutBoth }
