package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// idsMax bounds what one transaction locks.
const idsMax = 10_000

// ids parses the arguments, or stdin for "-". It reports every fault at once.
func (p *program) ids(args []string) ([]outbox.ID, error) {
	words := args
	if len(args) == 1 && args[0] == "-" {
		var err error
		if words, err = p.wordsOfStdin(); err != nil {
			return nil, err
		}
		if len(words) == 0 {
			return nil, usagef("no ids on stdin")
		}
	}
	if len(words) > idsMax {
		return nil, usagef("more than %s ids; name fewer at a time", grouped(idsMax))
	}
	ids := make([]outbox.ID, len(words))
	var faults []error
	for i, word := range words {
		var err error
		if ids[i], err = outbox.ParseID(word); err != nil {
			faults = append(faults, err)
		}
	}
	const faultsShown = 10
	if n := len(faults) - faultsShown; n > 0 {
		faults = append(faults[:faultsShown], usagef("and %d more", n))
	}
	return ids, errors.Join(faults...)
}

// wordsOfStdin reads the first word of each line, so that the table of list can be piped in too. It skips the header of that
// table, empty lines and those that begin with #.
func (p *program) wordsOfStdin() ([]string, error) {
	var words []string
	scanner := bufio.NewScanner(p.stdin)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) == 0 || fields[0] == "ID" || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if words = append(words, fields[0]); len(words) > idsMax {
			break // ids reports it
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("reading ids from stdin: %w", err)
	}
	return words, nil
}

// idState is one row of the JSON that cancel prints.
type idState struct {
	ID    outbox.ID    `json:"id"`
	State outbox.State `json:"state"`
}
