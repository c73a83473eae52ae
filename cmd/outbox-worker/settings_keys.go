package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/seed-abbacb8b/epilogue/internal/keyring"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// signingKeys are sets of keys as their variable holds them. String shows only the names of the sets, and no fault quotes a
// key.
type signingKeys string

// EnvDecode checks every set.
func (k *signingKeys) EnvDecode(text string) error {
	if _, err := keyring.Open(text, "", nil); err != nil {
		return decodef("cannot be read: %s", faultsOnOneLine(err))
	}
	*k = signingKeys(text)
	return nil
}

func (k signingKeys) String() string {
	ring, err := keyring.Open(string(k), "", nil)
	if err != nil {
		return "(not shown: it cannot be read)"
	}
	var sets []string
	for _, name := range ring.Names() {
		keys, _ := ring.Keys(name)
		sets = append(sets, name+"="+strings.Join(slices.Repeat([]string{redacted}, len(keys)), ","))
	}
	return strings.Join(sets, ";")
}

// keyFile is the path of a file with sets of keys.
type keyFile string

// EnvDecode refuses a key in place of a path, without showing it: faults and the command config show paths.
func (f *keyFile) EnvDecode(text string) error {
	if keyText.MatchString(text) {
		return decodef("holds a key; want the path of a file with keys (it is not shown here)")
	}
	*f = keyFile(text)
	return nil
}

// verifyingKeys are keys for the command receive: one of them must have signed each request.
type verifyingKeys webhook.Keys

// EnvDecode reads keys.
func (k *verifyingKeys) EnvDecode(text string) error {
	if text == "" {
		return nil
	}
	keys, err := parseKeys(text)
	if err != nil {
		return decodef("cannot be read: %v", err)
	}
	*k = verifyingKeys(keys)
	return nil
}

// String shows public keys only.
func (k verifyingKeys) String() string {
	texts := make([]string, len(k))
	for i, key := range k {
		if texts[i] = key.String(); key.CanSign() {
			texts[i] = string(key.Kind()) + "_" + redacted
		}
	}
	return strings.Join(texts, ",")
}

// parseKeys reads keys separated by white space, commas or semicolons; # begins a comment. Its error quotes nothing of the
// text.
func parseKeys(text string) (webhook.Keys, error) {
	var keys webhook.Keys
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == ';' || unicode.IsSpace(r) })
		for _, word := range words {
			key, err := webhook.ParseKey(word)
			if err != nil {
				return nil, fmt.Errorf("key %d: %w", len(keys)+1, err)
			}
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no key; want whsec_… or whpk_…")
	}
	return keys, nil
}

// readKeys reads them from a file. It reads no more of it than any sensible number of keys needs.
func readKeys(path string) (webhook.Keys, error) {
	const bytesMax = 1 << 20
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, bytesMax))
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// The variables of keys.
const (
	keysVariable        = envPrefix + "SIGNING_KEYS"
	keysFileVariable    = envPrefix + "SIGNING_KEYS_FILE"
	receiveKeysVariable = envPrefix + "RECEIVE_KEYS"
)

// keyring returns the sets of signing keys, none when none are set.
func (s settings) keyring(report func(keyring.Event)) (*keyring.Ring, error) {
	ring, err := keyring.Open(string(s.SigningKeys), string(s.SigningKeysFile), report)
	if err != nil { // of the file, or of the two together: the variable was checked when it was loaded
		return nil, faultsError{{keysFileVariable, keysFileVariable + ": " + faultsOnOneLine(err)}}
	}
	return ring, nil
}

// signs reports whether the environment sets signing keys.
func (s settings) signs() bool { return s.SigningKeys != "" || s.SigningKeysFile != "" }

func faultsOnOneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// keyText matches a secret key in other text: at least 24 bytes of base64.
var keyText = regexp.MustCompile(`(whsec|whsk)_[A-Za-z0-9+/]{32,}={0,2}`)

// withoutKeys is the last guard before an error is printed: a user may have given a key in place of an id, a command or a file.
func withoutKeys(text string) string { return keyText.ReplaceAllString(text, "${1}_"+redacted) }
