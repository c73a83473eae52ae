package outbox

import (
	"context"
	"database/sql"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Tx is the transaction that acknowledges the step. A pgx.Tx is one as it is; [SQLTx] makes one of a *sql.Tx. A pool or
// a connection has no Commit and does not compile: an outcome written outside a transaction would be atomic with
// nothing.
//
// This package only ever calls Exec. The caller commits and rolls back.
type Tx interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

var _ Tx = pgx.Tx(nil)

// SQLTx makes a Tx of a database/sql transaction, of pgx's stdlib driver and of lib/pq alike: every argument this
// package passes is a string, an int64, a []byte or NULL, cast in SQL.
//
// Commit and Rollback ignore their context, for *sql.Tx takes none; after the transaction's end they return
// pgx.ErrTxClosed, as pgx does.
func SQLTx(tx *sql.Tx) Tx { return sqlTx{tx} }

type sqlTx struct{ tx *sql.Tx }

func (t sqlTx) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	result, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	n, err := result.RowsAffected()
	return pgconn.NewCommandTag("INSERT 0 " + strconv.FormatInt(n, 10)), err
}

func (t sqlTx) Commit(context.Context) error   { return closed(t.tx.Commit()) }
func (t sqlTx) Rollback(context.Context) error { return closed(t.tx.Rollback()) }

func closed(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return pgx.ErrTxClosed
	}
	return err
}
