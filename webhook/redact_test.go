package webhook_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/seed-abbacb8b/epilogue/webhook"
)

// secrets returns every form in which a key's secret could appear: as its text, as bytes, in hexadecimal, and in decimal.
func secrets(t *testing.T, k webhook.Key) []string {
	t.Helper()
	_, encoded, _ := strings.Cut(k.Reveal(), "_")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	must(t, err)
	raw = raw[:24] // the start of the secret; the end of a whsk_ is its public key
	return []string{
		encoded[:16], string(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		strings.Trim(fmt.Sprint(raw), "[]"), fmt.Sprintf("% x", raw),
		strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", raw), "[]byte"), "{}"),
	}
}

func TestNoWayOfPrintingAKeyShowsItsSecret(t *testing.T) {
	t.Parallel()
	for _, kind := range []webhook.Kind{webhook.HMAC, webhook.Ed25519} {
		k := generate(t, kind)
		type hidden struct{ key webhook.Key }
		type open struct {
			Key  webhook.Key
			Keys webhook.Keys
			Ptr  *webhook.Key
			Map  map[string]webhook.Keys
		}
		things := []any{
			k, &k, webhook.Keys{k}, []any{k}, map[string]webhook.Key{"k": k}, hidden{k}, &hidden{k},
			open{k, webhook.Keys{k}, &k, map[string]webhook.Keys{"k": {k}}}, webhook.Verifier{Keys: webhook.Keys{k}},
			fmt.Errorf("with %v and %s", k, k),
		}
		var shown strings.Builder
		for _, thing := range things {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%10.3s"} {
				fmt.Fprintf(&shown, verb+"\n", thing)
			}
			show(t, &shown, thing)
		}
		for _, secret := range secrets(t, k) {
			if i := strings.Index(shown.String(), secret); i >= 0 {
				t.Errorf("%s: the secret is shown after %q, want it hidden", kind, shown.String()[max(0, i-40):i])
			}
		}
		if !strings.Contains(shown.String(), string(kind)+"_…(redacted") {
			t.Errorf("%s: the kind is not shown, want it shown", kind)
		}
	}
}

// show prints, logs and encodes a value in every way that the standard library offers.
func show(t *testing.T, to *strings.Builder, thing any) {
	t.Helper()
	var log bytes.Buffer
	options := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, options), slog.NewJSONHandler(&log, options)} {
		slog.New(handler).With("with", thing).Info("message", "key", thing, slog.Group("group", "key", thing))
	}
	to.Write(log.Bytes())
	if text, err := json.MarshalIndent(thing, "", " "); err == nil {
		to.Write(text)
	}
	if text, err := xml.Marshal(thing); err == nil {
		to.Write(text)
	}
	to.WriteString(errors.Join(fmt.Errorf("%v", thing)).Error())
}

func TestARedactedKeyIsNotAKey(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(generate(t, webhook.HMAC))
	must(t, err)
	if string(text) != `"whsec_…(redacted)"` {
		t.Errorf("the key as JSON is %s, want it redacted", text)
	}
	if _, err := webhook.ParseKey(strings.Trim(string(text), `"`)); err == nil {
		t.Error("ParseKey accepts a redacted key, want an error")
	}
}

func TestPublicKeysAreShown(t *testing.T) {
	t.Parallel()
	public := publicOf(t, generate(t, webhook.Ed25519))
	if got := fmt.Sprint(public); got != public.Reveal() || !strings.HasPrefix(got, "whpk_") {
		t.Errorf("the public key is shown as %q, want its text", got)
	}
	if got := fmt.Sprint(webhook.Key{}); got != "(no webhook key)" {
		t.Errorf("the zero key is shown as %q, want that it is no key", got)
	}
}
