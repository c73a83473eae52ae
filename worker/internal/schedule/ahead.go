package schedule

// Ahead is how many messages are claimed and wait for a slot.
func (s *Scheduler) Ahead() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.MaxInFlight - s.ahead
}
