package webhook

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Kind is what a key is for. Its value is the prefix of the key's text, without the underscore.
type Kind string

// The kinds of keys that Standard Webhooks knows.
const (
	// HMAC keys ("whsec_") sign with HMAC-SHA256, as "v1". Sender and receiver hold the same secret, so either can sign.
	HMAC Kind = "whsec"

	// Ed25519 keys ("whsk_") sign with Ed25519, as "v1a". Only the sender holds them.
	Ed25519 Kind = "whsk"

	// Ed25519Public keys ("whpk_") are the other half: they verify, and need not be kept secret.
	Ed25519Public Kind = "whpk"
)

// Bounds of an HMAC key, from the specification's table of signature schemes: "at least 24 bytes (192 bits, 512
// maximum)". Generate makes keys as long as the hash.
const (
	hmacBytesMin       = 24
	hmacBytesMax       = 64
	hmacBytesGenerated = sha256.Size
)

// ErrKey is in every error about the text of a key, and in that of [Generate]. None of them holds any of that text.
var ErrKey = errors.New("webhook key")

// Key signs or verifies. It is immutable and safe for concurrent use. Only [Key.Reveal] shows its secret: printed, logged or
// encoded, it shows its kind only. The zero Key signs and verifies nothing. Compare keys with [Key.Equal].
type Key struct {
	// hidden returns the material. It is a function because fmt uses reflection on a Key in an unexported field, through
	// pointers too, instead of its methods; of a function, reflection finds the address only.
	hidden func() *material
}

type material struct {
	kind    Kind
	secret  []byte             // HMAC
	private ed25519.PrivateKey // Ed25519
	public  ed25519.PublicKey  // Ed25519, Ed25519Public
	macs    macs               // HMAC
}

// ParseKey reads a key: "whsec_", "whsk_" or "whpk_" and standard base64 with its padding. White space around it is dropped,
// because files end in newlines.
//
// A "whsk_" key may be the 32 bytes of the seed (RFC 8032), as the Standard Webhooks libraries write it, or the seed and the
// public key, 64 bytes, as Svix does. Halves that do not match are refused, and so are public keys of small order, which would
// accept forgeries.
func ParseKey(text string) (Key, error) {
	prefix, encoded, _ := strings.Cut(strings.TrimSpace(text), "_")
	kind := Kind(prefix)
	switch kind {
	case HMAC, Ed25519, Ed25519Public:
	default:
		return Key{}, fmt.Errorf("%w: its text begins with none of whsec_, whsk_, whpk_", ErrKey)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") { // which the decoder would skip
		return Key{}, fmt.Errorf("%w: what follows %s_ is not standard base64 with padding", ErrKey, kind)
	}
	m, fault := newMaterial(kind, raw)
	if fault != "" {
		return Key{}, fmt.Errorf("%w: %s_: %s", ErrKey, kind, fault)
	}
	return hide(m), nil
}

func hide(m *material) Key { return Key{func() *material { return m }} }

// material is nil of the zero Key.
func (k Key) material() *material {
	if k.hidden == nil {
		return nil
	}
	return k.hidden()
}

func newMaterial(kind Kind, raw []byte) (m *material, fault string) {
	m = &material{kind: kind}
	switch kind {
	case HMAC:
		if len(raw) < hmacBytesMin || len(raw) > hmacBytesMax {
			return nil, fmt.Sprintf("%d bytes; want %d to %d", len(raw), hmacBytesMin, hmacBytesMax)
		}
		m.secret = raw
		m.macs = newMACs(raw)
	case Ed25519:
		if len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize {
			return nil, fmt.Sprintf("%d bytes; want %d, the seed, or %d, the seed and the public key",
				len(raw), ed25519.SeedSize, ed25519.PrivateKeySize)
		}
		m.private = ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
		if len(raw) == ed25519.PrivateKeySize && subtle.ConstantTimeCompare(m.private, raw) == 0 {
			return nil, "its second half is not the public key of its first"
		}
		m.public = m.private.Public().(ed25519.PublicKey)
	case Ed25519Public:
		if len(raw) != ed25519.PublicKeySize {
			return nil, fmt.Sprintf("%d bytes; want %d", len(raw), ed25519.PublicKeySize)
		}
		if smallOrder(raw) {
			return nil, "a point of small order cannot be a public key: it accepts forged signatures"
		}
		m.public = raw
	}
	return m, ""
}

// Generate makes a new [HMAC] key of 32 random bytes, or a new [Ed25519] key. Other kinds are an error.
func Generate(kind Kind) (Key, error) {
	switch kind {
	case HMAC:
		secret := make([]byte, hmacBytesGenerated)
		_, _ = rand.Read(secret) // never fails: crypto/rand ends the program instead
		return hide(&material{kind: kind, secret: secret, macs: newMACs(secret)}), nil
	case Ed25519:
		public, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
		}
		return hide(&material{kind: kind, private: private, public: public}), nil
	}
	return Key{}, fmt.Errorf("%w: kind %.20q cannot be generated; want %s or %s", ErrKey, kind, HMAC, Ed25519)
}

// Kind returns what the key is for; "" of the zero Key.
func (k Key) Kind() Kind {
	if m := k.material(); m != nil {
		return m.kind
	}
	return ""
}

// CanSign reports whether the key can sign: all but public keys can, and the zero Key.
func (k Key) CanSign() bool { return k.Kind() == HMAC || k.Kind() == Ed25519 }

// Public returns the key that verifies what an [Ed25519] key signs; of a public key, itself. Other keys have none.
func (k Key) Public() (public Key, ok bool) {
	switch k.Kind() {
	case Ed25519:
		return hide(&material{kind: Ed25519Public, public: k.material().public}), true
	case Ed25519Public:
		return k, true
	}
	return Key{}, false
}

// PublicBytes returns the 32 bytes of the public key; nil of HMAC keys, which have none.
func (k Key) PublicBytes() []byte {
	if m := k.material(); m != nil {
		return bytes.Clone(m.public)
	}
	return nil
}

// idChars of base64 are 96 bits: no two keys share them by accident.
const idChars = 16

// ID is the same for an Ed25519 key and its public half: the first 16 characters of the JWK thumbprint of the public key (RFC
// 7638, RFC 8037 appendix A.3). It is "" for HMAC keys, because anything derived from a secret reveals something about it.
func (k Key) ID() string {
	m := k.material()
	if m == nil || m.public == nil {
		return ""
	}
	x := base64.RawURLEncoding.EncodeToString(m.public)
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:idChars]
}

// Equal reports whether both hold the same secret, or the same public key. Its time does not reveal where they differ.
func (k Key) Equal(other Key) bool {
	a, b := k.material(), other.material()
	if a == nil || b == nil {
		return a == b
	}
	return a.kind == b.kind && subtle.ConstantTimeCompare(a.raw(), b.raw()) == 1
}

func (m *material) raw() []byte {
	switch m.kind {
	case HMAC:
		return m.secret
	case Ed25519:
		return m.private
	}
	return m.public
}
