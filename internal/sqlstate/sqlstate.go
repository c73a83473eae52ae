// Package sqlstate finds the SQLSTATE of an error.
package sqlstate

import "errors"

// Of returns the SQLSTATE of an error of the database, by pgx or by lib/pq, and "" of any other error.
func Of(err error) string {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}
