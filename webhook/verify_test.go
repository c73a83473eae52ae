package webhook_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

func TestAnAlteredDeliveryIsRefused(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	body := []byte(`{"ok":true}`)
	for _, kind := range []webhook.Kind{webhook.HMAC, webhook.Ed25519} {
		key := generate(t, kind)
		verifier := at(now, key)
		good := signed(webhook.Keys{key}, "id", now, body)
		d, err := verifier.Verify(good, body)
		if err != nil || d != (webhook.Delivery{ID: "id", Timestamp: now}) {
			t.Fatalf("%s: Verify returns %+v, %v; want the delivery", kind, d, err)
		}
		for i := range body {
			altered := append([]byte(nil), body...)
			altered[i] ^= 1
			refused(t, verifier, good, altered, webhook.ErrSignature)
		}
		refused(t, verifier, good, nil, webhook.ErrSignature)
		refused(t, verifier, good, append(body, '\n'), webhook.ErrSignature)
		refused(t, verifier, changed(good, webhook.HeaderID, "ie"), body, webhook.ErrSignature)
		refused(t, verifier, changed(good, webhook.HeaderTimestamp, "1700000001"), body, webhook.ErrSignature)
		refused(t, at(now, generate(t, kind)), good, body, webhook.ErrSignature)
	}
}

func refused(t *testing.T, v webhook.Verifier, h http.Header, body []byte, want error) {
	t.Helper()
	if d, err := v.Verify(h, body); !errors.Is(err, want) || d != (webhook.Delivery{}) {
		t.Errorf("%v with body %q: Verify returns %+v, %v; want %v", h, body, d, err, want)
	}
}

func changed(h http.Header, name, value string) http.Header {
	h = h.Clone()
	h.Set(name, value)
	return h
}

func TestEachHeaderMustBeThereOnceAndBeValid(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	key := generate(t, webhook.HMAC)
	verifier := at(now, key)
	good := signed(webhook.Keys{key}, "id", now, nil)
	for _, name := range []string{webhook.HeaderID, webhook.HeaderTimestamp, webhook.HeaderSignature} {
		absent := good.Clone()
		absent.Del(name)
		refused(t, verifier, absent, nil, webhook.ErrMissingHeader)
		refused(t, verifier, changed(good, name, ""), nil, webhook.ErrMissingHeader)
		twice := good.Clone()
		twice.Add(name, good.Get(name))
		refused(t, verifier, twice, nil, webhook.ErrInvalidHeader)
	}
	for _, id := range invalidIDs()[1:] {
		refused(t, verifier, changed(good, webhook.HeaderID, id), nil, webhook.ErrInvalidHeader)
	}
	for _, timestamp := range []string{
		"01700000000", "+1700000000", "-1", "1700000000.0", " 1700000000", "1700000000 ", "1_700_000_000", "0x6553f100",
		"1e9", "now", "１７", "99999999999999999999", "1000000000000",
	} {
		refused(t, verifier, changed(good, webhook.HeaderTimestamp, timestamp), nil, webhook.ErrInvalidHeader)
	}
	signature := good.Get(webhook.HeaderSignature)
	many := strings.Repeat("v2,x ", webhook.SignaturesMax-1) + signature
	if _, err := verifier.Verify(changed(good, webhook.HeaderSignature, many), nil); err != nil {
		t.Errorf("with the largest number of signatures, Verify returns %v, want no error", err)
	}
	refused(t, verifier, changed(good, webhook.HeaderSignature, "v2,x "+many), nil, webhook.ErrInvalidHeader)
	refused(t, verifier, changed(good, webhook.HeaderSignature, "v2,"+strings.Repeat("x", 5000)+" "+signature), nil,
		webhook.ErrInvalidHeader)
}

// One signature could be read in two ways: without the rule about full stops, both messages would be accepted.
func TestASignatureFitsOneMessageOnly(t *testing.T) {
	t.Parallel()
	key := generate(t, webhook.HMAC)
	body := []byte("1700000001.x")
	first := signed(webhook.Keys{key}, "a", time.Unix(1_700_000_000, 0), body)
	second := headers("a.1700000000", "1700000001", first.Get(webhook.HeaderSignature))
	verifier := at(time.Unix(1_700_000_000, 0), key)
	if _, err := verifier.Verify(first, body); err != nil {
		t.Errorf("Verify of the signed message returns %v, want no error", err)
	}
	refused(t, verifier, second, []byte("x"), webhook.ErrInvalidHeader)
}

func TestTheToleranceHoldsInBothDirections(t *testing.T) {
	t.Parallel()
	key := generate(t, webhook.HMAC)
	sent := time.Unix(1_700_000_000, 0)
	header := signed(webhook.Keys{key}, "id", sent, nil)
	for _, tolerance := range []time.Duration{0, time.Second, time.Hour} {
		edge := tolerance
		if edge == 0 {
			edge = webhook.DefaultTolerance
		}
		for _, c := range []struct {
			now  time.Time
			want error
		}{
			{sent, nil}, {sent.Add(edge), nil}, {sent.Add(-edge), nil},
			{sent.Add(edge + 1), webhook.ErrTimestamp}, {sent.Add(-edge - 1), webhook.ErrTimestamp},
			{sent.AddDate(100, 0, 0), webhook.ErrTimestamp}, {time.Time{}, webhook.ErrTimestamp},
		} {
			verifier := at(c.now, key)
			verifier.Tolerance = tolerance
			if _, err := verifier.Verify(header, nil); !errors.Is(err, c.want) {
				t.Errorf("tolerance %v, %v after sending: Verify returns %v, want %v", tolerance, c.now.Sub(sent), err, c.want)
			}
		}
	}
	far := signed(webhook.Keys{key}, "id", time.Unix(999_999_999_999, 0), nil)
	refused(t, at(sent, key), far, nil, webhook.ErrTimestamp)
}

func TestAStaleDeliveryIsNotVerifiedAtAll(t *testing.T) {
	t.Parallel()
	key := generate(t, webhook.HMAC)
	header := signed(webhook.Keys{generate(t, webhook.HMAC)}, "id", time.Unix(1_700_000_000, 0), nil)
	refused(t, webhook.Verifier{Keys: webhook.Keys{key}}, header, nil, webhook.ErrTimestamp)
}

func TestOneGoodSignatureAmongManyIsEnough(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	for _, kind := range []webhook.Kind{webhook.HMAC, webhook.Ed25519} {
		key := generate(t, kind)
		good := webhook.Keys{key}.Sign("id", now, nil)
		version, encoded, _ := strings.Cut(good, ",")
		other := map[string]string{"v1": "v1a", "v1a": "v1"}[version]
		verifier := at(now, generate(t, webhook.HMAC), generate(t, webhook.Ed25519), key)
		for _, s := range []string{
			"v2," + encoded + " " + good, good + " v2,", "v1a, v1, " + good, "x " + good, "  " + good + " ", good + " " + good,
			version + "," + strings.Repeat("A", len(encoded)) + " " + good,
		} {
			d, err := verifier.Verify(headers("id", webhook.Timestamp(now), s), nil)
			if err != nil || d.KeyIndex != 2 {
				t.Errorf("%q: Verify returns %+v, %v; want the delivery, by the third key", s, d, err)
			}
		}
		for _, s := range []string{
			encoded, version + "," + encoded + ",v1", version + encoded, "v2," + encoded, other + "," + encoded, version + ",",
			strings.ToUpper(version) + "," + encoded, version + ", " + encoded, version + "," + strings.TrimRight(encoded, "="),
			version + "," + encoded + "=", version + "," + encoded[:len(encoded)-4], version + "\t," + encoded, "v0," + encoded,
			version + "," + strings.Replace(encoded, encoded[:1], "-", 1),
		} {
			refused(t, verifier, headers("id", webhook.Timestamp(now), s), nil, webhook.ErrSignature)
		}
	}
}

func TestAVerifierWithoutKeysVerifiesNothing(t *testing.T) {
	t.Parallel()
	now := time.Now()
	key := generate(t, webhook.HMAC)
	header := signed(webhook.Keys{key}, "id", now, nil)
	refused(t, webhook.Verifier{}, header, nil, webhook.ErrVerifier)
	refused(t, webhook.Verifier{Keys: webhook.Keys{key, {}}}, header, nil, webhook.ErrVerifier)
	refused(t, webhook.Verifier{Keys: webhook.Keys{key}, Tolerance: -1}, header, nil, webhook.ErrVerifier)
}

func TestNoErrorShowsTheRightSignature(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	key := generate(t, webhook.HMAC)
	want := webhook.Keys{key}.Sign("id", now, nil)
	_, err := at(now, key).Verify(headers("id", webhook.Timestamp(now), "v1,sent"), nil)
	for _, hidden := range []string{want, strings.TrimPrefix(want, "v1,"), "sent", key.Reveal()} {
		if err == nil || strings.Contains(err.Error(), hidden) {
			t.Errorf("the error is %v, want it without %q", err, hidden)
		}
	}
}

// In a rotation, sender and receiver may be one step apart. At every step the receiver accepts what the sender signs.
func TestDuringARotationNothingIsRefused(t *testing.T) {
	t.Parallel()
	for _, kinds := range [][2]webhook.Kind{
		{webhook.HMAC, webhook.HMAC}, {webhook.HMAC, webhook.Ed25519}, {webhook.Ed25519, webhook.Ed25519},
	} {
		old, fresh := generate(t, kinds[0]), generate(t, kinds[1])
		stages := []struct{ sender, receiver webhook.Keys }{
			{webhook.Keys{old}, webhook.Keys{old}},
			{webhook.Keys{old}, webhook.Keys{fresh, old}},
			{webhook.Keys{fresh, old}, webhook.Keys{fresh, old}},
			{webhook.Keys{fresh, old}, webhook.Keys{fresh}},
			{webhook.Keys{fresh}, webhook.Keys{fresh}},
		}
		for i, stage := range stages {
			for _, other := range stages[max(0, i-1):min(len(stages), i+2)] {
				now := time.Now()
				verifier := webhook.Verifier{Keys: other.receiver}
				if _, err := verifier.Verify(signed(stage.sender, "id", now, nil), nil); err != nil {
					t.Errorf("%v, stage %d: Verify returns %v, want no error", kinds, i, err)
				}
			}
		}
	}
}
