package webhook_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

func encode(prefix string, raw []byte) string { return prefix + base64.StdEncoding.EncodeToString(raw) }

func TestAnHMACKeyHas24To64Bytes(t *testing.T) {
	t.Parallel()
	for n := range 70 {
		_, err := webhook.ParseKey(encode("whsec_", bytes.Repeat([]byte{7}, n)))
		if want := n >= 24 && n <= 64; (err == nil) != want {
			t.Errorf("for %d bytes, ParseKey returns %v, want an error outside of 24 to 64", n, err)
		}
		if err != nil && (!errors.Is(err, webhook.ErrKey) || !strings.Contains(err.Error(), "want 24 to 64")) {
			t.Errorf("for %d bytes, the error does not name the bounds: %v", n, err)
		}
	}
}

func TestAnEd25519KeyIsASeedOrBothHalves(t *testing.T) {
	t.Parallel()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	seed, both := parse(t, encode("whsk_", private.Seed())), parse(t, encode("whsk_", private))
	if !seed.Equal(both) || seed.Reveal() != both.Reveal() || seed.ID() != both.ID() {
		t.Error("the two forms of one key give different keys, want the same one")
	}
	if got := publicOf(t, seed); !bytes.Equal(got.PublicBytes(), private.Public().(ed25519.PublicKey)) {
		t.Errorf("the public half is %x, want that of the private key", got.PublicBytes())
	}
	wrong := append([]byte(nil), private...)
	wrong[40] ^= 1
	if _, err := webhook.ParseKey(encode("whsk_", wrong)); err == nil {
		t.Error("ParseKey accepts halves that do not belong together, want an error")
	}
	for _, n := range []int{0, 31, 33, 48, 63, 65} {
		if _, err := webhook.ParseKey(encode("whsk_", make([]byte, n))); !errors.Is(err, webhook.ErrKey) {
			t.Errorf("for %d bytes, ParseKey returns %v, want ErrKey", n, err)
		}
	}
}

func TestInvalidKeysAreRefusedAndNotShown(t *testing.T) {
	t.Parallel()
	secret := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("s3cr3t"), 4))
	for name, text := range map[string]string{
		"nothing":            "",
		"no prefix":          secret,
		"another prefix":     "whsex_" + secret,
		"upper case":         "WHSEC_" + secret,
		"prefix alone":       "whsec_",
		"not base64":         "whsec_" + secret[:10] + "!" + secret[11:],
		"URL's base64":       "whsec_" + strings.Repeat("-_", 16),
		"no padding":         strings.TrimRight(encode("whsec_", make([]byte, 25)), "="),
		"a line break in it": "whsec_" + secret[:8] + "\n" + secret[8:],
		"a space in it":      "whsec_" + secret[:8] + " " + secret[8:],
		"bits that are lost": "whsec_" + strings.Repeat("A", 33) + "B==",
		"two keys":           "whsec_" + secret + ",whsec_" + secret,
		"the prefix twice":   "whsec_whsec_" + secret,
		"a short public key": encode("whpk_", []byte("s3cr3ts3cr3t")),
		"too long":           "whsec_" + strings.Repeat(secret, 3),
	} {
		key, err := webhook.ParseKey(text)
		if !errors.Is(err, webhook.ErrKey) || key.Kind() != "" {
			t.Errorf("%s: ParseKey returns %v, %v; want no key, and ErrKey", name, key, err)
			continue
		}
		for i := 0; i+8 <= len(secret); i++ {
			if strings.Contains(err.Error(), secret[i:i+8]) {
				t.Errorf("%s: the error shows the key, want it hidden: %v", name, err)
			}
		}
	}
}

func TestWhiteSpaceAroundAKeyIsDropped(t *testing.T) {
	t.Parallel()
	k := generate(t, webhook.HMAC)
	if !parse(t, " \t"+k.Reveal()+"\r\n").Equal(k) {
		t.Error("with white space around it, ParseKey returns another key")
	}
}

func TestGeneratedKeysCanBeParsed(t *testing.T) {
	t.Parallel()
	for _, kind := range []webhook.Kind{webhook.HMAC, webhook.Ed25519} {
		k, other := generate(t, kind), generate(t, kind)
		if again := parse(t, k.Reveal()); !again.Equal(k) || again.Kind() != kind || !again.CanSign() {
			t.Errorf("%s: the parsed key is %v, want the generated one", kind, again)
		}
		if k.Equal(other) || k.Equal(webhook.Key{}) || (webhook.Key{}).Equal(k) {
			t.Errorf("%s: Equal is true for different keys, want false", kind)
		}
	}
	if _, err := webhook.Generate(webhook.Ed25519Public); !errors.Is(err, webhook.ErrKey) {
		t.Errorf("Generate of a public key returns %v, want ErrKey", err)
	}
	if _, err := webhook.Generate("rsa"); !errors.Is(err, webhook.ErrKey) {
		t.Errorf("Generate of an unknown kind returns %v, want ErrKey", err)
	}
}

func TestOnlyEd25519KeysHavePublicHalvesAndIDs(t *testing.T) {
	t.Parallel()
	shared, private := generate(t, webhook.HMAC), generate(t, webhook.Ed25519)
	public := publicOf(t, private)
	if public.CanSign() || public.Kind() != webhook.Ed25519Public || public.ID() != private.ID() || len(public.ID()) != 16 {
		t.Errorf("the public half is %v with the id %q, want one that cannot sign, with the id %q", public, public.ID(), private.ID())
	}
	if !parse(t, public.Reveal()).Equal(public) || !publicOf(t, public).Equal(public) {
		t.Error("the public half's text gives another key when it is parsed")
	}
	if _, ok := shared.Public(); ok || shared.ID() != "" || shared.PublicBytes() != nil {
		t.Error("a shared secret has a public half, an id or public bytes, want none")
	}
	var none webhook.Key
	if _, ok := none.Public(); ok || none.ID() != "" || none.Reveal() != "" || none.CanSign() || none.PublicBytes() != nil {
		t.Error("the zero key has a part of a key, want none")
	}
}

// The key and thumbprint of RFC 8037, appendices A.2 and A.3.
func TestTheIDIsTheStartOfTheJWKThumbprint(t *testing.T) {
	t.Parallel()
	raw, err := hex.DecodeString("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
	must(t, err)
	if got := parse(t, encode("whpk_", raw)).ID(); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"[:16] {
		t.Errorf("the id is %q, want the start of the RFC's thumbprint", got)
	}
}

func TestPublicKeysThatAcceptForgeriesAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		for _, sign := range []byte{0, 0x80} {
			point, _ := hex.DecodeString(text)
			point[31] |= sign
			if !forgeable(point) {
				t.Errorf("the point %x accepts no forgery, so the test proves nothing", point)
			}
			if _, err := webhook.ParseKey(encode("whpk_", point)); !errors.Is(err, webhook.ErrKey) {
				t.Errorf("for the point %x, ParseKey returns %v, want ErrKey", point, err)
			}
		}
	}
	if forgeable(generate(t, webhook.Ed25519).PublicBytes()) {
		t.Error("a generated key accepts a forgery, want that it does not")
	}
}

// forgeable reports whether the signature R = 0 (the neutral point), S = 0, which anybody can write, fits some message.
func forgeable(public []byte) bool {
	signature := make([]byte, ed25519.SignatureSize)
	signature[0] = 1
	for i := range 200 {
		if ed25519.Verify(public, fmt.Append(nil, i), signature) {
			return true
		}
	}
	return false
}
