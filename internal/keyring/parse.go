package keyring

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/seed-abbacb8b/epilogue/internal/keyname"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// Bounds of what is read.
const (
	KeysMax   = 8  // of a set: all of them sign every message, and a verifier accepts only a limited number of signatures
	faultsMax = 10 // named of one text
)

// CheckName reports a text that cannot be the name of a set: one that no message can name, or one that begins like a key. The
// error does not show it, because it may be a misplaced key.
func CheckName(name string) error {
	for _, kind := range []webhook.Kind{webhook.HMAC, webhook.Ed25519, webhook.Ed25519Public} {
		if strings.HasPrefix(name, string(kind)+"_") {
			return errors.New("a key stands where the name of a set should; want name=key")
		}
	}
	if keyname.Check(name) != nil {
		return errors.New("the name of the set is not 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter " +
			"or digit (it is not shown here, because it may be a key)")
	}
	return nil
}

// hiddenChars is how long a name must be to be taken for a piece of a key.
const hiddenChars = 12

// shown returns the name for an error, unless it may be a key that lost its prefix: long, with capitals, and without
// those of the allowed characters that standard base64 does not have.
func shown(name string) string {
	if len(name) >= hiddenChars && strings.ToLower(name) != name && !strings.ContainsAny(name, "._-") {
		return "(a name that may be a key)"
	}
	return strconv.Quote(name)
}

func parseEntries(text string) (sets, error) {
	p := parser{sets: sets{}, places: map[string]string{}}
	entries := strings.FieldsFunc(text, func(r rune) bool { return r == ';' || unicode.IsSpace(r) })
	for i, entry := range entries {
		p.add(fmt.Sprintf("entry %d", i+1), entry)
	}
	return p.sets, p.err()
}

func parseFile(text string) (sets, error) {
	p := parser{sets: sets{}, places: map[string]string{}}
	n := 0
	text = strings.TrimPrefix(text, "\uFEFF") // the byte order mark that some editors write
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			p.add(fmt.Sprintf("line %d", n), line)
		}
	}
	return p.sets, p.err()
}

// parser collects sets and faults.
type parser struct {
	sets   sets
	places map[string]string // where each name stands
	faults []error
	more   int // faults that are not named
}

func (p *parser) err() error {
	if p.more > 0 {
		p.faults = append(p.faults, fmt.Errorf("and %d faults more", p.more))
	}
	return errors.Join(p.faults...)
}

func (p *parser) add(place, text string) {
	err := p.entry(place, text)
	switch {
	case err == nil:
	case len(p.faults) == faultsMax:
		p.more++
	default:
		p.faults = append(p.faults, fmt.Errorf("%s: %w", place, err))
	}
}

// entry reads name=key[,key…].
func (p *parser) entry(place, text string) error {
	name, rest, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("no =; want name=key (the default set is called " + Default + ")")
	}
	name = strings.TrimSpace(name)
	if err := CheckName(name); err != nil {
		return err
	}
	if before, ok := p.places[name]; ok {
		return fmt.Errorf("set %s stands in %s already; all its keys belong there", shown(name), before)
	}
	p.places[name] = place
	keys, err := parseKeys(rest)
	if err != nil {
		return fmt.Errorf("set %s: %w", shown(name), err)
	}
	p.sets[name] = keys
	return nil
}

func parseKeys(text string) (webhook.Keys, error) {
	texts := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	if len(texts) == 0 || len(texts) > KeysMax {
		return nil, fmt.Errorf("%d keys; want 1 to %d", len(texts), KeysMax)
	}
	keys := make(webhook.Keys, 0, len(texts))
	for i, text := range texts {
		key, err := webhook.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if !key.CanSign() {
			return nil, fmt.Errorf("key %d is public: it verifies, and cannot sign; want whsec_ or whsk_", i+1)
		}
		for j, other := range keys {
			if key.Equal(other) {
				return nil, fmt.Errorf("key %d is key %d again", i+1, j+1)
			}
		}
		keys = append(keys, key)
	}
	return keys, nil
}
