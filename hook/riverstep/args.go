package riverstep

import (
	"encoding/json"
	"errors"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/seed-abbacb8b/epilogue/internal/rivertime"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// Kinds of the River jobs.
const (
	StepKind  = "workflow_step"
	SweepKind = "workflow_sweep"
)

// StepArgs are the arguments of a step's job: which step of which run. They hold no payload.
type StepArgs struct {
	RunID    string    `json:"run_id"`
	Instance outbox.ID `json:"instance"`
	Step     uint32    `json:"step"`

	fault error // of decoding. It is kept: on an error here, River would discard the job, and its run would never end
}

// Kind is [StepKind].
func (StepArgs) Kind() string { return StepKind }

// Hooks returns River's hooks for jobs of this kind: the database sets when they may run.
func (StepArgs) Hooks() []rivertype.Hook { return []rivertype.Hook{rivertime.Database{}} }

// UnmarshalJSON never fails: see fault.
func (a *StepArgs) UnmarshalJSON(text []byte) error {
	type plain StepArgs
	var p plain
	if err := json.Unmarshal(text, &p); err != nil {
		a.fault = err
		return nil
	}
	if p.Instance == (outbox.ID{}) {
		p.fault = errors.New("instance is missing")
	}
	*a = StepArgs(p)
	return nil
}

// metadata repeats the ids, so that a job with damaged arguments still finds its run.
type metadata struct {
	Instance        outbox.ID       `json:"riverstep_instance,omitzero"`
	Snoozes         int             `json:"snoozes,omitzero"`
	CancelAttempted json.RawMessage `json:"cancel_attempted_at,omitzero"`
}

func decodeMetadata(text []byte) metadata {
	var m metadata
	_ = json.Unmarshal(text, &m) // what cannot be decoded stays empty
	return m
}

// insertOpts returns the options of a step's job. River adds those of the client's middleware.
func insertOpts(instance outbox.ID, attempts int, base river.InsertOpts) (*river.InsertOpts, error) {
	text, err := json.Marshal(metadata{Instance: instance})
	base.Metadata, base.MaxAttempts = text, attempts+attemptsSpare
	return &base, err
}

// sweepArgs are the arguments of the job of the sweep, which needs none.
type sweepArgs struct{}

func (sweepArgs) Kind() string { return SweepKind }

func (sweepArgs) Hooks() []rivertype.Hook {
	return []rivertype.Hook{rivertime.Database{Periodic: true}}
}
