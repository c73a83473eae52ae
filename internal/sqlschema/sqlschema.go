// Package sqlschema writes the schema's name into SQL.
package sqlschema

import "strings"

// In returns SQL, written for the schema outbox, for another one. The name needs no quoting: outbox.CheckSchema has checked it.
func In(sql, schema string) string { return strings.ReplaceAll(sql, "outbox.", schema+".") }
