package postgres

import (
	"errors"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// taken is the answer to a claim.
type taken struct {
	messages   []Message
	recent     []written
	bounds     []bound
	orphans    []outbox.ID  // rows of due whose message is gone
	unreadable []unreadable // rows that do not fit into a Message
	unfit      []Message    // those that must not be sent
	unserved   []Candidate  // turns that were not served, because narrowing down a refusal took too long
	whole      bool         // the recent messages were read
}

// rows is how many rows of due the claim leased.
func (t *taken) rows() int {
	return len(t.messages) + len(t.orphans) + len(t.unreadable) + len(t.unfit)
}

// unreadable is a row that was claimed and does not fit into a Message.
type unreadable struct {
	id     outbox.ID
	column string // the one that does not fit
}

// The columns of the claim's answer that say what kind of row it is.
const (
	columnID        = 0  // NULL for a recent endpoint
	columnBodyBytes = 11 // NULL for a row of due whose message is gone, and for what bounds a lane
)

// readClaim reads the answer. A row that does not fit is reported by its id, and the others are read: the claim is committed
// by then, so an error would cost each of its messages an attempt.
func readClaim(results pgx.BatchResults) (t taken, err error) {
	rows, err := results.Query()
	if err != nil {
		return t, err
	}
	defer rows.Close()
	read := rowReader{types: rows.Conn().TypeMap(), fields: rows.FieldDescriptions()}
	for rows.Next() {
		t.add(&read, rows.RawValues())
	}
	t.bind()
	t.whole = true
	return t, rows.Err()
}

// add reads one row. One without a readable id cannot be reported: its lease ends, and it is claimed again.
func (t *taken) add(read *rowReader, row [][]byte) {
	if row[columnID] == nil && row[columnBodyBytes] == nil {
		var b bound
		if read.into(row, nil, &b.endpoint, nil, nil, nil, &b.maxInFlight, &b.originMax, &b.rate, &b.probe) == nil {
			t.bounds = append(t.bounds, b)
		}
		return
	}
	if row[columnID] == nil {
		w, floor := written{}, ""
		err := read.into(row, nil, &w.Endpoint, &w.Since, &w.messages, nil, nil, nil, nil, nil, &floor)
		if err == nil {
			w.floor, err = outbox.ParseID(floor)
		}
		if err == nil {
			t.recent = append(t.recent, w)
		}
		return
	}
	var m Message
	var ageMS int64
	if row[columnBodyBytes] == nil {
		if read.into(row, &m.ID) == nil {
			t.orphans = append(t.orphans, m.ID)
		}
		return
	}
	err := read.into(row, &m.ID, &m.Endpoint, &m.DueFrom, &m.Attempt, &m.AttemptsBefore, nil, nil, nil, nil,
		&m.RunID, &m.Status, &m.BodyBytes, &m.Body, &m.URL, &m.Headers, &m.Options, &m.Unfit, &ageMS)
	m.Age = time.Duration(ageMS) * time.Millisecond
	if err == nil && m.Unfit != "" {
		t.unfit = append(t.unfit, m)
		return
	}
	if err == nil {
		t.messages = append(t.messages, m)
		return
	}
	var at pgx.ScanArgError
	if errors.As(err, &at) && at.ColumnIndex != columnID {
		t.unreadable = append(t.unreadable, unreadable{id: m.ID, column: at.FieldName})
	}
}

// bound has the limits of a lane: the operators', and a circuit breaker that is half-open.
type bound struct {
	endpoint               string
	maxInFlight, originMax int
	rate                   float64
	probe                  bool
}

// bind gives each message the limits of its lane.
func (t *taken) bind() {
	if len(t.bounds) == 0 {
		return
	}
	of := make(map[string]bound, len(t.bounds))
	for _, b := range t.bounds {
		of[b.endpoint] = b
	}
	for _, all := range [][]Message{t.messages, t.unfit} {
		for i := range all {
			m := &all[i]
			b := of[m.Endpoint]
			m.MaxInFlight, m.OriginMax, m.Rate, m.Probe = b.maxInFlight, b.originMax, b.rate, b.probe
		}
	}
}

// rowReader reads rows. pgx.Rows.Scan would end all rows at the first one that it cannot read.
type rowReader struct {
	types  *pgtype.Map
	fields []pgconn.FieldDescription
	plans  []pgtype.ScanPlan // by column; made when it is first read, and for its type
	kinds  []reflect.Type
}

// into reads the first columns of a row; a nil target skips one. Its error is a pgx.ScanArgError.
func (r *rowReader) into(row [][]byte, dest ...any) error {
	if r.plans == nil {
		r.plans, r.kinds = make([]pgtype.ScanPlan, len(r.fields)), make([]reflect.Type, len(r.fields))
	}
	for i, to := range dest {
		if to == nil {
			continue
		}
		if kind := reflect.TypeOf(to); r.kinds[i] != kind {
			r.plans[i], r.kinds[i] = r.types.PlanScan(r.fields[i].DataTypeOID, r.fields[i].Format, to), kind
		}
		if err := r.plans[i].Scan(row[i], to); err != nil {
			return pgx.ScanArgError{ColumnIndex: i, FieldName: r.fields[i].Name, Err: err}
		}
	}
	return nil
}
