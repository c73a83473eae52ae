package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/migrations"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// Exit statuses, as exitHelp explains them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitNotMigrated = 4
)

const exitHelp = `Exit status:
  0  done
  1  failed: the database cannot be reached, or refused; an operation was not possible
  2  wrong usage or configuration: nothing was tried
  3  what was named is not there
  4  the schema is not migrated, or no longer works with this version; or the database is not of the encoding UTF8
check alone: 10 warning, 11 critical`

// usageError is a fault of the command line.
type usageError struct {
	text string
	help string // the command whose help to read
}

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{text: fmt.Sprintf(format, args...)} }

// errNothing is in errors about a thing that does not exist; operator.ErrNotFound is the same for messages.
var errNothing = errors.New("nothing to do")

// errReported carries an exit status only: everything has been printed.
type errReported struct{ status int }

func (e errReported) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// report prints an error, once, and returns the exit status.
func (p *program) report(ctx context.Context, err error) int {
	var reported errReported
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &reported):
		return reported.status
	}
	lines := strings.Split(strings.TrimSpace(withoutKeys(explain(ctx, err))), "\n")
	fmt.Fprintf(p.stderr, "outbox-worker: %s\n", strings.Join(lines, "\n  "))
	return exitStatus(err)
}

func exitStatus(err error) int {
	var usage usageError
	var faults faultsError
	switch {
	case errors.As(err, &usage), errors.As(err, &faults), errors.Is(err, outbox.ErrInvalidID):
		return exitUsage
	case errors.Is(err, operator.ErrNotFound), errors.Is(err, errNothing):
		return exitNotFound
	case errors.Is(err, migrations.ErrNotMigrated), errors.Is(err, migrations.ErrNewer), errors.Is(err, migrations.ErrEncoding):
		return exitNotMigrated
	}
	return exitFailed
}

// explain says what went wrong and, where it knows, what to do.
func explain(ctx context.Context, err error) string {
	var usage usageError
	var connect *pgconn.ConnectError
	var server *pgconn.PgError
	switch {
	case errors.As(err, &usage) && usage.help != "":
		return fmt.Sprintf("%s\nsee '%s --help'", usage.text, usage.help)
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ctx.Err())):
		return fmt.Sprintf("interrupted: %v", context.Cause(ctx))
	case errors.Is(err, operator.ErrNoURL):
		return err.Error() + " with --url"
	case errors.Is(err, pgconn.ErrReadOnlyConnection), errors.As(err, &server) && server.Code == readOnlyTransaction:
		return oneLine(err.Error()) + "; the server is read-only: it is a standby, or default_transaction_read_only is set; name the primary in OUTBOX_DATABASE_URL (host=a,b and target_session_attrs=read-write find it)"
	case errors.As(err, &server) && server.Code == tooManyConnections:
		return "the database has no connection left: " + oneLine(err.Error()) + "; raise max_connections, or the CONNECTION LIMIT of the role or database, or lower pool_max_conns of those that use it"
	case errors.As(err, &server) && slices.Contains(missing, server.Code):
		return err.Error() + "; the schema lacks tables of the outbox: run 'outbox-worker migrate up', or name the schema that was migrated (OUTBOX_SCHEMA, --schema)"
	case errors.As(err, &connect) && errors.As(err, &server):
		return "the database refused the connection: " + oneLine(connect.Error()) + "; check OUTBOX_DATABASE_URL"
	case errors.As(err, &connect):
		return "the database cannot be reached: " + oneLine(connect.Error()) + "; check that it is up, and OUTBOX_DATABASE_URL"
	case errors.As(err, &server) && server.Code == lockNotAvailable:
		return err.Error() + "; another transaction holds the lock for longer than a command waits: end it (pg_locks names it), and try again"
	}
	return err.Error()
}

// SQLSTATEs for which we know what to do.
const (
	lockNotAvailable    = "55P03"
	readOnlyTransaction = "25006"
	tooManyConnections  = "53300"
)

// missing are the codes of a missing table, function and schema.
var missing = []string{"42P01", "42883", "3F000"}

// oneLine joins the lines of pgx's connection errors: one per address that was tried, and again without TLS.
func oneLine(text string) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\t' })
	return strings.Replace(strings.Join(slices.Compact(lines), "; "), ":; ", ": ", 1)
}
