package outbox

import (
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
	"github.com/seed-abbacb8b/epilogue/internal/cleantext"
)

// RunOutcome is how a workflow run ended, and with what.
type RunOutcome struct {
	RunID     string            // the run, as the embedding service calls it: 1 to [RunIDBytesMax] bytes
	Status    TerminalStatus    // how it ended
	Result    []byte            // Succeeded only: the request body, as it is
	Error     string            // Failed: the reason. Cancelled: the reason, or "" when cancelled from outside
	Headers   map[string]string // the submitter's metadata, among it the callback URL
	FinalStep uint32            // zero-based number of the step that ended the run
}

// TerminalStatus says how a run ended. Its zero value is not a status.
type TerminalStatus string

// The terminal statuses, as they stand in Go, SQL, logs and the Workflow-Run-Status header.
const (
	Succeeded TerminalStatus = "succeeded"
	Failed    TerminalStatus = "failed"
	Cancelled TerminalStatus = "cancelled"
)

// ErrInvalidOutcome is in every error about an outcome that contradicts itself: a programming error, found before anything is
// written.
var ErrInvalidOutcome = errors.New("invalid outcome")

// ParseTerminalStatus reads a status as [TerminalStatus.String] writes it.
func ParseTerminalStatus(s string) (TerminalStatus, error) {
	switch status := TerminalStatus(s); status {
	case Succeeded, Failed, Cancelled:
		return status, nil
	}
	return "", fmt.Errorf("%w: status %q is none of succeeded, failed, cancelled", ErrInvalidOutcome, s)
}

// String returns the status as it is written everywhere.
func (s TerminalStatus) String() string { return string(s) }

// MarshalText refuses what is not a status.
func (s TerminalStatus) MarshalText() ([]byte, error) {
	status, err := ParseTerminalStatus(string(s))
	return []byte(status), err
}

// UnmarshalText is [ParseTerminalStatus].
func (s *TerminalStatus) UnmarshalText(text []byte) error {
	status, err := ParseTerminalStatus(string(text))
	if err == nil {
		*s = status
	}
	return err
}

// Value writes the status to SQL as text.
func (s TerminalStatus) Value() (driver.Value, error) {
	status, err := ParseTerminalStatus(string(s))
	return string(status), err
}

// Scan reads a status from SQL text.
func (s *TerminalStatus) Scan(src any) error {
	switch text := src.(type) {
	case string:
		return s.UnmarshalText([]byte(text))
	case []byte:
		return s.UnmarshalText(text)
	}
	return fmt.Errorf("%w: status cannot be read from %T", ErrInvalidOutcome, src)
}

// Validate reports contradictions: an empty or too long run id, an unknown status, a result of a run that did not succeed, an
// error of one that did. Each error names the field and the rule, and wraps [ErrInvalidOutcome].
func (o RunOutcome) Validate() error {
	if o.RunID == "" {
		return fmt.Errorf("%w: RunID is empty", ErrInvalidOutcome)
	}
	if len(o.RunID) > RunIDBytesMax {
		return fmt.Errorf("%w: RunID has %d bytes, the limit is %d", ErrInvalidOutcome, len(o.RunID), RunIDBytesMax)
	}
	if _, err := ParseTerminalStatus(string(o.Status)); err != nil {
		return err
	}
	if o.Status != Succeeded && len(o.Result) > 0 {
		return fmt.Errorf("%w: Result is set on a %s run; only a succeeded one has a result", ErrInvalidOutcome, o.Status)
	}
	if o.Status == Succeeded && o.Error != "" {
		return fmt.Errorf("%w: Error is set on a succeeded run", ErrInvalidOutcome)
	}
	return nil
}

// Sizes that the tables enforce too (migrations, CHECK constraints).
const (
	RunIDBytesMax     = 1024              // a longer one is an error
	URLBytesMax       = callback.BytesMax // a longer one makes a dead message
	ErrorBytesMax     = 64 << 10          // a longer error text is cut there, and says so
	HeadersBytesMax   = 64 << 10          // as JSON; beyond it the message is dead, and only the headers that fit are kept
	ResultBytesLimit  = 1 << 20           // default of Config.ResultBytesMax: a larger result makes a dead message
	ResultBytesKept   = 16 << 20          // a larger result is not kept, so its message cannot be replayed
	DedupeKeyBytesMax = 512               // a longer key, or one that is not clean text, is replaced by its SHA-256
	cutNote           = "… [cut: %d bytes]"
)

// cutText shortens text to max bytes, at a rune, with a note of its true length.
func cutText(text string, max int) string {
	if len(text) <= max {
		return text
	}
	note := fmt.Sprintf(cutNote, len(text))
	return cleantext.Cut(text, max-len(note)) + note
}
