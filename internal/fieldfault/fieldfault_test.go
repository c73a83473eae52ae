package fieldfault

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

func TestAFaultNamesTheFieldsAsTheCallerDoes(t *testing.T) {
	t.Parallel()
	f := New("Lease", "is %ds; want more than %s, the Lease of the flat", 1, Name("Timeout"))
	if got, want := f.Error(), "Lease is 1s; want more than Timeout, the Lease of the flat"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	flag := func(field string) string { return "--" + strings.ToLower(field) }
	if got, want := f.In(flag), "--lease is 1s; want more than --timeout, the Lease of the flat"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := f.Fields(); !slices.Equal(got, []string{"Lease", "Timeout"}) {
		t.Errorf("the fields are %v, want Lease and Timeout", got)
	}
}

func TestTheFaultsAreFoundInAnErrorThatWrapsThem(t *testing.T) {
	t.Parallel()
	var faults Faults
	faults.Add("Schema", nil)
	if faults.Err() != nil {
		t.Fatal("without a fault there is an error, want none")
	}
	faults.Check(true, "Name", "is long")
	faults.Check(false, "Lease", "is short")
	faults.Add("CAFile", fs.ErrNotExist)
	err := fmt.Errorf("worker: %w", faults.Err())
	if got := Of(err); len(got) != 2 || got[0].Field != "Lease" || got[1].Field != "CAFile" {
		t.Errorf("got the faults %v", got)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap its cause, fs.ErrNotExist", err)
	}
	if got := Of(fmt.Errorf("worker: %w", faults[0])); len(got) != 1 || got[0].Field != "Lease" {
		t.Errorf("got the faults %v", got)
	}
	if got := Of(fs.ErrNotExist); got != nil {
		t.Errorf("got the faults %v", got)
	}
}
