package faulty

import (
	"bytes"
	"encoding/binary"
)

// Message is a message of the Postgres protocol, as a trigger sees it.
type Message struct {
	// Kind is the message's type byte, like 'Q' for Query. Messages of a connection's start have none: it is then
	// [StartupMessage], [EncryptionRequest] or [CancelRequest].
	Kind byte
	// Payload is what follows the length, of a long message its first 64 KiB. It is valid during the call only.
	Payload []byte
	// SQL is, of a client's message, the text that it parses, binds, describes, executes or queries. Of a server's
	// message it is all that the client has executed since the last ReadyForQuery, a statement a line.
	SQL string
}

// Kinds of messages that have no type byte.
const (
	StartupMessage    byte = 1
	EncryptionRequest byte = 2 // SSLRequest or GSSENCRequest
	CancelRequest     byte = 3
)

const (
	messageMax  = 64 << 10 // of a message's bytes that are looked at
	startupMax  = 10_000   // as in Postgres: a longer start isn't one
	headerSize  = 5        // type and length
	lengthSize  = 4        // the length counts itself
	startupSize = 8        // length and code
)

// phase says how the next bytes are to be read.
type phase uint8

const (
	typed   phase = iota // messages with a type byte
	startup              // the client's first messages, without
	answer               // the server's one byte for an encryption request
	opaque               // encrypted, or not Postgres: no messages are seen any more
)

// framer splits one direction of a connection into pieces. A message of up to messageMax is one piece, which is given
// when all of it is there.
type framer struct {
	phase phase
	held  []byte // what has arrived and was not given yet
	spare []byte // held's array, used again once all of it was given
	left  int    // bytes of a long message that are yet to come
}

// piece is what is forwarded as one.
type piece struct {
	bytes []byte
	first bool // begins a message, which is in message
	last  bool // ends a message
	message
}

type message struct {
	kind    byte
	payload []byte
}

// add takes bytes that have arrived. The pieces are valid until the next add.
func (f *framer) add(b []byte) {
	if len(f.held) == 0 {
		f.held = f.spare[:0]
	}
	f.held = append(f.held, b...)
	f.spare = f.held
}

// next returns the next piece, or false when more bytes have to arrive first.
func (f *framer) next() (p piece, ok bool) {
	if len(f.held) == 0 {
		return piece{}, false
	}
	switch {
	case f.left > 0:
		p.bytes = f.take(min(f.left, len(f.held)))
		f.left -= len(p.bytes)
		p.last = f.left == 0
		return p, true
	case f.phase == opaque:
		return piece{bytes: f.take(len(f.held))}, true
	case f.phase == startup:
		return f.nextStartup()
	case f.phase == answer:
		return f.nextAnswer()
	}
	return f.nextTyped()
}

func (f *framer) nextTyped() (piece, bool) {
	if len(f.held) < headerSize {
		return piece{}, false
	}
	length := int(binary.BigEndian.Uint32(f.held[1:]))
	if length < lengthSize {
		return f.giveUp()
	}
	total := 1 + length
	visible := min(total, messageMax)
	if len(f.held) < visible {
		return piece{}, false
	}
	m := message{kind: f.held[0], payload: f.held[headerSize:visible]}
	f.left = total - visible
	return piece{bytes: f.take(visible), first: true, last: f.left == 0, message: m}, true
}

func (f *framer) nextStartup() (piece, bool) {
	const sslCode, gssCode, cancelCode = 80877103, 80877104, 80877102
	if f.held[0] != 0 || len(f.held) > 1 && f.held[1] != 0 {
		return f.giveUp() // a length above startupMax; nothing of another protocol is held back
	}
	if len(f.held) < startupSize {
		return piece{}, false
	}
	length := int(binary.BigEndian.Uint32(f.held))
	if length < startupSize || length > startupMax {
		return f.giveUp() // also TLS without a request before it
	}
	if len(f.held) < length {
		return piece{}, false
	}
	m := message{kind: StartupMessage, payload: f.held[lengthSize:length]}
	switch binary.BigEndian.Uint32(f.held[lengthSize:]) {
	case sslCode, gssCode:
		m.kind = EncryptionRequest // and a further start, unless the answer is yes
	case cancelCode:
		m.kind = CancelRequest
	default:
		f.phase = typed
	}
	return piece{bytes: f.take(length), first: true, last: true, message: m}, true
}

// nextAnswer reads 'N': no encryption. 'E' is an error from a server that doesn't know the request; anything else means
// that what follows is encrypted.
func (f *framer) nextAnswer() (piece, bool) {
	switch f.held[0] {
	case 'N':
		f.phase = typed
		return piece{bytes: f.take(1)}, true
	case 'E':
		f.phase = typed
		return f.nextTyped()
	}
	return f.giveUp()
}

func (f *framer) giveUp() (piece, bool) {
	f.phase = opaque
	return piece{bytes: f.take(len(f.held))}, true
}

// rest returns what was held back, for a stream that ends within a message.
func (f *framer) rest() []byte { return f.take(len(f.held)) }

func (f *framer) take(n int) []byte {
	taken := f.held[:n:n]
	f.held = f.held[n:]
	return taken
}

// session remembers which SQL a client's messages stand for.
type session struct {
	statements, portals map[string]string
	executed            []byte // since the last ReadyForQuery
}

// Bounds of what is remembered. Past them it is forgotten, and SQL is empty.
const (
	namesMax    = 4096
	executedMax = 256 << 10
)

// sent notes a client's message and returns its SQL.
func (s *session) sent(m message) (sql string) {
	fields := bytes.SplitN(m.payload, []byte{0}, 3)
	field := func(i int) string {
		if i < len(fields)-1 { // the last one isn't ended by a zero
			return string(fields[i])
		}
		return ""
	}
	switch m.kind {
	case 'P':
		sql = field(1)
		remember(&s.statements, field(0), sql)
	case 'B':
		sql = s.statements[field(1)]
		remember(&s.portals, field(0), sql)
	case 'E':
		sql = s.portals[field(0)]
		s.noteExecuted(sql)
	case 'Q':
		sql = field(0)
		s.noteExecuted(sql)
	case 'D', 'C':
		if name, ok := bytes.CutPrefix([]byte(field(0)), []byte("S")); ok {
			return s.statements[string(name)]
		}
		if name, ok := bytes.CutPrefix([]byte(field(0)), []byte("P")); ok {
			return s.portals[string(name)]
		}
	}
	return sql
}

func (s *session) noteExecuted(sql string) {
	if len(s.executed)+len(sql) > executedMax {
		s.executed = s.executed[:0]
	}
	s.executed = append(append(s.executed, sql...), '\n')
}

func remember(names *map[string]string, name, sql string) {
	if *names == nil || len(*names) >= namesMax {
		*names = make(map[string]string)
	}
	(*names)[name] = sql
}
