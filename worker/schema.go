package worker

import "strings"

// inSchema writes the schema's name into SQL that names the default one.
func inSchema(sql, schema string) string { return strings.ReplaceAll(sql, "outbox.", schema+".") }
