package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// DefaultTolerance is how far webhook-timestamp may be from now, in both directions, as in the Standard Webhooks
// libraries.
const DefaultTolerance = 5 * time.Minute

// Verifier verifies requests of one sender. It is safe for concurrent use while its fields do not change.
type Verifier struct {
	// Keys are the accepted keys, at least one; one of them must have signed. During a rotation they are the new key and the old one.
	Keys Keys

	// Tolerance is how far webhook-timestamp may be from now, in both directions, itself included. DefaultTolerance
	// when 0; not negative.
	Tolerance time.Duration

	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// Delivery is what the signature of a request covers, besides the body. No other header is signed, so no other header is here:
// what a receiver must be able to trust belongs into the body.
type Delivery struct {
	ID        string    // the message's, the same on every attempt
	Timestamp time.Time // of this attempt, in whole seconds
	KeyIndex  int       // the first of the verifier's keys that matched: once it is never the old key, remove that one
}

// Verify returns the verified facts of a request, or why it cannot be trusted: [ErrMissingHeader], [ErrInvalidHeader],
// [ErrTimestamp], [ErrSignature], or [ErrVerifier] for a fault of the verifier. The body must be the bytes as they arrived,
// before any parser; the keys of the header must be in their canonical form, as net/http has them.
//
// One of the signatures must match one of the keys. Signatures of unknown versions are ignored.
func (v Verifier) Verify(header http.Header, body []byte) (Delivery, error) {
	e, err := v.open(header)
	if err != nil {
		return Delivery{}, err
	}
	return v.match(e, body)
}

// open checks all that can be checked without the body.
func (v Verifier) open(header http.Header) (envelope, error) {
	if err := v.validate(); err != nil {
		return envelope{}, err
	}
	e, err := readEnvelope(header)
	if err != nil {
		return e, err
	}
	return e, v.checkTime(e.at)
}

func (v Verifier) validate() error {
	if v.Tolerance < 0 {
		return fmt.Errorf("%w: Tolerance is %v; want more than 0, or 0 for %v", ErrVerifier, v.Tolerance, DefaultTolerance)
	}
	if len(v.Keys) == 0 {
		return fmt.Errorf("%w: Keys is empty; want at least one key", ErrVerifier)
	}
	for i, k := range v.Keys {
		if k.Kind() == "" {
			return fmt.Errorf("%w: Keys[%d] holds no key", ErrVerifier, i)
		}
	}
	return nil
}

func (v Verifier) checkTime(at time.Time) error {
	tolerance, now := v.Tolerance, time.Now
	if tolerance == 0 {
		tolerance = DefaultTolerance
	}
	if v.Now != nil {
		now = v.Now
	}
	switch n := now(); {
	case at.Before(n.Add(-tolerance)):
		return fmt.Errorf("%w: more than %v before now", ErrTimestamp, tolerance)
	case at.After(n.Add(tolerance)):
		return fmt.Errorf("%w: more than %v after now", ErrTimestamp, tolerance)
	}
	return nil
}

// match tries every key on every signature.
func (v Verifier) match(e envelope, body []byte) (Delivery, error) {
	c := content{head: appendHead(nil, e.id, e.timestamp), body: body}
	for i, k := range v.Keys {
		if k.material().signed(&c, e.signatures) {
			return Delivery{ID: e.id, Timestamp: e.at, KeyIndex: i}, nil
		}
	}
	return Delivery{}, fmt.Errorf("%w: %d given, %d keys", ErrSignature, strings.Count(e.signatures, " ")+1, len(v.Keys))
}

// signed reports whether one of the signatures is this key's.
func (m *material) signed(c *content, signatures string) bool {
	var mac [sha256.Size]byte
	var summed bool
	for s := range strings.SplitSeq(signatures, " ") {
		if m.kind != HMAC {
			signature, ok := decodeSignature(s, versionEd25519, ed25519.SignatureSize)
			if ok && ed25519.Verify(m.public, c.whole(), signature) {
				return true
			}
			continue
		}
		signature, ok := decodeSignature(s, versionHMAC, sha256.Size)
		if !ok {
			continue
		}
		if !summed {
			mac, summed = m.macs.sum(c), true
		}
		if hmac.Equal(signature, mac[:]) { // in constant time
			return true
		}
	}
	return false
}

func decodeSignature(text, version string, size int) (signature []byte, ok bool) {
	encoded, ok := strings.CutPrefix(text, version)
	if !ok || len(encoded) != base64.StdEncoding.EncodedLen(size) {
		return nil, false
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(encoded)
	return signature, err == nil && len(signature) == size
}
