package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const example = "package p\n\nfunc f(a, b int, ok bool, err error) (n int) {\n\tif err != nil || ok {\n\t\tn++\n\t\tg()\n\t}\n" +
	"\tswitch {\n\tcase a < b && ok:\n\t\tn = min(a, 7)\n\t}\n\tq(`SELECT FROM t WHERE a = $1 AND b >= now() - i AND c IS NULL FOR UPDATE SKIP LOCKED`)\n" +
	"\tif err != nil {\n\t\treturn 0\n\t}\n\treturn n\n}\n"

// changesOf lists what is made of the example, as "was → by".
func changesOf(t *testing.T) (changes []string, all []mutant) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "example.go")
	if err := os.WriteFile(name, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := mutantsOf(&target{root: filepath.Dir(name)}, name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		changes = append(changes, fmt.Sprintf("%s → %s", m.was, m.by))
	}
	return changes, all
}

func TestSlipsAreMadeInConditionsStatementsNumbersAndSQL(t *testing.T) {
	t.Parallel()
	changes, _ := changesOf(t)
	for _, want := range []string{
		"err != nil || ok → !(err != nil || ok)", "err != nil || ok → err != nil", "err != nil || ok → ok", "n++ → ", "g() → ",
		"a < b && ok → !(a < b && ok)", "a < b && ok → a < b", "a < b && ok → ok", "< → <=", "min → max", "7 → 8", "n = min(a, 7) → ",
		"= → <>", "AND → OR", ">= → >", "- → +", "IS NULL → IS NOT NULL", " SKIP LOCKED → ", "0 → 1",
	} {
		if !slices.Contains(changes, want) {
			t.Errorf("%q is not among them", want)
		}
	}
	for _, never := range []string{"err != nil → !(err != nil)", "!= → =="} {
		if slices.Contains(changes, never) {
			t.Errorf("%q is among them, which every test notices", never)
		}
	}
}

func TestAMutantIsTheFileWithOneChange(t *testing.T) {
	t.Parallel()
	_, all := changesOf(t)
	for _, m := range all {
		text := string(m.text())
		if len(text)-len(example) != len(m.by)-len(m.was) || !strings.HasPrefix(text, example[:m.from]) || !strings.HasSuffix(text, example[m.to:]) {
			t.Errorf("%v changes more than one place:\n%s", m, text)
		}
		if _, err := parser.ParseFile(token.NewFileSet(), "", text, 0); err != nil {
			t.Errorf("%v cannot be parsed: %v", m, err)
		}
	}
}

func TestTheSeedDecidesTheOrder(t *testing.T) {
	t.Parallel()
	_, all := changesOf(t)
	order := func(seed uint64) (text string) {
		for _, m := range draw([]*target{{mutants: all}}, seed) {
			text += m.String() + "\n"
		}
		return text
	}
	if first := order(1); first != order(1) || first == order(2) {
		t.Error("the same seed gives another order, or another seed the same")
	}
}
