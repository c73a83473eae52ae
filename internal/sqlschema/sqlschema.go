// Package sqlschema writes the schema's name into SQL.
package sqlschema

import "strings"

// In rewrites SQL for the schema outbox into SQL for another schema. outbox.CheckSchema has checked that the name needs no quoting.
func In(sql, schema string) string { return strings.ReplaceAll(sql, "outbox.", schema+".") }
