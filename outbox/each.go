package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/seed-abbacb8b/epilogue/internal/lane"
)

// Destination is one of several URLs of an outcome. Each gets a message of its own, with an id, a state and attempts.
type Destination struct {
	ID        ID     // made by the writer when zero
	URL       string // as Message.URL
	DedupeKey string // as Message.DedupeKey; each URL needs another one
	Fault     string // as Message.Fault
}

// DestinationsMax is how many URLs one outcome can go to.
const DestinationsMax = 100

// InsertEach writes a message to each destination, in one statement that carries the outcome once. ID, URL, DedupeKey and Fault
// of the message are ignored: each destination has its own. The errors are those of [Writer.Insert].
func (w *Writer) InsertEach(ctx context.Context, tx Tx, m Message, to []Destination) error {
	e, err := w.each(m, to)
	if err != nil {
		return err
	}
	return w.runEach(ctx, tx, e)
}

// WriteEach does what [Writer.InsertEach] does and returns a receipt for each destination, in their order. With dedupe keys it
// queries which messages were written: the transaction must have QueryRow.
func (w *Writer) WriteEach(ctx context.Context, tx Tx, m Message, to []Destination) ([]Receipt, error) {
	e, err := w.each(m, to)
	if err != nil {
		return nil, err
	}
	if err := w.runEach(ctx, tx, e); err != nil {
		return nil, err
	}
	receipts := make([]Receipt, len(to))
	for i, d := range e.destinations {
		receipts[i] = Receipt{Fate: FateWritten, ID: d.id, URL: to[i].URL}
		if d.Fault != nil {
			receipts[i].Fate, receipts[i].Reason = FateDead, *d.Fault
		}
	}
	if e.shape.once {
		err = w.findDuplicates(ctx, tx, e.destinations, receipts)
	}
	return receipts, err
}

func (w *Writer) runEach(ctx context.Context, tx Tx, e each) error {
	if err := usable(tx); err != nil {
		return fmt.Errorf("insert messages: %w", err)
	}
	if len(e.destinations) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, w.texts[e.shape], e.args...); err != nil {
		return fmt.Errorf("insert messages: %w", w.ofTransaction(err))
	}
	return nil
}

// QueueEach adds the statement of [Writer.InsertEach] to a batch, which then holds one more result; none without destinations.
func (w *Writer) QueueEach(batch *pgx.Batch, m Message, to []Destination) error {
	if batch == nil {
		return errors.New("insert messages: the batch is nil")
	}
	e, err := w.each(m, to)
	if err != nil || len(to) == 0 {
		return err
	}
	batch.Queue(w.texts[e.shape], e.args...)
	return nil
}

// each is a statement for several destinations.
type each struct {
	shape        shape
	args         []any
	destinations []destinationJSON
}

// destinationJSON is a destination as the statement takes it (insertEach).
type destinationJSON struct {
	id       ID
	ID       string  `json:"id"`
	URL      string  `json:"url"`
	Endpoint string  `json:"endpoint"`
	Lane     string  `json:"lane"`
	Key      *string `json:"key,omitempty"`
	Fault    *string `json:"fault,omitempty"`
}

func (w *Writer) each(m Message, to []Destination) (e each, err error) {
	if w == nil || w.texts == nil {
		return e, errNoWriter
	}
	if len(to) > DestinationsMax {
		return e, fmt.Errorf("insert messages: %w: %d destinations; the limit is %d", ErrInvalidOutcome, len(to), DestinationsMax)
	}
	if len(to) == 0 {
		return e, nil
	}
	if err := m.check(); err != nil {
		return e, fmt.Errorf("insert messages: %w", err)
	}
	e.shape = shape{each: true, tenant: m.Tenant != "", later: m.Options.Delay > 0}
	for i, d := range to {
		m.ID, m.URL, m.DedupeKey, m.Fault = d.ID, d.URL, d.DedupeKey, d.Fault
		if m.ID == (ID{}) {
			m.ID = NewID()
		}
		r := newRow(m, w.bytesMax)
		if i == 0 {
			a := r.args
			e.args = []any{a[1], a[2], a[3], a[4], a[5], a[6], a[9], nil}
		}
		e.destinations = append(e.destinations, r.destination(m.ID, m.Tenant))
		e.shape.once = e.shape.once || r.key != nil
	}
	text, err := json.Marshal(e.destinations)
	if err != nil {
		return each{}, fmt.Errorf("insert messages: %w", err)
	}
	e.args[7] = asciiJSON(string(text))
	if e.shape.tenant {
		e.args = append(e.args, m.Tenant)
	}
	if e.shape.later {
		e.args = append(e.args, m.Options.Delay.Milliseconds())
	}
	e.shape.encoded = encodeText(e.args, textArgsEach)
	return e, nil
}

func (r row) destination(id ID, tenant string) destinationJSON {
	url, endpoint := r.args[7].(string), r.args[8].(string)
	d := destinationJSON{id: id, ID: id.String(), URL: url, Endpoint: endpoint, Lane: lane.Of(endpoint, tenant)}
	if key, ok := r.key.(string); ok {
		d.Key = &key
	}
	if r.dead() {
		reason := r.reason()
		d.Fault = &reason
	}
	return d
}

// findDuplicates corrects the receipts of the messages that were not written.
func (w *Writer) findDuplicates(ctx context.Context, tx Tx, to []destinationJSON, receipts []Receipt) error {
	ids := make([]string, len(to))
	for i, d := range to {
		ids[i] = d.ID
	}
	var written string
	found, err := w.ask(ctx, tx, &written, `SELECT coalesce(pg_catalog.string_agg(id::pg_catalog.text, ' '), '') FROM outbox.message
WHERE id OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text::pg_catalog.uuid[])`, "{"+strings.Join(ids, ",")+"}")
	if err != nil {
		return err
	}
	if !found {
		return errors.New("insert messages: the transaction has no QueryRow, which is needed to say which of several are duplicates; use InsertEach")
	}
	for i, d := range to {
		if d.Key == nil || strings.Contains(written, d.ID) {
			continue
		}
		if receipts[i], err = w.duplicate(ctx, tx, Receipt{URL: receipts[i].URL}, *d.Key); err != nil {
			return err
		}
	}
	return nil
}
