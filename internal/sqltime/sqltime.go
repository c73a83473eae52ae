// Package sqltime bounds the times that are read from the tables. A person may have written an infinite one, or one that JSON
// cannot express.
package sqltime

import (
	"fmt"
	"time"
)

// Min and Max are the bounds. A time beyond them is shown as the bound.
var (
	Min = time.Unix(0, 0).UTC()
	Max = time.Date(9999, time.January, 1, 0, 0, 0, 0, time.UTC)
)

// Bounded is SQL for a time column within the bounds.
func Bounded(column string) string {
	return fmt.Sprintf(`CASE WHEN %[1]s OPERATOR(pg_catalog.<) '%[2]s'::pg_catalog.timestamptz THEN '%[2]s'::pg_catalog.timestamptz
WHEN %[1]s OPERATOR(pg_catalog.>) '%[3]s'::pg_catalog.timestamptz THEN '%[3]s'::pg_catalog.timestamptz ELSE %[1]s END`,
		column, Min.Format(form), Max.Format(form))
}

// form is read alike under every DateStyle.
const form = "2006-01-02T15:04:05Z07:00"
