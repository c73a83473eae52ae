package worker

import "sync"

// maximum counts how many things were under way at once at most.
type maximum struct {
	mu        sync.Mutex
	now, most int
}

func (m *maximum) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now++
	m.most = max(m.most, m.now)
}

func (m *maximum) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now--
}

func (m *maximum) seen() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.most
}
