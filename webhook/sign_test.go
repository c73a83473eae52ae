package webhook_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

// vectors are test vectors that other projects publish, all for the message msg_p5jXN8AQM9LWM0D4loKWxJek at second 1614265330
// with the body {"test": 2432232314}.
var vectors = []struct{ source, key, public, signature string }{
	{
		source:    "the Standard Webhooks and Svix libraries, v1",
		key:       "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
	},
	{
		source:    "Svix's server, test_asymmetric_key_signing; the signature is the specification's example of v1a",
		key:       "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
		public:    "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
		signature: "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
	},
	{
		source:    "standard-webhooks pull request 253 (v1a for the Go library), TestAsymmetricWebhookSign",
		key:       "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=",
		signature: "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==",
	},
}

const vectorID, vectorBody = "msg_p5jXN8AQM9LWM0D4loKWxJek", `{"test": 2432232314}`

var vectorTime = time.Unix(1614265330, 0)

func TestPublishedVectorsAreSignedAndVerified(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		key := parse(t, v.key)
		if got := (webhook.Keys{key}).Sign(vectorID, vectorTime, []byte(vectorBody)); got != v.signature {
			t.Errorf("%s: the signature is %s, want %s", v.source, got, v.signature)
		}
		verifiers := webhook.Keys{key}
		if public, ok := key.Public(); ok {
			verifiers = append(verifiers, public)
			if v.public != "" && public.Reveal() != v.public {
				t.Errorf("%s: the public key is %v, want %s", v.source, public, v.public)
			}
		}
		for _, verifier := range verifiers {
			header := headers(vectorID, "1614265330", v.signature)
			if _, err := at(vectorTime, verifier).Verify(header, []byte(vectorBody)); err != nil {
				t.Errorf("%s: with %v, Verify returns %v, want no error", v.source, verifier, err)
			}
		}
	}
}

// crypto/ed25519 tests all vectors of RFC 8032, section 7.1. This test shows that our keys are its keys.
func TestEd25519KeysAreThoseOfRFC8032(t *testing.T) {
	t.Parallel()
	for seed, public := range map[string]string{
		"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
		"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
		"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7": "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
	} {
		raw, err := hex.DecodeString(seed)
		must(t, err)
		key := parse(t, encode("whsk_", raw))
		if got := hex.EncodeToString(key.PublicBytes()); got != public {
			t.Errorf("the seed %s has the public key %s, want %s", seed, got, public)
		}
	}
}

func TestWhatIsSignedIsIDTimestampAndBody(t *testing.T) {
	t.Parallel()
	key := generate(t, webhook.Ed25519)
	body := []byte("a\x00body.\r\n\xff")
	now := time.Now()
	encoded, ok := strings.CutPrefix(webhook.Keys{key}.Sign("id", now, body), "v1a,")
	signature, err := base64.StdEncoding.DecodeString(encoded)
	must(t, err)
	content := "id." + webhook.Timestamp(now) + "." + string(body)
	if !ok || !ed25519.Verify(key.PublicBytes(), []byte(content), signature) {
		t.Error("crypto/ed25519 does not verify the signature over id, timestamp and body")
	}
}

func TestTheStandardWebhooksLibraryVerifiesWhatWeSign(t *testing.T) {
	t.Parallel()
	for n := 24; n <= 64; n++ {
		key := parse(t, encode("whsec_", bytes.Repeat([]byte{byte(n)}, n)))
		oracle, err := standardwebhooks.NewWebhook(key.Reveal())
		must(t, err)
		for _, body := range bodies() {
			header := signed(webhook.Keys{generate(t, webhook.Ed25519), generate(t, webhook.HMAC), key}, "msg_1", time.Now(), body)
			if err := oracle.Verify(body, header); err != nil {
				t.Fatalf("a key of %d bytes, a body of %d: the library returns %v, want no error", n, len(body), err)
			}
		}
	}
}

func TestWeVerifyWhatTheStandardWebhooksLibrarySigns(t *testing.T) {
	t.Parallel()
	key := generate(t, webhook.HMAC)
	oracle, err := standardwebhooks.NewWebhook(key.Reveal())
	must(t, err)
	verifier := webhook.Verifier{Keys: webhook.Keys{generate(t, webhook.HMAC), key}}
	for _, body := range bodies() {
		now := time.Now()
		signature, err := oracle.Sign("msg_1", now, body)
		must(t, err)
		d, err := verifier.Verify(headers("msg_1", webhook.Timestamp(now), signature), body)
		if err != nil || d.ID != "msg_1" || d.Timestamp.Unix() != now.Unix() || d.KeyIndex != 1 {
			t.Errorf("a body of %d bytes: Verify returns %+v, %v; want the delivery, by the second key", len(body), d, err)
		}
	}
}

func bodies() [][]byte {
	return [][]byte{nil, []byte("."), []byte(vectorBody), bytes.Repeat([]byte{0xff, 0, '.'}, 100_000)}
}

func TestEveryKeySignsInItsOrder(t *testing.T) {
	t.Parallel()
	a, b := generate(t, webhook.HMAC), generate(t, webhook.Ed25519)
	one := func(k webhook.Key) string { return webhook.Keys{k}.Sign("id", vectorTime, nil) }
	got := webhook.Keys{a, b, publicOf(t, b), {}, a}.Sign("id", vectorTime, nil)
	if want := one(a) + " " + one(b) + " " + one(a); got != want {
		t.Errorf("the signatures are %q, want %q", got, want)
	}
}

func TestNothingIsSignedWithoutAKeyOrWithAnInvalidID(t *testing.T) {
	t.Parallel()
	key := generate(t, webhook.Ed25519)
	for name, keys := range map[string]webhook.Keys{"none": nil, "zero": {{}}, "public": {publicOf(t, key)}} {
		if got := keys.Sign("id", vectorTime, nil); got != "" || keys.CanSign() {
			t.Errorf("%s: the signature is %q, want none", name, got)
		}
	}
	for _, id := range invalidIDs() {
		if got := (webhook.Keys{key}).Sign(id, vectorTime, nil); got != "" {
			t.Errorf("id %q: the signature is %q, want none", id, got)
		}
	}
}

func invalidIDs() []string {
	return []string{
		"", "a.1", ".", "a b", "a\r\nwebhook-signature: v1,x", "a\x00", "a\x7f", "ä", "\xff", "\t",
		strings.Repeat("a", webhook.IDBytesMax+1),
	}
}

func TestKeysSignInParallel(t *testing.T) {
	t.Parallel()
	keys := webhook.Keys{generate(t, webhook.HMAC), generate(t, webhook.Ed25519)}
	want := keys.Sign("id", vectorTime, []byte(vectorBody))
	done := make(chan string)
	for range 16 {
		go func() {
			last := want
			for range 200 {
				if got := keys.Sign("id", vectorTime, []byte(vectorBody)); got != want {
					last = got
				}
			}
			done <- last
		}()
	}
	for range 16 {
		if got := <-done; got != want {
			t.Errorf("signed %q, want %q", got, want)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	for name, kinds := range map[string][]webhook.Kind{
		"v1": {webhook.HMAC}, "v1a": {webhook.Ed25519}, "v1 twice": {webhook.HMAC, webhook.HMAC},
	} {
		var keys webhook.Keys
		for _, kind := range kinds {
			keys = append(keys, generate(b, kind))
		}
		for _, size := range []int{256, 64 << 10} {
			b.Run(name+"/"+map[int]string{256: "256 B", 64 << 10: "64 KiB"}[size], func(b *testing.B) {
				body, now := make([]byte, size), time.Now()
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if keys.Sign("0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10", now, body) == "" {
						b.Fatal("Sign returns no signature, want one")
					}
				}
			})
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, kind := range []webhook.Kind{webhook.HMAC, webhook.Ed25519} {
		b.Run(string(kind), func(b *testing.B) {
			key, now, body := generate(b, kind), time.Now(), make([]byte, 256)
			header := signed(webhook.Keys{key}, "id", now, body)
			verifier := at(now, key)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.Verify(header, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
