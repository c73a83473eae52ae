// Package schema is the service's own step table, as ent describes it.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
)

// Step is a step of a run. It is acknowledged only while it is ready.
type Step struct{ ent.Schema }

// Fields of a step.
func (Step) Fields() []ent.Field {
	return []ent.Field{
		field.String("run_id").Unique(),
		field.String("state").Default("ready"),
	}
}
