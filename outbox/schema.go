package outbox

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// DefaultSchema is the schema of the outbox's tables, and of River's beside them.
const DefaultSchema = "outbox"

// ErrInvalidSchema is in every error of [CheckSchema].
var ErrInvalidSchema = errors.New("invalid schema name")

// schemaName keeps to what needs no quoting, and to the 46 bytes that River leaves for a name in its channels.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,45}$`)

// CheckSchema reports a name that cannot be the schema of the outbox. The schema must belong to the outbox alone, so that it
// can be dropped and never disturbs the tables of the application.
func CheckSchema(name string) error {
	if !schemaName.MatchString(name) {
		return fmt.Errorf("%w: %.64q; want 1 to 46 of a-z, 0-9 and _, not beginning with a digit", ErrInvalidSchema, name)
	}
	if name == "public" || name == "information_schema" || strings.HasPrefix(name, "pg_") {
		return fmt.Errorf("%w: %q belongs to others; choose a schema of its own", ErrInvalidSchema, name)
	}
	return nil
}

// WakeChannel is the NOTIFY channel on which wakes of a schema travel.
func WakeChannel(schema string) string { return schema + "_wake" }
