package delivery

import (
	"errors"
	"net/url"
	"sync"

	"github.com/seed-abbacb8b/epilogue/internal/callback"
)

// targets remembers normalized URLs, because normalizing takes a twentieth of a sender's time and most messages go
// to few URLs. The zero value is ready.
type targets struct {
	mu sync.RWMutex
	of map[string]target
}

type target struct {
	url      *url.URL // shared by all requests to it: nobody changes it
	endpoint string
}

var errNoURL = errors.New("url: cannot be used in a request") // its own text would quote it

// targetsKept bounds what is remembered; when it is full, everything is forgotten. URLs are 2 KiB at most.
const targetsKept = 1024

// normal is the URL in its canonical form (package callback), parsed.
func (t *targets) normal(raw string) (target, error) {
	t.mu.RLock()
	known, ok := t.of[raw]
	t.mu.RUnlock()
	if ok {
		return known, nil
	}
	normal, endpoint, err := callback.Normalize(raw)
	if err != nil {
		return target{}, err
	}
	parsed, err := url.Parse(normal)
	if err != nil {
		return target{}, errNoURL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil || len(t.of) >= targetsKept {
		t.of = make(map[string]target)
	}
	t.of[raw] = target{parsed, endpoint}
	return t.of[raw], nil
}
