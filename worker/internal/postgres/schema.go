package postgres

import "strings"

// inSchema writes the schema's name into SQL that names the default one. The names need no quoting (outbox.CheckSchema).
func inSchema(sql, schema string) string { return strings.ReplaceAll(sql, "outbox.", schema+".") }
