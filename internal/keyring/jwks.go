package keyring

import (
	"encoding/base64"
	"encoding/json"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

// jwk is a public Ed25519 key as RFC 8037, section 2, writes it.
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	ID        string `json:"kid"`
	X         string `json:"x"`
}

// JWKS returns the public halves of all Ed25519 keys as a JSON Web Key Set (RFC 7517, section 5), indented, for
// receivers that fetch their keys. A kid is the name of the set, "/" and [webhook.Key.ID], so the names are public.
// HMAC keys are left out: they have no public half.
func (r *Ring) JWKS() ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	sets := r.sets()
	for _, name := range sets.names() {
		for _, key := range sets[name] {
			if key.Kind() != webhook.Ed25519 {
				continue
			}
			set.Keys = append(set.Keys, jwk{
				KeyType: "OKP", Curve: "Ed25519", Use: "sig", Algorithm: "EdDSA", ID: name + "/" + key.ID(),
				X: base64.RawURLEncoding.EncodeToString(key.PublicBytes()),
			})
		}
	}
	return json.MarshalIndent(set, "", "  ")
}
