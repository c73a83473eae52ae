package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/compare"
)

// evidence is what is in the database in the end.
type evidence struct {
	outcomes   []compare.Outcome // of the service's own tables
	messages   []compare.Message // of the outbox
	statuses   map[string]int    // outcomes per status
	rolledBack map[string]bool   // attempts that must not have left a trace
	unended    int               // runs
	dead       int               // messages
}

func (d *demo) evidence(ctx context.Context) (evidence, error) {
	e := evidence{statuses: map[string]int{}, rolledBack: map[string]bool{}}
	err := e.read(ctx, d.database)
	if err != nil {
		return e, fmt.Errorf("read the evidence: %w", err)
	}
	for _, o := range e.outcomes {
		e.statuses[o.Status]++
	}
	return e, nil
}

func (e *evidence) read(ctx context.Context, db database) (err error) {
	rows, _ := db.pool.Query(ctx, db.in(`SELECT id, attempt, status, sha256(coalesce(result, convert_to(error, 'UTF8'))), ended_at
FROM demo.run WHERE status IS NOT NULL ORDER BY number`))
	e.outcomes, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (o compare.Outcome, err error) {
		var hash []byte
		err = row.Scan(&o.RunID, &o.Attempt, &o.Status, &hash, &o.At)
		copy(o.Body[:], hash)
		return o, err
	})
	if err != nil {
		return err
	}
	rows, _ = db.pool.Query(ctx, db.in(`SELECT id::text, run_id, coalesce(headers->>$1, ''), status FROM outbox.message`),
		compare.AttemptHeader)
	if e.messages, err = pgx.CollectRows(rows, pgx.RowToStructByPos[compare.Message]); err != nil {
		return err
	}
	rows, _ = db.pool.Query(ctx, db.in(`SELECT attempt FROM demo.rolled_back`))
	attempts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, attempt := range attempts {
		e.rolledBack[attempt] = true
	}
	return db.pool.QueryRow(ctx, db.in(`SELECT (SELECT count(*) FROM demo.run WHERE status IS NULL),
(SELECT count(*) FROM outbox.dead)`)).Scan(&e.unended, &e.dead)
}
