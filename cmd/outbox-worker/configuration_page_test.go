package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// updateVariable, when set, makes the test write the page's table instead of comparing it.
const updateVariable = "EPILOGUE_UPDATE"

func TestThePageOfConfigurationListsEveryVariable(t *testing.T) {
	t.Parallel()
	const path = "../../docs/configuration.md"
	const marker = "<!-- config: kept equal to `outbox-worker config` by a test -->\n"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(data), marker)
	if !found {
		t.Fatalf("docs/configuration.md does not contain the line %q", marker)
	}
	table := "| variable | default | meaning |\n| --- | --- | --- |\n"
	for _, v := range loadSettings(nil).variables() {
		table += fmt.Sprintf("| `%s` | %s | %s |\n", v.Name, v.Default, v.Meaning)
	}
	rest := strings.TrimLeft(after, "\n")
	for strings.HasPrefix(rest, "|") {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	want := strings.TrimRight(before+marker+"\n"+table+"\n"+strings.TrimLeft(rest, "\n"), "\n") + "\n"
	if string(data) == want {
		return
	}
	if os.Getenv(updateVariable) == "" {
		t.Fatalf("the table of variables in docs/configuration.md differs from outbox-worker config; write it with\n\n\t%s=1 go test ./cmd/outbox-worker -run Configuration\n", updateVariable)
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
