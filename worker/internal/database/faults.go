package database

import (
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// The SQLSTATEs that this package distinguishes.
const (
	readOnlyTransaction = "25006"
	tooManyConnections  = "53300" // max_connections, its reserved part, the limit of a role or a database
	undefinedTable      = "42P01"
	undefinedFunction   = "42883"
	invalidSchemaName   = "3F000"
	featureNotSupported = "0A000"
)

// sessionEnded are errors that mean that the session has ended, or that its state is wrong.
var sessionEnded = map[string]bool{
	readOnlyTransaction: true, // it was opened on a standby, or while the database was read-only
	"57P01":             true, // admin_shutdown, pg_terminate_backend
	"57P02":             true, // crash_shutdown
	"57P03":             true, // cannot_connect_now, as a pooler passes it on
	"57P04":             true, // database_dropped
	"57P05":             true, // idle_session_timeout
	"25P03":             true, // idle_in_transaction_session_timeout
	"25P04":             true, // transaction_timeout
	"08000":             true, // connection_exception, and its class
	"08003":             true,
	"08006":             true,
	"08P01":             true, // protocol_violation; PgBouncer's, for a server that it lost
	"26000":             true, // a prepared statement that is missing, after DISCARD ALL
	"42P05":             true, // a prepared statement that exists already
	"XX000":             true, // internal_error, for example for a type that was made again ("cache lookup failed")
}

// ofSession reports an error that a new session may not have: its session has ended or lost its server, or the server
// has changed meanwhile.
func ofSession(err error) bool {
	var connecting *pgconn.ConnectError
	if errors.As(err, &connecting) { // no session of ours; but when servers are read-only, old sessions are no better
		return errors.Is(err, pgconn.ErrReadOnlyConnection)
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		// The same code has other meanings. Where the error was found shows that it is a cached plan that no longer fits.
		stale := server.Code == featureNotSupported && server.Routine == "RevalidateCachedQuery"
		return stale || sessionEnded[server.Code] || server.SeverityUnlocalized == "FATAL"
	}
	var network net.Error // also a deadline that passed
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}
