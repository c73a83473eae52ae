package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/seed-abbacb8b/epilogue/"

// TestAPackageIsTriedWithThoseWhoseTestsImportIt: the tests of migrations compare the tables' bounds with those of outbox/operator.
func TestAPackageIsTriedWithThoseWhoseTestsImportIt(t *testing.T) {
	t.Chdir("../..")
	trials, err := newTrials(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = trials.close() })
	if packages := trials.importers[module+"outbox/operator"]; !slices.Contains(packages, module+"migrations") {
		t.Errorf("with %v", packages)
	}
	if packages := trials.importers[module+"outbox"]; slices.Contains(packages, module+"outbox") {
		t.Error("outbox is tried twice")
	}
}

// TestAPackageWithoutTestsIsNotTriedWithItsOwnAlone: each of its mutants would survive.
func TestAPackageWithoutTestsIsNotTriedWithItsOwnAlone(t *testing.T) {
	t.Chdir("../..")
	_, err := mutate(t.Context(), options{own: true, n: 1, seed: 1, packages: []string{"./internal/sqlschema"}}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "no tests of its own") {
		t.Errorf("it says %v", err)
	}
}
