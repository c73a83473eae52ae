// Package rivertime has the database say when River's jobs may run.
package rivertime

import (
	"context"
	"time"

	"github.com/riverqueue/river/rivertype"
)

// Database is a River hook that has the database say when a job was inserted, and from when on it may run. River's driver
// would write this process's time, which the database then compares with its own when it gives jobs out: ahead by ten
// seconds, each job would begin ten seconds late. River's insert takes now() in place of a zero time.
//
// A time that somebody chose, a test or another hook, stays, unless the job is Periodic: there River chooses it.
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
