package delivery

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/header"
	"github.com/seed-abbacb8b/epilogue/internal/secretfile"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// headerSets are named sets of secret headers, from a file that is read again when it changes. A new file with a fault
// has no effect.
type headerSets struct {
	mu    sync.Mutex
	file  secretfile.File
	next  time.Time // before this time the file is not looked at
	sets  map[string]headerSet
	fault error // what is wrong with the newest file; nil when it is in force
}

// headerSet is one set of headers, and the origins that it may be sent to.
type headerSet struct {
	origins []string
	headers map[string]string // by canonical name
}

// openHeaderSets returns the sets of a file, or nil for "".
func openHeaderSets(path string) (*headerSets, error) {
	if path == "" {
		return nil, nil
	}
	h := &headerSets{file: secretfile.File{Path: path}}
	return h, h.reread()
}

// reread reads the file whether or not it seems to have changed.
func (h *headerSets) reread() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.file = secretfile.File{Path: h.file.Path}
	h.look()
	return h.fault
}

// look uses the file's new content if it changed and has no fault; mu is held.
func (h *headerSets) look() {
	h.next = time.Now().Add(fileCheckInterval)
	content, _, changed, err := h.file.Read()
	if !changed {
		return
	}
	var sets map[string]headerSet
	if err == nil {
		sets, err = parseHeaderSets(content)
	}
	if h.fault = err; err != nil {
		h.fault = fmt.Errorf("%s: %w", h.file.Path, err)
		return
	}
	h.sets = sets
}

// get returns the set of a name, and what is wrong with the newest file.
func (h *headerSets) get(name string) (set headerSet, ok bool, fault error) {
	if h == nil {
		return set, false, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !time.Now().Before(h.next) {
		h.look()
	}
	set, ok = h.sets[name]
	return set, ok, h.fault
}

// unknownHeadersError makes a message wait: it is not sent without its headers.
type unknownHeadersError struct {
	name  string
	fault error
}

func (e unknownHeadersError) Error() string {
	text := fmt.Sprintf("header set %q: this worker has none of that name", e.name)
	if e.fault != nil {
		text += "; its file cannot be used: " + e.fault.Error()
	}
	return text
}

// addSecrets sets the headers of the set of that name, and replaces those of the run and the hook. A set is sent only to the origins
// that it lists.
func (s *Sender) addSecrets(h http.Header, name, origin string) error {
	if name == "" {
		return nil
	}
	set, ok, fault := s.secrets.get(name)
	switch {
	case !ok:
		return unknownHeadersError{name, fault}
	case !slices.Contains(set.origins, origin):
		return fmt.Errorf("header set %q may not be sent to %s; its origins are in the worker's file of header sets", name, origin)
	}
	for key, value := range set.headers {
		h[key] = []string{value}
	}
	return nil
}

// parseHeaderSets reads sets, each of which begins with its name in brackets:
//
//	[crm]
//	origin = https://crm.example
//	X-Api-Key: secret
//
// A line that begins with # is a comment. No error shows a value, because it is a secret.
func parseHeaderSets(content string) (map[string]headerSet, error) {
	p := headerSetParser{sets: map[string]headerSet{}}
	n := 0
	content = strings.TrimPrefix(content, "\uFEFF") // the byte order mark that some editors write
	for line := range strings.Lines(content) {
		n++
		if err := p.line(strings.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return p.sets, p.endSet()
}

type headerSetParser struct {
	sets map[string]headerSet
	name string // of the set that the next line belongs to; "" before the first one
	set  headerSet
}

func (p *headerSetParser) line(line string) error {
	switch {
	case line == "" || line[0] == '#':
		return nil
	case line[0] == '[':
		return p.begin(line)
	case p.name == "":
		return errors.New("stands before the first set; want [NAME]")
	}
	if rest, ok := strings.CutPrefix(line, "origin"); ok {
		if value, ok := strings.CutPrefix(strings.TrimSpace(rest), "="); ok {
			return p.origin(strings.TrimSpace(value))
		}
	}
	return p.header(line)
}

func (p *headerSetParser) begin(line string) error {
	if err := p.endSet(); err != nil {
		return err
	}
	name, ok := strings.CutSuffix(line[1:], "]")
	if name = strings.TrimSpace(name); !ok || (outbox.Options{SecretHeaders: name}).Validate() != nil || name == "" {
		return errors.New("is not the beginning of a set; want [NAME], of 1 to 64 of A-Z, a-z, 0-9, _, . and -, beginning with a letter or digit")
	}
	if _, again := p.sets[name]; again {
		return fmt.Errorf("set %q begins a second time", name)
	}
	p.name, p.set = name, headerSet{headers: map[string]string{}}
	return nil
}

func (p *headerSetParser) endSet() error {
	if p.name == "" {
		return nil
	}
	if len(p.set.origins) == 0 || len(p.set.headers) == 0 {
		return fmt.Errorf("set %q has %d origins and %d headers; want one of each at least", p.name, len(p.set.origins), len(p.set.headers))
	}
	p.sets[p.name] = p.set
	return nil
}

func (p *headerSetParser) origin(text string) error {
	origin, err := checkOrigin(text)
	if err == nil {
		p.set.origins = append(p.set.origins, origin)
	}
	return err
}

// checkOrigin wants an origin and nothing behind it: a path would look like a restriction.
func checkOrigin(text string) (string, error) {
	origin, err := outbox.CheckURL(text)
	if err != nil {
		return "", err
	}
	if rest := text[strings.Index(text, "://")+3:]; strings.ContainsAny(strings.TrimSuffix(rest, "/"), "/?#") {
		return "", fmt.Errorf("want the origin alone: %s", origin)
	}
	return origin, nil
}

func (p *headerSetParser) header(line string) error {
	name, value, ok := strings.Cut(line, ":")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	switch {
	case !ok:
		return errors.New("is neither origin = https://HOST nor NAME: VALUE")
	case header.Check(name, value) != nil || value == "":
		return errors.New("is not a header that HTTP allows (it is not shown, because it may be a secret)")
	case header.Reserved(name):
		return fmt.Errorf("header %q is set by the worker only", name)
	}
	key := headerKey(name)
	if _, again := p.set.headers[key]; again {
		return fmt.Errorf("header %q stands in its set twice", name)
	}
	p.set.headers[key] = value
	return nil
}
