// Package fieldfault holds the faults of a configuration by the field that each is about. A package names only its own fields. A
// caller that knows them by other names, such as flags or variables, prints the fault with its own names.
package fieldfault

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fault is what is wrong with one field.
type Fault struct {
	Field  string // its name in the configuration
	format string // reads on from the name; unused with err
	args   []any  // a [Name] among them is another field
	err    error
}

// Name is the name of another field that a fault mentions.
type Name string

// New returns a fault whose text reads on from the field's name.
func New(field, format string, args ...any) Fault {
	return Fault{Field: field, format: format, args: args}
}

// Wrap returns an error as the fault of a field.
func Wrap(field string, err error) Fault { return Fault{Field: field, err: err} }

// Error returns the fault with the fields' own names.
func (f Fault) Error() string { return f.In(func(field string) string { return field }) }

// In returns the fault with other names: name returns that of a field.
func (f Fault) In(name func(field string) string) string {
	if f.err != nil {
		return name(f.Field) + ": " + f.err.Error()
	}
	args := slices.Clone(f.args)
	for i, arg := range args {
		if other, ok := arg.(Name); ok {
			args[i] = name(string(other))
		}
	}
	return name(f.Field) + " " + fmt.Sprintf(f.format, args...)
}

// Fields returns the names of all fields that the fault mentions, its own first.
func (f Fault) Fields() []string {
	fields := []string{f.Field}
	for _, arg := range f.args {
		if other, ok := arg.(Name); ok {
			fields = append(fields, string(other))
		}
	}
	return fields
}

func (f Fault) Unwrap() error { return f.err }

// Faults are all faults of a configuration.
type Faults []Fault

// Check adds a fault unless ok, and returns ok.
func (f *Faults) Check(ok bool, field, format string, args ...any) bool {
	if !ok {
		*f = append(*f, New(field, format, args...))
	}
	return ok
}

// Add adds an error as the fault of a field, unless it is nil.
func (f *Faults) Add(field string, err error) {
	if err != nil {
		*f = append(*f, Wrap(field, err))
	}
}

// Err returns the faults as one error; nil when there are none.
func (f Faults) Err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// Error has a line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i, fault := range f {
		errs[i] = fault
	}
	return errs
}

// Below returns the faults in an error about a field that is itself a configuration, by their names in the whole one.
func Below(field string, err error) Faults {
	var below Faults
	for _, f := range Of(err) {
		f.args = slices.Clone(f.args)
		for i, arg := range f.args {
			if other, ok := arg.(Name); ok {
				f.args[i] = Name(field + "." + string(other))
			}
		}
		f.Field = field + "." + f.Field
		below = append(below, f)
	}
	return below
}

// Of returns the faults that an error holds; none when it is an error of another kind.
func Of(err error) Faults {
	var all Faults
	var one Fault
	switch {
	case errors.As(err, &all):
		return all
	case errors.As(err, &one):
		return Faults{one}
	}
	return nil
}
