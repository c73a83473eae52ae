package main

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// The checker reads the tables with plain SQL of its own, and with none of the product's.
const (
	selectAcks = `SELECT run_id, writer, status, url, headers ->> '` + forwardedHeader + `', body_sha FROM chaos.ack`

	selectMessages = `SELECT m.id::text, m.run_id,
       coalesce(m.status = a.status AND m.url = a.url AND m.headers = a.headers
                AND sha256(coalesce(m.result, convert_to(m.error, 'UTF8'), '')) = a.body_sha, false),
       d.message_id IS NOT NULL, coalesce(x.reason, ''),
       (SELECT count(*) FROM outbox.attempt t WHERE t.message_id = m.id)
FROM outbox.message m
LEFT JOIN chaos.ack a ON a.run_id = m.run_id
LEFT JOIN outbox.due d ON d.message_id = m.id
LEFT JOIN outbox.dead x ON x.message_id = m.id`
)

// readLedger returns what was committed, and what the outbox has.
func (s *stage) readLedger(ctx context.Context) (acks []committed, messages []message, err error) {
	tx, err := s.admin.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = '10min'"); err != nil {
		return nil, nil, err
	}
	rows, err := tx.Query(ctx, selectAcks)
	if err != nil {
		return nil, nil, err
	}
	acks, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a committed, err error) {
		var sum []byte
		var url string
		err = row.Scan(&a.run, &a.writer, &a.status, &url, &a.forwarded, &sum)
		copy(a.bodySum[:], sum)
		a.origin = strings.TrimSuffix(url, hookPath)
		return a, err
	})
	if err != nil {
		return nil, nil, err
	}
	if rows, err = tx.Query(ctx, selectMessages); err != nil {
		return nil, nil, err
	}
	messages, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m message, err error) {
		return m, row.Scan(&m.id, &m.run, &m.same, &m.due, &m.deadReason, &m.attempts)
	})
	return acks, messages, err
}

// history returns what the outbox has of a message, as evidence.
func (s *stage) history(id string) (text string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	rows, err := s.admin.Query(ctx, `SELECT format('attempt %s at %s: %s, by %s', attempt, started_at::time(3), class, worker) FROM outbox.attempt WHERE message_id::text = $1
UNION ALL SELECT format('due at %s: attempt %s, under a lease of %s until %s', due_at::time(3), attempt, locked_by, locked_until::time(3)) FROM outbox.due WHERE message_id::text = $1
UNION ALL SELECT format('dead at %s: %s, %s', at::time(3), reason, error) FROM outbox.dead WHERE message_id::text = $1`, id)
	if err != nil {
		return "\n      " + err.Error()
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, line := range lines {
		text += "\n      " + line
	}
	if err != nil {
		text += "\n      " + err.Error()
	}
	return text
}
