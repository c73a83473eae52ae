package riverstep

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

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
	Error    *string

	CancelRequested bool
	Clock           time.Time // the database's, when the row was read
}

func (r run) active() bool { return r.Status == string(Active) }

// headers decodes the row's headers. What cannot be decoded is left out and named: the rest may still say where the
// outcome is to be sent.
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
type rows struct{ schema string }

func (r rows) in(sql string) string { return strings.ReplaceAll(sql, "outbox.", r.schema+".") }

func (r rows) insert(ctx context.Context, tx pgx.Tx, instance outbox.ID, spec RunSpec) (inserted bool, err error) {
	headers, err := json.Marshal(notNil(spec.Headers))
	if err != nil {
		return false, err
	}
	tag, err := tx.Exec(ctx, r.in(`INSERT INTO outbox.riverstep_run (instance, run_id, attempts, input_sha256, payload, headers)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (run_id) WHERE status = 'active' DO NOTHING`),
		instance, spec.ID, spec.Attempts, hash(spec.Input), notNilBytes(spec.Input), string(headers))
	return tag.RowsAffected() == 1, err
}

func (r rows) setJob(ctx context.Context, tx pgx.Tx, instance outbox.ID, jobID int64) error {
	_, err := tx.Exec(ctx, r.in(`UPDATE outbox.riverstep_run SET job_id = $2 WHERE instance = $1`), instance, jobID)
	return err
}

// activeOf finds the active run of an id.
func (r rows) activeOf(ctx context.Context, db outbox.DB, runID string) (instance outbox.ID, jobID int64, inputHash []byte, err error) {
	err = db.QueryRow(ctx, r.in(`SELECT instance, coalesce(job_id, 0), input_sha256 FROM outbox.riverstep_run
WHERE run_id = $1 AND status = 'active'`), runID).Scan(&instance, &jobID, &inputHash)
	return instance, jobID, inputHash, err
}

func (r rows) exists(ctx context.Context, db outbox.DB, runID string) (found bool, err error) {
	err = db.QueryRow(ctx, r.in(`SELECT EXISTS (SELECT FROM outbox.riverstep_run WHERE run_id = $1)`), runID).Scan(&found)
	return found, err
}

func (r rows) load(ctx context.Context, db outbox.DB, instance outbox.ID) (got run, err error) {
	var clock int64
	err = db.QueryRow(ctx, r.in(`SELECT instance, run_id, status, step, attempts, coalesce(job_id, 0), payload, headers::text,
       job_end, error, cancel_requested_at IS NOT NULL, `+clockSQL+`
FROM outbox.riverstep_run WHERE instance = $1`), instance).Scan(&got.Instance, &got.RunID, &got.Status, &got.Step,
		&got.Attempts, &got.JobID, &got.Payload, &got.Headers, &got.JobEnd, &got.Error, &got.CancelRequested, &clock)
	got.Clock = time.UnixMicro(clock)
	return got, err
}

// advance moves an active run on to its next step. It reports false when the run is not at this job any more, or is to
// be cancelled.
func (r rows) advance(ctx context.Context, tx pgx.Tx, at run, nextJob int64, payload []byte) (bool, error) {
	tag, err := tx.Exec(ctx, r.in(`UPDATE outbox.riverstep_run SET step = step + 1, job_id = $3, payload = $4
WHERE instance = $1 AND job_id = $2 AND status = 'active' AND cancel_requested_at IS NULL`),
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
		reason = cut(clean(e.reason))
	case len(e.result) <= outbox.ResultBytesKept:
		result = notNilBytes(e.result)
	}
	err = tx.QueryRow(ctx, r.in(`UPDATE outbox.riverstep_run
SET status = $3, result = $4, error = $5, job_end = $6, ended_at = statement_timestamp(), payload = NULL
WHERE instance = $1 AND coalesce(job_id, 0) = $2 AND status = 'active' AND (cancel_requested_at IS NULL OR NOT $7)
RETURNING instance, run_id, step, headers::text`),
		instance, jobID, string(e.status), result, reason, string(e.job), e.regards).Scan(&got.Instance, &got.RunID, &got.Step, &got.Headers)
	if errors.Is(err, pgx.ErrNoRows) {
		return got, false, nil
	}
	return got, err == nil, err
}

// release notes that nothing runs until the job is taken up again. False as in end.
func (r rows) release(ctx context.Context, tx pgx.Tx, at run, attemptedAt *time.Time) (bool, error) {
	tag, err := tx.Exec(ctx, r.in(`UPDATE outbox.riverstep_run SET released_at = $3
WHERE instance = $1 AND job_id = $2 AND status = 'active' AND cancel_requested_at IS NULL`), at.Instance, at.JobID, attemptedAt)
	return tag.RowsAffected() == 1, err
}

// requestCancel notes a cancel that a running step is to see. False when the run is not at this job any more, or when
// its runner returned from this taking-up already, so that nobody would see it.
func (r rows) requestCancel(ctx context.Context, tx pgx.Tx, instance outbox.ID, jobID int64, attemptedAt *time.Time) (bool, error) {
	tag, err := tx.Exec(ctx, r.in(`UPDATE outbox.riverstep_run SET cancel_requested_at = coalesce(cancel_requested_at, statement_timestamp())
WHERE instance = $1 AND job_id = $2 AND status = 'active' AND released_at IS DISTINCT FROM $3`), instance, jobID, attemptedAt)
	return tag.RowsAffected() == 1, err
}

// released reports whether the runner returned from this taking-up without settling.
func (r rows) released(ctx context.Context, tx pgx.Tx, instance outbox.ID, attemptedAt *time.Time) (yes bool, err error) {
	err = tx.QueryRow(ctx, r.in(`SELECT released_at IS NOT DISTINCT FROM $2 FROM outbox.riverstep_run WHERE instance = $1`),
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

// cut keeps the row small; the outcome's own limit is the hook's.
func cut(text string) string {
	if len(text) <= outbox.ErrorBytesMax {
		return text
	}
	return strings.ToValidUTF8(text[:outbox.ErrorBytesMax], "")
}
