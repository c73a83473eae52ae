package outboxtest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// Box is an outbox that a test looks into.
type Box struct {
	t      testing.TB
	schema string
}

// In returns the outbox in a schema, outbox.DefaultSchema when empty.
func In(t testing.TB, schema string) *Box {
	t.Helper()
	if schema == "" {
		schema = outbox.DefaultSchema
	}
	if err := outbox.CheckSchema(schema); err != nil {
		t.Fatalf("outboxtest: %v", err)
	}
	return &Box{t: t, schema: schema}
}

func (b *Box) in(sql string) string { return sqlschema.In(sql, b.schema) }

// RequireWritten ends the test unless this open transaction wrote exactly one message of the run in want, and the message
// matches want. Result, Error, Headers and FinalStep are compared where want has them; further headers are allowed. It returns
// the message. The transaction is one of pgx, or outbox.SQLTx(tx).
//
// Before it ends the test, it rolls the transaction back, because the cleanup that closes the pool would wait for its
// connection.
func (b *Box) RequireWritten(tx outbox.Tx, want outbox.RunOutcome) operator.MessageDetail {
	b.t.Helper()
	written, err := b.written(tx, want.RunID)
	switch {
	case err != nil:
		b.fail(tx, "%v", err)
	case len(written) == 0:
		b.fail(tx, "this transaction wrote no outcome of run %q", want.RunID)
	case len(written) > 1:
		b.fail(tx, "this transaction wrote %d outcomes of run %q, want one", len(written), want.RunID)
	}
	if faults := differences(written[0], want); len(faults) > 0 {
		b.fail(tx, "the outcome of run %q: %s", want.RunID, strings.Join(faults, "; "))
	}
	return written[0]
}

// RequireNotWritten ends the test if this open transaction wrote a message of the run. Messages that were committed before do
// not count. It rolls back as [Box.RequireWritten] does.
func (b *Box) RequireNotWritten(tx outbox.Tx, runID string) {
	b.t.Helper()
	written, err := b.written(tx, runID)
	if err != nil {
		b.fail(tx, "%v", err)
	}
	for _, m := range written {
		b.fail(tx, "this transaction wrote an outcome of run %q: %s, message %s", runID, m.Status, m.ID)
	}
}

// RequireMessages ends the test unless the run has n messages that are committed, and returns them, the oldest first. The
// database is a pool, or outbox.SQLDB(db).
func (b *Box) RequireMessages(db outbox.RowQuerier, runID string, n int) []outbox.RunMessage {
	b.t.Helper()
	all := b.messages(db, runID)
	if len(all) != n {
		b.t.Fatalf("outboxtest: run %q has %d messages that are committed, want %d%s", runID, len(all), n, said(all))
	}
	return all
}

// RequireDelivered ends the test unless the run has messages and all of them are delivered, and returns them. Call
// [Box.Drain] before.
func (b *Box) RequireDelivered(db outbox.RowQuerier, runID string) []outbox.RunMessage {
	b.t.Helper()
	all := b.messages(db, runID)
	if len(all) == 0 {
		b.t.Fatalf("outboxtest: run %q has no message that is committed", runID)
	}
	for _, m := range all {
		if m.State != outbox.StateDelivered {
			b.t.Fatalf("outboxtest: not all of run %q is delivered%s", runID, said(all))
		}
	}
	return all
}

func (b *Box) messages(db outbox.RowQuerier, runID string) []outbox.RunMessage {
	b.t.Helper()
	runs, err := outbox.NewRuns(db, b.schema)
	if err != nil {
		b.t.Fatalf("outboxtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), askMax)
	defer cancel()
	all, err := runs.Messages(ctx, runID)
	if err != nil {
		b.t.Fatalf("outboxtest: %v", err)
	}
	return all
}

// said lists messages for the text of a failure.
func said(all []outbox.RunMessage) string {
	var text strings.Builder
	for _, m := range all {
		fmt.Fprintf(&text, "\n\t%s to %s is %s after %d attempts", m.ID, m.URL, m.State, m.Attempts)
		for _, why := range []*string{m.LastError, m.WaitsFor, m.DeadError} {
			if why != nil {
				fmt.Fprintf(&text, "; %s", *why)
			}
		}
	}
	return text.String()
}

// askMax bounds a query, so that a test fails with a reason rather than hang.
const askMax = 30 * time.Second

// fail gives the transaction's connection back and ends the test. A transaction that the test holds by [outbox.ExecTx] is its
// library's to roll back.
func (b *Box) fail(tx outbox.Tx, format string, args ...any) {
	b.t.Helper()
	if tx != nil {
		ctx, cancel := context.WithTimeout(context.Background(), askMax)
		_ = tx.Rollback(ctx)
		cancel()
	}
	b.t.Fatalf("outboxtest: "+format, args...)
}

// written finds the messages of a run that no other transaction can see yet: a row that we see, of a transaction that is in
// progress and not older than ours, is our own, savepoints included. xmin is the low half of the number of that transaction.
// They come as one JSON text, which every driver can read.
const written = `SELECT convert_to(coalesce(jsonb_agg(to_jsonb(s) || jsonb_build_object(
    'result', encode(m.result, 'base64'), 'error', m.error, 'headers', m.headers, 'final_step', m.final_step, 'options', m.options,
    'dedupe_key', m.dedupe_key) ORDER BY m.id), '[]')::text, 'UTF8')
FROM outbox.message m JOIN outbox.status s ON s.id = m.id,
LATERAL (SELECT pg_current_xact_id()::text::bigint AS own) x,
LATERAL (SELECT x.own + (m.xmin::text::bigint - x.own % 4294967296) AS number) n
WHERE m.run_id = $1::text AND CASE WHEN n.number < x.own THEN false
    ELSE pg_xact_status(n.number::text::xid8) = 'in progress' END`

func (b *Box) written(tx outbox.Tx, runID string) (all []operator.MessageDetail, err error) {
	asks, ok := tx.(outbox.RowQuerier)
	if !ok {
		return nil, fmt.Errorf("a %T cannot be asked: it has no QueryRow", tx)
	}
	ctx, cancel := context.WithTimeout(context.Background(), askMax) // the test's own may have ended with what it tests
	defer cancel()
	var text []byte
	if err := asks.QueryRow(ctx, b.in(written), runID).Scan(&text); err != nil {
		return nil, err
	}
	err = json.Unmarshal(text, &all)
	return all, err
}

func differences(got operator.MessageDetail, want outbox.RunOutcome) (faults []string) {
	differs := func(what string, got, want any) {
		faults = append(faults, fmt.Sprintf("%s is %.200q, want %.200q", what, fmt.Sprint(got), fmt.Sprint(want)))
	}
	text := ""
	if got.Error != nil {
		text = *got.Error
	}
	if got.Status != want.Status {
		differs("Status", got.Status, want.Status)
	}
	if want.Result != nil && string(got.Result) != string(want.Result) {
		differs("Result", string(got.Result), string(want.Result))
	}
	if want.Error != "" && text != want.Error {
		differs("Error", text, want.Error)
	}
	if want.FinalStep != 0 && got.FinalStep != want.FinalStep {
		differs("FinalStep", got.FinalStep, want.FinalStep)
	}
	for key, value := range want.Headers {
		if got.Headers[key] != value {
			differs("header "+key, got.Headers[key], value)
		}
	}
	return faults
}
