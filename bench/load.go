package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// load is what a trial delivers: messages numbered from 0, the n-th to the endpoint n modulo their number.
type load struct {
	trial    uint32
	messages int
	urls     []string
}

func (l load) url(n int) string { return l.urls[n%len(l.urls)] }

// newLoad opens the endpoints and tells the receiver what comes.
func (t *trial) newLoad(messages, endpoints int) (load, error) {
	urls, err := t.receiver.open(endpoints)
	if err != nil {
		return load{}, err
	}
	number, err := t.receiver.expect(messages)
	return load{trial: number, messages: messages, urls: urls}, err
}

func runID(n int) string { return "run-" + strconv.Itoa(n) }

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

// body returns the n-th message's body.
func (l load) body(n int) []byte {
	b := make([]byte, 0, bodyBytes)
	b = append(b, bodyStart...)
	b = append(b, bytes.Repeat([]byte{padByte}, padBytes)...)
	b = append(b, bodyEnd...)
	putHex(b[trialAt:trialUntil], l.trial)
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
