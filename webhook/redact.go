package webhook

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
)

// Reveal returns the text that [ParseKey] reads, with the secret in it: for a key that was just generated and must be passed
// on. A "whsk_" key is written with its public half, 64 bytes. For the zero Key it is "".
func (k Key) Reveal() string {
	m := k.material()
	if m == nil {
		return ""
	}
	return string(m.kind) + "_" + base64.StdEncoding.EncodeToString(m.raw())
}

// String shows a public key. Of any other key it shows the kind, and the ID if it has one.
func (k Key) String() string {
	switch k.Kind() {
	case HMAC:
		return "whsec_…(redacted)"
	case Ed25519:
		return "whsk_…(redacted, id " + k.ID() + ")"
	case Ed25519Public:
		return k.Reveal()
	}
	return "(no webhook key)"
}

// GoString is String, so that %#v shows no more.
func (k Key) GoString() string { return k.String() }

// Format is String under every verb and flag.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue is String for log/slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText is String for JSON and other encoders of text. Its text of a secret key cannot be parsed again.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
