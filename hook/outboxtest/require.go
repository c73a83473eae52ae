package outboxtest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/outbox"
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

func (b *Box) in(sql string) string { return strings.ReplaceAll(sql, "outbox.", b.schema+".") }

// RequireWritten ends the test unless this transaction, which is still open, wrote exactly one message of the outcome's
// run, and that message says what want says. Result, Error, Headers and FinalStep are compared where want has them;
// headers beyond those are allowed. It returns the message.
func (b *Box) RequireWritten(tx pgx.Tx, want outbox.RunOutcome) outbox.MessageDetail {
	b.t.Helper()
	written, err := b.written(tx, want.RunID)
	switch {
	case err != nil:
		b.t.Fatalf("outboxtest: %v", err)
	case len(written) == 0:
		b.t.Fatalf("outboxtest: this transaction wrote no outcome of run %q", want.RunID)
	case len(written) > 1:
		b.t.Fatalf("outboxtest: this transaction wrote %d outcomes of run %q, want one", len(written), want.RunID)
	}
	if faults := differences(written[0], want); len(faults) > 0 {
		b.t.Fatalf("outboxtest: the outcome of run %q: %s", want.RunID, strings.Join(faults, "; "))
	}
	return written[0]
}

// RequireNotWritten ends the test if this transaction, which is still open, wrote a message of the run. Messages that
// were committed before do not count.
func (b *Box) RequireNotWritten(tx pgx.Tx, runID string) {
	b.t.Helper()
	written, err := b.written(tx, runID)
	if err != nil {
		b.t.Fatalf("outboxtest: %v", err)
	}
	for _, m := range written {
		b.t.Fatalf("outboxtest: this transaction wrote an outcome of run %q: %s, message %s", runID, m.Status, m.ID)
	}
}

// written finds a run's messages that no other transaction can see yet: a row that we see, of a transaction that is not
// older than ours and under way, is our own, savepoints included. xmin is the low half of that transaction's number.
const written = `SELECT m.id FROM outbox.message m,
LATERAL (SELECT pg_current_xact_id()::text::bigint AS own) x,
LATERAL (SELECT x.own + (m.xmin::text::bigint - x.own % 4294967296) AS number) n
WHERE m.run_id = $1 AND CASE WHEN n.number < x.own THEN false
    ELSE pg_xact_status(n.number::text::xid8) = 'in progress' END
ORDER BY m.id`

func (b *Box) written(tx pgx.Tx, runID string) (all []outbox.MessageDetail, err error) {
	ctx := context.Background() // the test's own may have ended with what it tests
	found, err := tx.Query(ctx, b.in(written), runID)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(found, pgx.RowTo[outbox.ID])
	if err != nil {
		return nil, err
	}
	store, err := outbox.NewStore(tx, b.schema)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		m, err := store.Show(ctx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

func differences(got outbox.MessageDetail, want outbox.RunOutcome) (faults []string) {
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
