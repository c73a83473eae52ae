package keyring_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/internal/keyring"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

func TestAJWKSHoldsThePublicEd25519KeysOnly(t *testing.T) {
	t.Parallel()
	a, b := generate(t, webhook.Ed25519), generate(t, webhook.Ed25519)
	shared := hmacKey(t)
	r, _ := open(t, fmt.Sprintf("zeta=%s default=%s,%s,%s hmac=%s", a.Reveal(), b.Reveal(), shared, a.Reveal(), shared), "")
	text, err := r.JWKS()
	must(t, err)
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	must(t, json.Unmarshal(text, &set))
	want := []struct {
		set string
		key webhook.Key
	}{{"default", b}, {"default", a}, {"zeta", a}}
	if len(set.Keys) != len(want) {
		t.Fatalf("got %d keys, want %d: %s", len(set.Keys), len(want), text)
	}
	for i, w := range want {
		got := set.Keys[i]
		x, err := base64.RawURLEncoding.DecodeString(got["x"])
		must(t, err)
		if got["kid"] != w.set+"/"+w.key.ID() || !bytes.Equal(x, w.key.PublicBytes()) || got["kty"] != "OKP" ||
			got["crv"] != "Ed25519" || got["use"] != "sig" || got["alg"] != "EdDSA" || len(got) != 6 {
			t.Errorf("key %d is %v, want the public key %s of the set %s", i, got, w.key.ID(), w.set)
		}
	}
	for _, secret := range []string{shared, a.Reveal(), b.Reveal()} {
		if _, encoded, _ := strings.Cut(secret, "_"); strings.Contains(string(text), encoded[:12]) {
			t.Error("the JWKS shows a secret key")
		}
	}
}

func TestAJWKSWithoutKeysIsAnEmptyList(t *testing.T) {
	t.Parallel()
	r, _ := open(t, "default="+hmacKey(t), "")
	text, err := r.JWKS()
	if got := strings.Join(strings.Fields(string(text)), ""); err != nil || got != `{"keys":[]}` {
		t.Errorf("got %s, %v; want an empty list of keys", text, err)
	}
}

func TestARingShowsNoKeys(t *testing.T) {
	t.Parallel()
	key := generate(t, webhook.Ed25519)
	r, events := open(t, "default="+key.Reveal(), newFile(t, "acme="+key.Reveal()))
	keys, _ := r.Keys("")
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		fmt.Fprintf(&shown, verb+verb+verb, r, keys, *events)
		fmt.Fprintf(&shown, verb, struct{ ring *keyring.Ring }{r})
	}
	slog.New(slog.NewJSONHandler(&shown, nil)).Info("ring", "ring", r, "keys", keys, "events", *events)
	slog.New(slog.NewTextHandler(&shown, nil)).Info("ring", "ring", r, "keys", keys, "events", *events)
	_, encoded, _ := strings.Cut(key.Reveal(), "_")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	must(t, err)
	for _, secret := range []string{encoded[:16], string(raw[:24]), fmt.Sprintf("%x", raw[:24]), strings.Trim(fmt.Sprint(raw[:24]), "[]")} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("the printed ring shows %q of a key", secret)
		}
	}
}
