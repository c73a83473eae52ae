// Package keyring holds the worker's signing keys: sets of keys under names, from the environment and from a file that
// is read again when it changes.
//
// A message names the set that signs it; if it names none, the set [Default] signs it. All keys of a set sign, so that a
// rotation holds the new key and the old one for a while.
//
// The file is checked when a set is asked for, at most once a second, and read only when it changed: no signal and no goroutine
// is needed, and a new key is in use a second after it was written. A faulty new file has no effect: the keys in force stay,
// and the fault is reported once. No error, report or log holds a key.
package keyring

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-abbacb8b/epilogue/internal/secretfile"
	"github.com/seed-abbacb8b/epilogue/webhook"
)

// Default is the name of the set for messages that name none.
const Default = "default"

// checkInterval is the least time between two checks of the file.
const checkInterval = time.Second

// Ring is sets of keys under their names. It is safe for concurrent use.
type Ring struct {
	entries sets // from the environment: never changed
	report  func(Event)
	opened  time.Time

	inForce atomic.Pointer[sets]
	due     atomic.Int64     // when the file is to be checked again, since opened
	mu      sync.Mutex       // held during a check
	file    *secretfile.File // nil without one
}

// Event is what happened to the file. It is reported once per change.
type Event struct {
	File    string
	Names   []string // the sets in force now, those of the environment included, in order
	Err     error    // what is wrong with the new file: the sets in force stayed; nil when it was read
	Warning string   // who else can read or change the file, and what to do about it; or ""
}

// Open returns a ring of the keys in entries, the text of an environment variable, and in the file at path, unless that is "".
// Its error names every fault of both; a set may be in one of them only.
//
//	entries: name=key[,key…], one after the other with white space or ; between
//	file:    a line for each set: name = key [key…], with white space or commas between keys; # begins a comment
//
// report, which may be nil, is called for the file as it is now, and later by any call of the ring that finds the file changed.
func Open(entries, path string, report func(Event)) (*Ring, error) {
	r := &Ring{report: report, opened: time.Now()}
	if r.report == nil {
		r.report = func(Event) {}
	}
	found, err := parseEntries(entries)
	r.entries = found
	r.inForce.Store(&found)
	if path == "" {
		if err != nil {
			return nil, err
		}
		return r, nil
	}
	r.file = &secretfile.File{Path: path}
	event, _ := r.look()
	if err := errors.Join(err, event.Err); err != nil {
		return nil, err
	}
	r.due.Store(int64(checkInterval))
	r.report(event)
	return r, nil
}

// Keys returns the set of that name, the set [Default] for "", and whether there is one. Do not change the slice.
func (r *Ring) Keys(name string) (webhook.Keys, bool) {
	if name == "" {
		name = Default
	}
	keys, ok := r.sets()[name]
	return keys, ok
}

// Names returns the names of all sets, in order.
func (r *Ring) Names() []string { return r.sets().names() }

// sets returns those in force, after a check of the file if one is due. Calls during the check use the sets in force before: a
// file system that hangs delays one caller, not all.
func (r *Ring) sets() sets {
	if r.file != nil && int64(time.Since(r.opened)) >= r.due.Load() && r.mu.TryLock() {
		event, changed := r.look()
		r.due.Store(int64(time.Since(r.opened) + checkInterval))
		r.mu.Unlock()
		if changed {
			r.report(event)
		}
	}
	return *r.inForce.Load()
}

// Reread reads the file now, whether or not it seems to have changed, and reports it. Without a file it does nothing.
func (r *Ring) Reread() {
	if r.file == nil {
		return
	}
	r.mu.Lock()
	*r.file = secretfile.File{Path: r.file.Path}
	event, changed := r.look()
	r.due.Store(int64(time.Since(r.opened) + checkInterval))
	r.mu.Unlock()
	if changed {
		r.report(event)
	}
}

// look reads the file if it changed, and puts its sets in force if they are valid.
func (r *Ring) look() (event Event, changed bool) {
	content, warning, changed, err := r.file.Read()
	if !changed {
		return event, false
	}
	var found sets
	if err == nil {
		found, err = parseFile(content)
	}
	if err == nil {
		found, err = merge(r.entries, found)
	}
	if err != nil {
		err = fmt.Errorf("key file %s: %w", r.file.Path, err)
	} else {
		r.inForce.Store(&found)
	}
	return Event{File: r.file.Path, Names: r.inForce.Load().names(), Err: err, Warning: warning}, true
}

// sets are keys by the name of their set.
type sets map[string]webhook.Keys

func (s sets) names() []string { return slices.Sorted(maps.Keys(s)) }

func merge(entries, file sets) (sets, error) {
	both := maps.Clone(entries)
	for _, name := range file.names() {
		if _, ok := both[name]; ok {
			return nil, fmt.Errorf("set %s is in the environment too; keep one of the two", shown(name))
		}
		both[name] = file[name]
	}
	return both, nil
}
