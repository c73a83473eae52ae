package faulty

import (
	"bytes"
	"encoding/binary"
)

// Message is a message of the Postgres protocol, as a trigger sees it.
type Message struct {
	// Kind is the message's type byte, like 'Q' for Query. The messages at the start of a connection have none. Kind is then
	// [StartupMessage], [EncryptionRequest] or [CancelRequest].
	Kind byte
	// Payload is the message after its length; of a long message, only the first 64 KiB. It is valid during the call only.
	Payload []byte
	// SQL of a client's message is the text that it parses, binds, describes, executes or queries. SQL of a server's message is
	// all that the client has executed since the last ReadyForQuery, one statement a line.
	SQL string
}

// Kinds of messages that have no type byte.
const (
	StartupMessage    byte = 1
	EncryptionRequest byte = 2 // SSLRequest or GSSENCRequest
	CancelRequest     byte = 3
)

const (
	messageMax  = 64 << 10 // the bytes of a message that a trigger can see
	startupMax  = 10_000   // as in Postgres: a longer message is not a valid start
	headerSize  = 5        // type and length
	lengthSize  = 4        // the length counts itself
	startupSize = 8        // length and code
)

// phase says how to read the next bytes.
type phase uint8

const (
	typed   phase = iota // messages with a type byte
	startup              // the client's first messages, which have no type byte
	answer               // the server's one byte for an encryption request
	opaque               // encrypted, or not Postgres: no messages are seen any more
)

// framer splits one direction of a connection into pieces. A message of up to messageMax is one piece, which next returns when
// the whole message has arrived.
type framer struct {
	phase phase
	held  []byte // bytes that have arrived, and that next has not returned yet
	spare []byte // the array of held, which is used again when next has returned all of it
	left  int    // bytes of a long message that have not arrived yet
}

// piece is a part that is forwarded as a whole.
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
		m.kind = EncryptionRequest // another start follows, unless the answer is yes
	case cancelCode:
		m.kind = CancelRequest
	default:
		f.phase = typed
	}
	return piece{bytes: f.take(length), first: true, last: true, message: m}, true
}

// nextAnswer reads 'N': no encryption. 'E' is an error from a server that does not know the request. Any other byte
// means that the bytes after it are encrypted.
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

// rest returns the bytes that were held back, for a stream that ends within a message.
func (f *framer) rest() []byte { return f.take(len(f.held)) }

func (f *framer) take(n int) []byte {
	taken := f.held[:n:n]
	f.held = f.held[n:]
	return taken
}

// session remembers the SQL of a client's prepared statements and portals.
type session struct {
	statements, portals map[string]string
	executed            []byte // since the last ReadyForQuery
}

// Bounds of the memory for SQL. Beyond them, all of it is forgotten, and SQL is empty.
const (
	namesMax    = 4096
	executedMax = 256 << 10
)

// sent notes a client's message and returns its SQL.
func (s *session) sent(m message) (sql string) {
	fields := bytes.SplitN(m.payload, []byte{0}, 3)
	field := func(i int) string {
		if i < len(fields)-1 { // the last one does not end with a zero byte
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
