package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryCommandInTheDocumentsExists, with its flags. No test runs the documents' shell commands.
func TestEveryCommandInTheDocumentsExists(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	command := regexp.MustCompile(`\boutbox-worker ([a-z][^|;&#)>\n]*)`)
	n := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, shell := range block.FindAllSubmatch(text, -1) {
			for _, found := range command.FindAllSubmatch(shell[1], -1) {
				n++
				root := (&program{stdout: &output{}}).rootCommand()
				cmd, rest, err := root.Find(words(string(found[1])))
				if err == nil && cmd == root {
					t.Errorf("%s: there is no command %s", page, found[1])
				} else if err == nil {
					err = cmd.ParseFlags(rest)
				}
				if err == nil {
					err = cmd.ValidateArgs(cmd.Flags().Args())
				}
				if err != nil {
					t.Errorf("%s: outbox-worker %s returns %v, want no error", page, found[1], err)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("%d commands were found, want 20 at least", n)
	}
}

// words splits a line as a shell does, as far as the documents need it: with double quotes only.
func words(line string) []string {
	var all []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}
