// Package session sets the settings that our SQL needs in database sessions, whatever the database, the role or the connection
// string says.
//
// There are two ways, and which one is right depends on what stands between the program and the server:
//
//   - Directly connected, [Pin] sets them once per connection, after connecting.
//   - Behind a pooler in transaction mode, a session-level SET would leak to whoever gets the server's session next. There
//     [Pin] only uses the startup packet, for the settings that such poolers keep per client, and each transaction begins
//     with [Local]. [Transactions] does that for a whole pool.
//
// Some settings are left alone on purpose: default_transaction_read_only, by which an administrator stops all writes, for
// example on the old side of a move; synchronous_commit, role, row_security, default_tablespace and the settings that only tune
// (work_mem and the like), which belong to the operator of the database.
package session

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pooler says what stands between the program and the server.
type Pooler string

// The values of Pooler.
const (
	Auto        Pooler = "auto"        // detected on each connection (see Behind); also when empty
	None        Pooler = "none"        // nothing: the connection is a session of the server
	Session     Pooler = "session"     // a pooler in session mode, which resets a session before it gives it to another client
	Transaction Pooler = "transaction" // a pooler in transaction mode: no setting may outlive a transaction
)

// Poolers lists every value.
var Poolers = []Pooler{Auto, None, Session, Transaction}

// Setting is one of the server's parameters.
type Setting struct {
	Name, Value string
	Since       int // the first major version of Postgres that has it; 0: all that we support
}

// Settings are what all our SQL relies on. The slice is the caller's own.
//
//   - search_path: a function, operator or type that somebody planted in another schema is never found.
//   - client_encoding, bytea_output, DateStyle, IntervalStyle, TimeZone, extra_float_digits: how values are written where
//     the protocol carries text.
//   - standard_conforming_strings, array_nulls, transform_null_equals: how SQL text is read.
//   - isolation: the statements read again what they have locked; a stricter isolation would make them fail instead.
//   - plan_cache_mode: the default, so that only the hot statements set another one.
//   - client_min_messages: the reports of a migration arrive, and no debug messages.
func Settings() []Setting {
	return []Setting{
		{Name: "search_path", Value: "pg_catalog, pg_temp"},
		{Name: "client_encoding", Value: "UTF8"},
		{Name: "bytea_output", Value: "hex"},
		{Name: "DateStyle", Value: "ISO, MDY"},
		{Name: "IntervalStyle", Value: "postgres"},
		{Name: "TimeZone", Value: "UTC"},
		{Name: "extra_float_digits", Value: "1"},
		{Name: "standard_conforming_strings", Value: "on"},
		{Name: "array_nulls", Value: "on"},
		{Name: "transform_null_equals", Value: "off"},
		{Name: "default_transaction_isolation", Value: "read committed"},
		{Name: "default_transaction_deferrable", Value: "off"},
		{Name: "plan_cache_mode", Value: "auto"},
		{Name: "client_min_messages", Value: "notice"},
	}
}

// Timeouts are the bounds of the server on a session: on one statement, on a wait for a lock, on an idle transaction. 0 means
// none. All other timeouts of the server are switched off, so that none set for the role ends a session.
func Timeouts(statement, lock, idle time.Duration) []Setting {
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	return []Setting{
		{Name: "statement_timeout", Value: ms(statement)},
		{Name: "lock_timeout", Value: ms(lock)},
		{Name: "idle_in_transaction_session_timeout", Value: ms(idle)},
		{Name: "idle_session_timeout", Value: "0", Since: 14},
		{Name: "transaction_timeout", Value: "0", Since: 17},
	}
}

// perClient are the settings that PgBouncer keeps for each client and restores on the server's session that it lends: the
// only ones that may be in the startup packet of a connection through it.
var perClient = []string{"client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings"}

// Pin changes the configuration of a pool so that its sessions have [Settings] and extra, as far as the pooler allows. Of two
// settings with one name the later one counts.
//
// AfterConnect of the configuration still runs, before ours, and so does BeforeConnect, which may fetch a password. Hooks that
// run when a connection is taken or given back are removed: an application uses them to set its sessions, and ours would lose
// their settings.
func Pin(config *pgxpool.Config, pooler Pooler, extra ...Setting) {
	settings := merged(extra)
	for _, s := range settings {
		if slices.Contains(perClient, s.Name) {
			setRuntimeParam(config.ConnConfig.RuntimeParams, s)
		}
	}
	//lint:ignore SA1019 a caller may still use the deprecated hook
	config.BeforeAcquire = nil
	config.PrepareConn, config.AfterRelease = nil, nil
	theirs := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if theirs != nil {
			if err := theirs(ctx, conn); err != nil {
				return err
			}
		}
		pooled := pooler == Transaction
		if pooler == Auto || pooler == "" {
			var err error
			if pooled, err = Behind(ctx, conn); err != nil {
				return err
			}
		}
		if pooled {
			return nil
		}
		return set(ctx, conn, settings)
	}
}

// setRuntimeParam replaces a parameter in whatever case the connection string wrote it.
func setRuntimeParam(params map[string]string, s Setting) {
	for name := range params {
		if strings.EqualFold(name, s.Name) {
			delete(params, name)
		}
	}
	params[s.Name] = s.Value
}

func merged(extra []Setting) []Setting {
	settings := Settings()
	for _, s := range extra {
		settings = slices.DeleteFunc(settings, func(t Setting) bool { return strings.EqualFold(s.Name, t.Name) })
		settings = append(settings, s)
	}
	return settings
}

// set sends all settings in one round trip, as text that is read in the same way under every setting.
func set(ctx context.Context, conn *pgx.Conn, settings []Setting) error {
	major := serverMajor(conn)
	settings = slices.DeleteFunc(slices.Clone(settings), func(s Setting) bool { return s.Since > major })
	if _, err := conn.PgConn().Exec(ctx, setConfig(settings, false)).ReadAll(); err != nil {
		return fmt.Errorf("setting up the session: %w", err)
	}
	return nil
}

func serverMajor(conn *pgx.Conn) int {
	text := conn.PgConn().ParameterStatus("server_version") // "15.4 (Debian 15.4-1)", "17beta1"
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(text)
	}
	major, err := strconv.Atoi(text[:end])
	if err != nil {
		return 0 // unknown: use no setting of a newer version than we support
	}
	return major
}

func setConfig(settings []Setting, local bool) string {
	parts := make([]string, len(settings))
	for i, s := range settings {
		parts[i] = fmt.Sprintf("pg_catalog.set_config(%s, %s, %t)", quoted(s.Name), quoted(s.Value), local)
	}
	return "SELECT " + strings.Join(parts, ", ")
}

// quoted writes a literal. Names and values come from this program: one that some setting would read differently is a bug.
func quoted(text string) string {
	if strings.ContainsAny(text, `'\`) {
		panic(fmt.Sprintf("session: %q needs more quoting than a setting may", text))
	}
	return "'" + text + "'"
}

// Local is a statement that gives [Settings] and extra to the transaction it runs in, and to nothing after it. It has no
// arguments and returns one row.
//
// A transaction's isolation is fixed before its first query, so this cannot set it: see [BeginQuery]. Settings of newer
// servers (Since) are left out.
func Local(extra ...Setting) string {
	settings := slices.DeleteFunc(merged(extra), func(s Setting) bool {
		return s.Since > 0 || strings.HasPrefix(s.Name, "default_transaction_")
	})
	return setConfig(settings, true)
}

// BeginQuery begins a read committed transaction with [Local] settings, in one round trip: for pgx.TxOptions. Between two
// round trips, a role's idle_in_transaction_session_timeout could end the transaction before it has ours.
func BeginQuery(extra ...Setting) string {
	return "BEGIN ISOLATION LEVEL READ COMMITTED; " + Local(extra...)
}

// Begin starts a transaction with [BeginQuery].
func Begin(ctx context.Context, db interface {
	BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
}, extra ...Setting,
) (pgx.Tx, error) {
	return db.BeginTx(ctx, pgx.TxOptions{BeginQuery: BeginQuery(extra...)})
}

// Behind reports whether a pooler is between the connection and the server: then the process of the server is another one than
// the cancel key names, because the pooler made that up. It cannot distinguish the modes of a pooler.
func Behind(ctx context.Context, conn *pgx.Conn) (bool, error) {
	results, err := conn.PgConn().Exec(ctx, "SELECT pg_catalog.pg_backend_pid()").ReadAll()
	if err != nil {
		return false, fmt.Errorf("asking for the server's process: %w", err)
	}
	pid := string(results[0].Rows[0][0])
	return pid != strconv.FormatUint(uint64(conn.PgConn().PID()), 10), nil
}

// Pooled reports whether settings may not outlive a transaction on this pool: always for Transaction, never for None and
// Session, and by asking a connection for Auto.
func Pooled(ctx context.Context, pool *pgxpool.Pool, pooler Pooler) (bool, error) {
	switch pooler {
	case Transaction:
		return true, nil
	case None, Session:
		return false, nil
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	return Behind(ctx, conn.Conn())
}
