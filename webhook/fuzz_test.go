package webhook_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

func FuzzParseKey(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.key)
		f.Add(v.public)
	}
	f.Add("whsec_")
	f.Add("whpk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := webhook.ParseKey(text)
		if err != nil {
			if !errors.Is(err, webhook.ErrKey) || key.Kind() != "" {
				t.Fatalf("ParseKey returns %v, %v; want no key, and ErrKey", key, err)
			}
			if _, encoded, _ := strings.Cut(text, "_"); len(encoded) > 20 && strings.Contains(err.Error(), encoded) {
				t.Fatalf("the error shows the key, want it hidden: %v", err)
			}
			return
		}
		if again := parse(t, key.Reveal()); !again.Equal(key) {
			t.Fatal("the key's text gives another key when it is parsed again")
		}
		if key.Kind() != webhook.Ed25519Public && strings.Contains(key.String(), strings.TrimPrefix(key.Reveal(), "whsec_")) {
			t.Fatal("String of the key shows its secret")
		}
	})
}

// FuzzVerify checks that no other message is accepted with the parts of one signed message, in any combination.
func FuzzVerify(f *testing.F) {
	keys := webhook.Keys{parse(f, vectors[0].key), parse(f, vectors[1].key)}
	header := keys.Sign(vectorID, vectorTime, []byte(vectorBody))
	f.Add(vectorID, "1614265330", header, []byte(vectorBody))
	f.Add(vectorID, "1614265330", vectors[1].signature, []byte(vectorBody))
	f.Add(vectorID+".1614265330", "1614265330", header, []byte(vectorBody))
	f.Add(vectorID, "01614265330", "v1 "+header, []byte{})
	verifier := webhook.Verifier{Keys: keys, Tolerance: 1 << 62, Now: func() time.Time { return vectorTime }}
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		d, err := verifier.Verify(headers(id, timestamp, signature), body)
		same := id == vectorID && timestamp == "1614265330" && bytes.Equal(body, []byte(vectorBody))
		if err == nil && !same {
			t.Fatalf("the verifier accepts %+v, want an error", d)
		}
		if err != nil && d != (webhook.Delivery{}) {
			t.Fatalf("with an error, the verifier returns %+v, want no delivery", d)
		}
		if same && signature == header && err != nil {
			t.Fatalf("the verifier refuses the signed message: %v", err)
		}
	})
}
