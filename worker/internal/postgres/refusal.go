package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/sqlstate"
)

// What an error of the database means for the rows of a batch, by its SQLSTATE alone.

// IsLocked reports that a lock was waited for longer than allowed (lock_timeout).
func IsLocked(err error) bool { return sqlstate.Of(err) == "55P03" }

// IsRowLocked reports that the wait was for a row, and not for a whole table: Postgres says where it waited only for rows.
func IsRowLocked(err error) bool {
	var pgErr *pgconn.PgError
	return IsLocked(err) && errors.As(err, &pgErr) && pgErr.Where != ""
}

// IsConflict reports a transaction that Postgres ended for the sake of others, and that is to be repeated: a deadlock, or
// one that cannot be serialised.
func IsConflict(err error) bool {
	code := sqlstate.Of(err)
	return code == "40P01" || code == "40001"
}

// refusals are the classes of SQLSTATE that can be about one row of many: data, constraints, limits of size, what a trigger
// or a function raises, and internal faults. What affects everybody and passes is not among them: connections,
// resources such as a full disk, a read-only server, an operator's intervention.
var refusals = map[string]bool{
	"21": true, "22": true, "23": true, "27": true, "2F": true, "38": true, "39": true, "42": true, "44": true, "54": true,
	"P0": true, "XX": true,
}

// IsRefusal reports an answer of the database that will be the same next time, and may concern a single row.
func IsRefusal(err error) bool {
	code := sqlstate.Of(err)
	return len(code) == 5 && refusals[code[:2]]
}

// IsCertain reports a refusal that follows from the row itself: a data fault or a broken constraint. An error from a
// trigger, or a missing privilege, may concern every row.
func IsCertain(err error) bool {
	code := sqlstate.Of(err)
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23")
}

// ConcernsEndpoint reports a refusal by a rule of outbox.endpoint.
func ConcernsEndpoint(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.TableName == "endpoint"
}

// Refusal describes a refusal by the names of the broken rule. It leaves out the message and the detail, which may contain the row.
func Refusal(err error) string {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return "no SQLSTATE"
	}
	text := "SQLSTATE " + pgErr.Code
	for _, part := range []struct{ what, name string }{
		{"table", pgErr.TableName}, {"column", pgErr.ColumnName}, {"constraint", pgErr.ConstraintName}, {"type", pgErr.DataTypeName},
	} {
		if part.name != "" {
			text += fmt.Sprintf(", %s %s", part.what, part.name)
		}
	}
	return text
}
