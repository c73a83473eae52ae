package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed-abbacb8b/epilogue/internal/nilcheck"
)

// Tx is the transaction that acknowledges the step. A pgx.Tx is one; [SQLTx] makes one of a *sql.Tx, and [ExecTx] of the
// transaction of an ORM. A pool or a connection has no Commit and does not compile: an outcome written outside the transaction
// would not be atomic with the acknowledgement.
//
// This package calls Exec. To find the message that another one duplicates ([Writer.Write]), it also uses QueryRow, if
// the transaction has it. The caller commits and rolls back.
type Tx interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

var _ Tx = pgx.Tx(nil)

// SQLTx makes a Tx of a database/sql transaction, with pgx's stdlib driver as well as with lib/pq: every argument that this
// package passes is a string, an int64, a []byte or NULL, cast in SQL.
//
// Commit and Rollback ignore their context, because those of *sql.Tx take none; after the transaction's end they return
// pgx.ErrTxClosed, as pgx does.
func SQLTx(tx *sql.Tx) Tx { return sqlTx{tx} }

type sqlTx struct{ tx *sql.Tx }

func (t sqlTx) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	if t.tx == nil {
		return pgconn.CommandTag{}, errNilSQLTx
	}
	result, err := t.tx.ExecContext(ctx, query, args...)
	return tagOf(result, err)
}

// QueryRow is for the queries of [Writer.Write].
func (t sqlTx) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	return t.tx.QueryRowContext(ctx, query, args...)
}

func (t sqlTx) Commit(context.Context) error {
	if t.tx == nil {
		return errNilSQLTx
	}
	return closed(t.tx.Commit())
}

func (t sqlTx) Rollback(context.Context) error {
	if t.tx == nil {
		return errNilSQLTx
	}
	return closed(t.tx.Rollback())
}

func closed(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return pgx.ErrTxClosed
	}
	return err
}

// ExecContexter is the method that the transactions of GORM, ent, sqlx and most other libraries over database/sql share.
type ExecContexter interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// ExecTx makes a Tx of a transaction that has ExecContext:
//
//	GORM   outbox.ExecTx(tx.Statement.ConnPool)   in db.Transaction, with PrepareStmt too
//	ent    outbox.ExecTx(tx)                      generated with --feature sql/execquery
//	sqlx   outbox.SQLTx(tx.Tx)                    or ExecTx(tx)
//	bun    outbox.SQLTx(tx.Tx)                    not ExecTx: bun writes arguments into the text, and knows only ?
//
// It must be the transaction of the acknowledgement. A value that can begin a transaction and cannot commit one, such as
// *sql.DB, the pool of *gorm.DB, *sqlx.DB, *bun.DB or the client of ent, is refused with [ErrTransaction] at the first write.
//
// The library that began the transaction ends it: Commit and Rollback return an error.
func ExecTx(tx ExecContexter) Tx { return execTx{tx} }

type execTx struct{ tx ExecContexter }

// errNotOurs is the error of ending a transaction of ExecTx.
var errNotOurs = errors.New("end this transaction with the library that began it")

func (t execTx) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	if err := t.fault(); err != nil {
		return pgconn.CommandTag{}, err
	}
	result, err := t.tx.ExecContext(ctx, query, args...)
	return tagOf(result, err)
}

// QueryRow is for the queries of [Writer.Write], where the transaction has it.
func (t execTx) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	if asks, ok := t.tx.(interface {
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}); ok {
		return asks.QueryRowContext(ctx, query, args...)
	}
	asks, ok := t.tx.(interface {
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	})
	if !ok {
		return rowError{errCannotAsk}
	}
	rows, err := asks.QueryContext(ctx, query, args...)
	if err != nil {
		return rowError{err}
	}
	return firstRow{rows}
}

func (t execTx) Commit(context.Context) error   { return errNotOurs }
func (t execTx) Rollback(context.Context) error { return errNotOurs }

func (t execTx) fault() error {
	if nilcheck.Is(t.tx) {
		return fmt.Errorf("%w: ExecTx was given nil", ErrTransaction)
	}
	kind := reflect.TypeOf(t.tx)
	_, begins := kind.MethodByName("BeginTx")
	_, commits := kind.MethodByName("Commit")
	if begins && !commits {
		return fmt.Errorf("%w: ExecTx was given a %T, which is no transaction; begin one", ErrTransaction, t.tx)
	}
	return nil
}

// errCannotAsk is the error of a transaction that can only execute.
var errCannotAsk = errors.New("the transaction has no QueryRow")

type rowError struct{ err error }

func (r rowError) Scan(...any) error { return r.err }

// firstRow is the first of some rows.
type firstRow struct{ rows *sql.Rows }

func (r firstRow) Scan(dest ...any) error {
	defer func() { _ = r.rows.Close() }()
	if !r.rows.Next() {
		return errors.Join(r.rows.Err(), sql.ErrNoRows)
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	return r.rows.Close()
}

func tagOf(result sql.Result, err error) (pgconn.CommandTag, error) {
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	n, err := result.RowsAffected()
	return pgconn.NewCommandTag("INSERT 0 " + strconv.FormatInt(n, 10)), err
}

var (
	errNilTx    = fmt.Errorf("%w: it is nil; begin one, acknowledge the step in it, and pass it on", ErrTransaction)
	errNilSQLTx = fmt.Errorf("%w: SQLTx was given nil; did BeginTx fail?", ErrTransaction)
)

// usable reports a transaction that cannot be used. Without it, the call would panic in the middle of the work of a service.
func usable(tx Tx) error {
	if nilcheck.Is(tx) {
		return errNilTx
	}
	return nil
}
