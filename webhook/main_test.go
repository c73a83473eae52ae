package webhook_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

func TestMain(m *testing.M) { testdb.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t testing.TB, text string) webhook.Key {
	t.Helper()
	k, err := webhook.ParseKey(text)
	must(t, err)
	return k
}

func generate(t testing.TB, kind webhook.Kind) webhook.Key {
	t.Helper()
	k, err := webhook.Generate(kind)
	must(t, err)
	return k
}

func publicOf(t testing.TB, k webhook.Key) webhook.Key {
	t.Helper()
	public, ok := k.Public()
	if !ok {
		t.Fatalf("%v has no public half", k)
	}
	return public
}

// signed returns the headers of a delivery.
func signed(keys webhook.Keys, id string, at time.Time, body []byte) http.Header {
	return headers(id, webhook.Timestamp(at), keys.Sign(id, at, body))
}

func headers(id, timestamp, signature string) http.Header {
	h := http.Header{}
	h.Set(webhook.HeaderID, id)
	h.Set(webhook.HeaderTimestamp, timestamp)
	h.Set(webhook.HeaderSignature, signature)
	return h
}

// at returns a verifier whose clock always shows this time.
func at(now time.Time, keys ...webhook.Key) webhook.Verifier {
	return webhook.Verifier{Keys: keys, Now: func() time.Time { return now }}
}
