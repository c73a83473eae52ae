package webhook

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a Standard Webhooks request.
const (
	HeaderID        = "webhook-id"        // the message's id, the same on every attempt
	HeaderTimestamp = "webhook-timestamp" // of the attempt, in whole seconds since 1970
	HeaderSignature = "webhook-signature" // version,base64 and more of them, with a space between
)

// Bounds of what is read before anything is verified, so that an unverified request causes little work.
const (
	IDBytesMax        = 256     // of a webhook-id
	SignaturesMax     = 16      // in one webhook-signature, those of unknown versions included
	signatureBytesMax = 4 << 10 // of a webhook-signature
	timestampCharsMax = 12      // of a webhook-timestamp: up to the year 33658
)

// CheckID reports a text that cannot be a webhook-id: it is empty, longer than [IDBytesMax], or has a byte that is not visible
// ASCII, or a full stop.
//
// The full stop would make one signature fit two messages: "a.1.2.x" is the body "2.x" of message "a" at second 1, and the body
// "x" of message "a.1" at second 2. The specification warns of it; here, neither signer nor verifier accepts it.
func CheckID(id string) error {
	if id == "" {
		return fmt.Errorf("%w: %s is empty", ErrInvalidHeader, HeaderID)
	}
	if len(id) > IDBytesMax {
		return fmt.Errorf("%w: %s has %d bytes, the limit is %d", ErrInvalidHeader, HeaderID, len(id), IDBytesMax)
	}
	for i := range len(id) {
		if b := id[i]; b <= ' ' || b > '~' || b == '.' {
			return fmt.Errorf("%w: byte %d of %s is not visible ASCII, or a full stop", ErrInvalidHeader, i, HeaderID)
		}
	}
	return nil
}

// envelope is the three headers, read but not verified.
type envelope struct {
	id         string
	timestamp  string // the characters that were signed
	at         time.Time
	signatures string
}

func readEnvelope(header http.Header) (e envelope, err error) {
	for _, f := range []struct {
		name string
		to   *string
	}{{HeaderID, &e.id}, {HeaderTimestamp, &e.timestamp}, {HeaderSignature, &e.signatures}} {
		switch values := header.Values(f.name); {
		case len(values) == 0 || len(values) == 1 && values[0] == "":
			return e, fmt.Errorf("%w: %s", ErrMissingHeader, f.name)
		case len(values) > 1: // a proxy or a handler might use another one than we do
			return e, fmt.Errorf("%w: %s is given %d times", ErrInvalidHeader, f.name, len(values))
		default:
			*f.to = values[0]
		}
	}
	if err := CheckID(e.id); err != nil {
		return e, err
	}
	if e.at, err = parseTimestamp(e.timestamp); err != nil {
		return e, err
	}
	return e, checkSignatures(e.signatures)
}

// parseTimestamp accepts only decimal digits, in their canonical form, so that the signed characters have one meaning.
func parseTimestamp(text string) (time.Time, error) {
	seconds, err := strconv.ParseUint(text, 10, 63)
	if err != nil || len(text) > timestampCharsMax || len(text) > 1 && text[0] == '0' {
		return time.Time{}, fmt.Errorf("%w: %s is not a number of seconds since 1970", ErrInvalidHeader, HeaderTimestamp)
	}
	return time.Unix(int64(seconds), 0), nil
}

func checkSignatures(text string) error {
	if len(text) > signatureBytesMax {
		return fmt.Errorf("%w: %s has %d bytes, the limit is %d",
			ErrInvalidHeader, HeaderSignature, len(text), signatureBytesMax)
	}
	if n := strings.Count(text, " ") + 1; n > SignaturesMax {
		return fmt.Errorf("%w: %s holds %d signatures, the limit is %d",
			ErrInvalidHeader, HeaderSignature, n, SignaturesMax)
	}
	return nil
}
