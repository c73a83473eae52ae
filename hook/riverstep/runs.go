package riverstep

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
	"github.com/seed-abbacb8b/epilogue/internal/sqlschema"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// run is a run's row, as a worker takes it up.
type run struct {
	Instance outbox.ID
	RunID    string
	Status   string
	Step     uint32
	Attempts int
	JobID    int64
	Payload  []byte
	Headers  []byte // JSON
	JobEnd   *string
	Error    string // "" while it is active

	CancelRequested bool
	Clock           time.Time // the database's, when the row was read
}

func (r run) active() bool { return r.Status == string(Active) }

// headers decodes the headers of the row. What cannot be decoded is left out and named: the others may still hold the callback
// URL.
func (r run) headers() (map[string]string, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(r.Headers, &raw); err != nil {
		return nil, fmt.Errorf("headers cannot be decoded: %w", err)
	}
	headers := make(map[string]string, len(raw))
	var fault error
	for key, text := range raw {
		var value *string
		if err := json.Unmarshal(text, &value); err != nil || value == nil {
			fault = errors.Join(fault, fmt.Errorf("headers cannot be decoded: %q is not a string", key))
			continue
		}
		headers[key] = *value
	}
	return headers, fault
}

// rows are the statements on riverstep_run, of one schema.
//
// They run in sessions with the settings of the service, some of them in its transactions. So they name every function,
// operator and type with pg_catalog, and use no IN, BETWEEN or IS DISTINCT FROM, which find their operators through the search
// path. Arguments and results read the same under every setting and in every protocol of pgx: numbers, ASCII text and bytes, in
// base64 where they are results.
type rows struct{ schema string }

func (r rows) in(sql string) string { return sqlschema.In(sql, r.schema) }

func (r rows) insert(ctx context.Context, tx pgx.Tx, instance outbox.ID, spec RunSpec) (inserted bool, err error) {
	headers, err := json.Marshal(notNil(spec.Headers))
	if err != nil {
		return false, err
	}
	headers = ascii(headers)
	tag, err := tx.Exec(ctx, r.in(`INSERT INTO outbox.riverstep_run (instance, run_id, attempts, input_sha256, payload, headers)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (run_id) WHERE status OPERATOR(pg_catalog.=) 'active' DO NOTHING`),
		instance, spec.ID, spec.Attempts, hash(spec.Input), notNilBytes(spec.Input), string(headers))
	return tag.RowsAffected() == 1, err
}

func (r rows) setJob(ctx context.Context, tx pgx.Tx, instance outbox.ID, jobID int64) error {
	_, err := tx.Exec(ctx, r.in(`UPDATE outbox.riverstep_run SET job_id = $2 WHERE instance OPERATOR(pg_catalog.=) $1`), instance, jobID)
	return err
}

// activeOf finds the active run of an id.
func (r rows) activeOf(ctx context.Context, db outbox.DB, runID string) (instance outbox.ID, jobID int64, inputHash []byte, err error) {
	err = db.QueryRow(ctx, r.in(`SELECT instance, coalesce(job_id, 0), `+base64Of("input_sha256")+` FROM outbox.riverstep_run
WHERE run_id OPERATOR(pg_catalog.=) $1 AND status OPERATOR(pg_catalog.=) 'active'`), runID).
		Scan(&instance, &jobID, (*base64Bytes)(&inputHash))
	return instance, jobID, inputHash, err
}

func (r rows) exists(ctx context.Context, db outbox.DB, runID string) (found bool, err error) {
	err = db.QueryRow(ctx, r.in(`SELECT EXISTS (SELECT FROM outbox.riverstep_run WHERE run_id OPERATOR(pg_catalog.=) $1)`), runID).Scan(&found)
	return found, err
}

func (r rows) load(ctx context.Context, db outbox.DB, instance outbox.ID) (got run, err error) {
	var clock int64
	var reason []byte
	err = db.QueryRow(ctx, r.in(`SELECT instance, run_id, status, step, attempts, coalesce(job_id, 0), `+base64Of("payload")+`, `+base64Of(utf8Of("headers::pg_catalog.text"))+`,
       job_end, `+base64Of(utf8Of("error"))+`, cancel_requested_at IS NOT NULL, `+micros("pg_catalog.clock_timestamp()")+`
FROM outbox.riverstep_run WHERE instance OPERATOR(pg_catalog.=) $1`), instance).Scan(&got.Instance, &got.RunID, &got.Status, &got.Step,
		&got.Attempts, &got.JobID, (*base64Bytes)(&got.Payload), (*base64Bytes)(&got.Headers), &got.JobEnd, (*base64Bytes)(&reason),
		&got.CancelRequested, &clock)
	got.Error, got.Clock = string(reason), time.UnixMicro(clock)
	return got, err
}

// advance moves an active run on to its next step. It reports false when the run is not at this job any more, or is to
// be cancelled.
func (r rows) advance(ctx context.Context, tx pgx.Tx, at run, nextJob int64, payload []byte) (bool, error) {
	tag, err := tx.Exec(ctx, r.in(`UPDATE outbox.riverstep_run SET step = step OPERATOR(pg_catalog.+) 1, job_id = $3, payload = $4
WHERE instance OPERATOR(pg_catalog.=) $1 AND job_id OPERATOR(pg_catalog.=) $2 AND status OPERATOR(pg_catalog.=) 'active' AND cancel_requested_at IS NULL`),
		at.Instance, at.JobID, nextJob, notNilBytes(payload))
	return tag.RowsAffected() == 1, err
}

// ending is how a run ends.
type ending struct {
	status  outbox.TerminalStatus
	result  []byte
	reason  string
	job     jobEnd
	regards bool // a cancel from outside comes first
}

// end ends an active run. It returns its headers and final step, and false when the run is not at this job any more or
// when a cancel, which the ending regards, was requested.
func (r rows) end(ctx context.Context, tx pgx.Tx, instance outbox.ID, jobID int64, e ending) (got run, ok bool, err error) {
	var reason, result any
	switch {
	case e.status != outbox.Succeeded:
		reason = []byte(cleantext.Cut(cleantext.Of(e.reason), outbox.ErrorBytesMax))
	case len(e.result) <= outbox.ResultBytesKept:
		result = notNilBytes(e.result)
	}
	err = tx.QueryRow(ctx, r.in(`UPDATE outbox.riverstep_run
SET status = $3, result = $4, error = pg_catalog.convert_from($5, 'UTF8'), job_end = $6,
    ended_at = pg_catalog.statement_timestamp(), payload = NULL
WHERE instance OPERATOR(pg_catalog.=) $1 AND coalesce(job_id, 0) OPERATOR(pg_catalog.=) $2
  AND status OPERATOR(pg_catalog.=) 'active' AND (cancel_requested_at IS NULL OR NOT $7)
RETURNING instance, run_id, step, `+base64Of(utf8Of("headers::pg_catalog.text"))),
		instance, jobID, string(e.status), result, reason, string(e.job), e.regards).
		Scan(&got.Instance, &got.RunID, &got.Step, (*base64Bytes)(&got.Headers))
	if errors.Is(err, pgx.ErrNoRows) {
		return got, false, nil
	}
	return got, err == nil, err
}

// release records that no runner works until the job is taken again. It returns false when end would.
func (r rows) release(ctx context.Context, tx pgx.Tx, at run, attemptedAt *time.Time) (bool, error) {
	tag, err := tx.Exec(ctx, r.in(`UPDATE outbox.riverstep_run SET released_at = $3
WHERE instance OPERATOR(pg_catalog.=) $1 AND job_id OPERATOR(pg_catalog.=) $2 AND status OPERATOR(pg_catalog.=) 'active' AND cancel_requested_at IS NULL`), at.Instance, at.JobID, attemptedAt)
	return tag.RowsAffected() == 1, err
}

// requestCancel records a cancel for a running step to see. It returns false when the run has left this job, or when its runner
// has returned from this attempt already, so that no worker would see it.
func (r rows) requestCancel(ctx context.Context, tx pgx.Tx, instance outbox.ID, jobID int64, attemptedAt *time.Time) (bool, error) {
	tag, err := tx.Exec(ctx, r.in(`UPDATE outbox.riverstep_run 
SET cancel_requested_at = coalesce(cancel_requested_at, pg_catalog.statement_timestamp())
WHERE instance OPERATOR(pg_catalog.=) $1 AND job_id OPERATOR(pg_catalog.=) $2 AND status OPERATOR(pg_catalog.=) 'active'
  AND NOT coalesce(released_at OPERATOR(pg_catalog.=) $3, false)`), instance, jobID, attemptedAt)
	return tag.RowsAffected() == 1, err
}

// released reports whether the runner returned from this attempt without settling.
func (r rows) released(ctx context.Context, tx pgx.Tx, instance outbox.ID, attemptedAt *time.Time) (yes bool, err error) {
	err = tx.QueryRow(ctx, r.in(`SELECT coalesce(released_at OPERATOR(pg_catalog.=) $2, false)
FROM outbox.riverstep_run WHERE instance OPERATOR(pg_catalog.=) $1`),
		instance, attemptedAt).Scan(&yes)
	return yes, err
}

func hash(input []byte) []byte { sum := sha256.Sum256(input); return sum[:] }

func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func notNilBytes(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// base64Bytes reads what base64Of writes.
type base64Bytes []byte

// ScanText is called by pgx. NULL is nil.
func (b *base64Bytes) ScanText(v pgtype.Text) (err error) {
	if *b = nil; v.Valid {
		*b, err = base64.StdEncoding.DecodeString(v.String) // which ignores the line ends that Postgres puts in
	}
	return err
}

// base64Of is a column of bytes, or SQL for bytes, in a form that no setting changes.
func base64Of(bytea string) string { return `pg_catalog.encode(` + bytea + `, 'base64')` }

// utf8Of is SQL for the bytes of a text, whatever the client's encoding is.
func utf8Of(text string) string { return `pg_catalog.convert_to(` + text + `, 'UTF8')` }

// micros is SQL for a time in microseconds since 1970.
func micros(time string) string {
	return `(pg_catalog.date_part('epoch', ` + time + `) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8`
}

// ascii writes JSON without characters that depend on the client's encoding.
func ascii(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			out = append(out, byte(r))
		case r <= 0xFFFF:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		}
	}
	return out
}
