package stand

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/seed-abbacb8b/epilogue/hook"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Load is what a trial delivers: messages numbered from 0. The n-th goes to endpoint n modulo the number of endpoints.
type Load struct {
	Trial    uint32
	Messages int
	URLs     []string
	Tenant   string // of all messages; "" for none
}

// URL returns the URL of the n-th message.
func (l Load) URL(n int) string { return l.URLs[n%len(l.URLs)] }

// NewLoad opens the endpoints and tells the receiver what to expect.
func (s *Stand) NewLoad(messages, endpoints int) (Load, error) {
	urls, err := s.Receiver.Open(endpoints)
	if err != nil {
		return Load{}, err
	}
	number, err := s.Receiver.expect(messages)
	return Load{Trial: number, Messages: messages, URLs: urls}, err
}

// RunID returns the id of the run whose outcome is the n-th message.
func RunID(n int) string { return "run-" + strconv.Itoa(n) }

// NumberOf is the number of the message that has a run id; it is below messages.
func NumberOf(id string, messages int) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "run-"))
	if err != nil || n < 0 || n >= messages || RunID(n) != id {
		return 0, fmt.Errorf("%q is not the run id of one of %d messages", id, messages)
	}
	return n, nil
}

// Endpoints returns the load's endpoints, in the form of the table due.
func (l Load) Endpoints() ([]string, error) {
	names := make([]string, len(l.URLs))
	for i, url := range l.URLs {
		var err error
		if names[i], err = outbox.CheckURL(url); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// Message returns the n-th message as this project's writers take it.
func (l Load) Message(n int) outbox.Message {
	return outbox.Message{
		Outcome: outbox.RunOutcome{RunID: RunID(n), Status: outbox.Succeeded, Result: l.Body(n), FinalStep: 3},
		URL:     l.URL(n),
		Tenant:  l.Tenant,
	}
}

// Outcome returns the outcome of the n-th message's run.
func (l Load) Outcome(n int) outbox.RunOutcome {
	o := l.Message(n).Outcome
	o.Headers = map[string]string{hook.DefaultURLHeader: l.URL(n)}
	return o
}

// bodyBytes is the size of every body, as in the design's figures.
const bodyBytes = 256

// A body is a JSON object that holds the trial and the message's number at fixed places, so that the receiver reads them
// at little cost.
const (
	bodyStart  = `{"trial":"00000000","n":"00000000","pad":"`
	bodyEnd    = `"}`
	trialAt    = len(`{"trial":"`)
	numberAt   = len(`{"trial":"00000000","n":"`)
	hexDigits  = 8
	padByte    = 'x'
	padBytes   = bodyBytes - len(bodyStart) - len(bodyEnd)
	trialUntil = trialAt + hexDigits
	numberEnd  = numberAt + hexDigits
)

// Body returns the n-th message's body.
func (l Load) Body(n int) []byte {
	b := make([]byte, 0, bodyBytes)
	b = append(b, bodyStart...)
	b = append(b, bytes.Repeat([]byte{padByte}, padBytes)...)
	b = append(b, bodyEnd...)
	putHex(b[trialAt:trialUntil], l.Trial)
	putHex(b[numberAt:numberEnd], uint32(n))
	return b
}

func parseBody(b []byte) (trial uint32, n int, ok bool) {
	trial, ok = readHex(b[trialAt:trialUntil])
	number, okNumber := readHex(b[numberAt:numberEnd])
	return trial, int(number), ok && okNumber
}

func putHex(digits []byte, v uint32) {
	var raw [hexDigits / 2]byte
	binary.BigEndian.PutUint32(raw[:], v)
	hex.Encode(digits, raw[:])
}

func readHex(digits []byte) (uint32, bool) {
	var raw [hexDigits / 2]byte
	if _, err := hex.Decode(raw[:], digits); err != nil {
		return 0, false
	}
	return binary.BigEndian.Uint32(raw[:]), true
}
