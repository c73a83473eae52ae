package testdb

import "github.com/seed-abbacb8b/epilogue/outbox"

// Outcome returns the outcome of a succeeded run, with the header of its URL. An empty URL leaves the header out.
func Outcome(runID, url string) outbox.RunOutcome {
	o := outbox.RunOutcome{RunID: runID, Status: outbox.Succeeded, Result: []byte(`{"ok":true}`), FinalStep: 2}
	if url != "" {
		o.Headers = map[string]string{"callback_url": url}
	}
	return o
}
