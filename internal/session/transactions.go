package session

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB replaces a pool in a program that may not set up its sessions: it runs each call in a transaction of its own that begins
// with [Local]. It is an outbox.DB.
type DB struct {
	pool  *pgxpool.Pool
	extra []Setting
}

// Transactions returns a DB over a pool.
func Transactions(pool *pgxpool.Pool, extra ...Setting) DB { return DB{pool, extra} }

// Begin starts a transaction with our settings.
func (d DB) Begin(ctx context.Context) (pgx.Tx, error) { return Begin(ctx, d.pool, d.extra...) }

// Exec runs one statement and commits.
func (d DB) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	tx, err := d.Begin(ctx)
	if err != nil {
		return tag, err
	}
	tag, err = tx.Exec(ctx, sql, args...)
	return tag, end(ctx, tx, err)
}

// Query runs one statement; the transaction ends when the rows are closed.
func (d DB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	tx, err := d.Begin(ctx)
	if err != nil {
		return nil, err
	}
	r, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, end(ctx, tx, err)
	}
	return &rows{Rows: r, ctx: ctx, tx: tx}, nil
}

// QueryRow runs one statement; Scan ends the transaction.
func (d DB) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return row{ctx, d, sql, args}
}

type rows struct {
	pgx.Rows
	ctx    context.Context
	tx     pgx.Tx
	closed bool
	err    error
}

func (r *rows) Close() {
	r.Rows.Close()
	if !r.closed {
		r.closed = true
		r.err = end(r.ctx, r.tx, r.Rows.Err())
	}
}

// Next closes the rows after the last one, as pgx's own do.
func (r *rows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *rows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

type row struct {
	ctx  context.Context
	db   DB
	sql  string
	args []any
}

func (r row) Scan(to ...any) error {
	tx, err := r.db.Begin(r.ctx)
	if err != nil {
		return err
	}
	return end(r.ctx, tx, tx.QueryRow(r.ctx, r.sql, r.args...).Scan(to...))
}

// end commits, or rolls back for an error, which it returns.
func end(ctx context.Context, tx pgx.Tx, err error) error {
	if err != nil {
		_ = tx.Rollback(context.WithoutCancel(ctx))
		return err
	}
	return tx.Commit(ctx)
}
