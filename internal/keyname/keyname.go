// Package keyname holds the rule for the names of signing keys and header sets.
package keyname

import (
	"errors"
	"regexp"
)

var valid = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// Valid reports whether a set of keys or headers can have this name.
func Valid(name string) bool { return valid.MatchString(name) }

// Check reports a name that no key set can have. The error does not show it, because it may be a key.
func Check(name string) error {
	if !Valid(name) {
		return errors.New("not the name of a signing key (it is not shown, because it may be a key); want 1 to 64 of A-Z, a-z, 0-9, _, . and -, beginning with a letter or digit")
	}
	return nil
}
