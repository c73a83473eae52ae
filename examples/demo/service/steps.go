package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// fileBytesMax is the largest file that the service takes: a larger one cancels its run.
const fileBytesMax = 256 << 10

// step is one unit of a run's work. It adds to what is known, and says so when the run ends with it.
type step struct {
	name string
	do   func(*input, *facts) *end
}

// steps are those of every run, in their order. The last one always ends the run.
func steps() []step {
	return []step{{"read", read}, {"parse", parseFile}, {"measure", measure}, {"verdict", verdict}}
}

// end is how a run ends.
type end struct {
	status outbox.TerminalStatus
	result []byte
	reason string
}

// facts are what the steps found, as each acknowledgement keeps them; in the end they are the run's result.
type facts struct {
	Path   string `json:"path,omitempty"`
	Kind   string `json:"kind,omitempty"` // go, text or binary
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256,omitempty"`

	Lines            int `json:"lines,omitempty"`
	LongestLineBytes int `json:"longest_line_bytes,omitempty"`

	Package          string `json:"package,omitempty"`
	Imports          int    `json:"imports,omitempty"`
	Funcs            int    `json:"funcs,omitempty"`
	LongestFuncLines int    `json:"longest_func_lines,omitempty"`
	Undocumented     int    `json:"undocumented,omitempty"` // exported functions without a comment
	Generated        bool   `json:"generated,omitempty"`

	Verdict string `json:"verdict,omitempty"`
}

func failed(err error) *end {
	// What goes into a column of text must be text: a parser's message may quote the file.
	reason := strings.ReplaceAll(strings.ToValidUTF8(err.Error(), "\uFFFD"), "\x00", "\uFFFD")
	return &end{status: outbox.Failed, reason: reason}
}

func read(in *input, f *facts) *end {
	f.Path = in.path
	bytes, err := in.size()
	if err != nil {
		return failed(err)
	}
	f.Bytes = int(bytes)
	if bytes > fileBytesMax {
		return &end{status: outbox.Cancelled, reason: fmt.Sprintf("%s has %d bytes, the limit is %d", in.path, bytes, fileBytesMax)}
	}
	content, err := in.content()
	if err != nil {
		return failed(err)
	}
	sum := sha256.Sum256(content)
	f.SHA256 = hex.EncodeToString(sum[:])
	return nil
}

func parseFile(in *input, f *facts) *end {
	content, err := in.content()
	if err != nil {
		return failed(err)
	}
	f.Kind = kind(in.path, content)
	if f.Kind != kindGo {
		return nil
	}
	if _, err := in.syntax(); err != nil {
		return failed(err)
	}
	return nil
}

func measure(in *input, f *facts) *end {
	content, err := in.content()
	if err != nil {
		return failed(err)
	}
	if f.Kind != kindBinary {
		f.Lines, f.LongestLineBytes = measureLines(content)
	}
	if f.Kind == kindGo {
		file, err := in.syntax()
		if err != nil {
			return failed(err) // it changed since it was parsed
		}
		measureGo(in.positions, file, f)
	}
	return nil
}

func verdict(_ *input, f *facts) *end {
	f.Verdict = opinion(*f)
	result, err := json.Marshal(f)
	if err != nil {
		return failed(err)
	}
	return &end{status: outbox.Succeeded, result: result}
}

// opinion is the service's verdict on a file that it could read.
func opinion(f facts) string {
	const funcLinesMax, lineBytesMax = 120, 160
	switch {
	case f.Kind == kindBinary:
		return "not for people"
	case f.Generated:
		return "written by a program"
	case f.LongestFuncLines > funcLinesMax:
		return "has a function that fits no screen"
	case f.LongestLineBytes > lineBytesMax:
		return "has lines that fit no screen"
	case f.Undocumented > 0:
		return "leaves the reader guessing"
	}
	return "fine"
}
