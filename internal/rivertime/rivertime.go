// Package rivertime makes the database decide when River's jobs may run.
package rivertime

import (
	"context"
	"time"

	"github.com/riverqueue/river/rivertype"
)

// Database is a River hook that makes the database set when a job was inserted and when it may run. The driver of River would
// write the time of this process, and the database then compares it with its own clock: with a process ten seconds ahead, each
// job would begin ten seconds late. The insert of River replaces a zero time by now().
//
// A time that a test or another hook set stays, unless the job is Periodic: there River sets it.
type Database struct{ Periodic bool }

var zero time.Time

// IsHook is for River.
func (Database) IsHook() bool { return true }

// InsertBegin is called by River before each insert.
func (d Database) InsertBegin(_ context.Context, p *rivertype.JobInsertParams) error {
	if p.CreatedAt == nil {
		p.CreatedAt = &zero
	}
	if p.ScheduledAt == nil || d.Periodic {
		p.ScheduledAt = &zero
	}
	return nil
}
