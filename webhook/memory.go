package webhook

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Defaults of a [MemoryStore].
const (
	DefaultMemoryMax = 100_000            // some 20 MB of UUIDs, 50 MB of the longest ids
	DefaultMemoryTTL = 7 * 24 * time.Hour // beyond the last of a worker's retries, about 90 hours after the first
)

// MemoryConfig configures a [MemoryStore]. The zero value is usable.
type MemoryConfig struct {
	// Max bounds how many messages are remembered. DefaultMemoryMax when 0; not negative.
	Max int

	// TTL is how long a processed message is remembered. DefaultMemoryTTL when 0; not negative.
	TTL time.Duration

	// Lease is how long a claim holds. DefaultLease when 0; from 1 ms.
	Lease time.Duration
}

// MemoryStore is a [Store] for one process: it ends with the process and is not shared. When it is full, it forgets the message
// that was processed longest ago, and never one that is in progress. It is safe for concurrent use.
type MemoryStore struct {
	config MemoryConfig

	mu      sync.Mutex
	tokens  uint64
	entries map[string]*list.Element // each in one of the lists; at most config.Max
	claimed *list.List               // of *memory, in the order of until, because the lease is the same for all
	done    *list.List               // likewise
}

type memory struct {
	id    string
	token string    // "" when processed
	until time.Time // the claim holds, or the entry is kept
}

// NewMemoryStore returns an empty store, or every fault of its configuration at once.
func NewMemoryStore(c MemoryConfig) (*MemoryStore, error) {
	var faults []error
	if c.Max < 0 {
		faults = append(faults, fmt.Errorf("Max is %d; want more than 0, or 0 for %d", c.Max, DefaultMemoryMax))
	}
	if c.TTL < 0 {
		faults = append(faults, fmt.Errorf("TTL is %v; want more than 0, or 0 for %v", c.TTL, DefaultMemoryTTL))
	}
	leased, err := lease(c.Lease)
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, fmt.Errorf("webhook memory store: %w", err)
	}
	c.Lease = leased
	if c.Max == 0 {
		c.Max = DefaultMemoryMax
	}
	if c.TTL == 0 {
		c.TTL = DefaultMemoryTTL
	}
	return &MemoryStore{config: c, entries: map[string]*list.Element{}, claimed: list.New(), done: list.New()}, nil
}

// Claim implements [Store]. It fails only when Max messages are in progress.
func (s *MemoryStore) Claim(_ context.Context, id string) (Claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.expire(s.claimed, now)
	s.expire(s.done, now)
	if e, ok := s.entries[id]; ok {
		if e.Value.(*memory).token == "" {
			return Claim{ID: id, State: Duplicate}, nil
		}
		return Claim{ID: id, State: InProgress}, nil
	}
	if !s.makeRoom() {
		return Claim{}, fmt.Errorf("%d messages are in progress, the limit", s.config.Max)
	}
	s.tokens++
	token := strconv.FormatUint(s.tokens, 10)
	s.entries[id] = s.claimed.PushBack(&memory{id: id, token: token, until: now.Add(s.config.Lease)})
	return Claim{ID: id, State: First, Token: token, Lease: s.config.Lease}, nil
}

// Finish implements [Store]. It never fails.
func (s *MemoryStore) Finish(_ context.Context, claim Claim, processed bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[claim.ID]
	switch {
	case !processed:
		if ok && claim.Token != "" && e.Value.(*memory).token == claim.Token {
			s.forget(s.claimed, e)
		}
		return nil
	case ok && e.Value.(*memory).token == "":
		return nil
	case ok:
		s.forget(s.claimed, e)
	}
	if s.makeRoom() { // false when other claims have filled the store since this lease ended
		s.entries[claim.ID] = s.done.PushBack(&memory{id: claim.ID, until: time.Now().Add(s.config.TTL)})
	}
	return nil
}

// Len returns how many messages are remembered or in progress.
func (s *MemoryStore) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

func (s *MemoryStore) expire(l *list.List, now time.Time) {
	for e := l.Front(); e != nil && !now.Before(e.Value.(*memory).until); e = l.Front() {
		s.forget(l, e)
	}
}

// makeRoom reports whether one more entry fits.
func (s *MemoryStore) makeRoom() bool {
	if len(s.entries) < s.config.Max {
		return true
	}
	oldest := s.done.Front()
	if oldest == nil {
		return false
	}
	s.forget(s.done, oldest)
	return true
}

func (s *MemoryStore) forget(l *list.List, e *list.Element) {
	delete(s.entries, l.Remove(e).(*memory).id)
}
