package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
)

// printDelivery returns the function that prints deliveries, one after the other: a line, or one JSON object per line.
func (p *program) printDelivery(f receiveFlags) func(delivery) {
	var mu sync.Mutex
	headed := false
	lines := json.NewEncoder(p.stdout)
	lines.SetEscapeHTML(false)
	return func(d delivery) {
		mu.Lock()
		defer mu.Unlock()
		if f.json {
			_ = lines.Encode(d) // output keeps its error
			return
		}
		if !headed {
			p.printf("%-12s  %-6s  %-36s  %-24s  %-9s  %7s\n", "TIME", "ANSWER", "WEBHOOK-ID", "RUN", "ENDED", "BYTES")
			headed = true
		}
		line := fmt.Sprintf("%-12s  %-6s  %-36s  %-24s  %-9s  %7d  %s", d.Time.Format("15:04:05.000"), answerText(d),
			orDash(cell(d.WebhookID, 64)), orDash(cell(d.RunID, 40)), orDash(cell(d.RunStatus, 20)), d.Bytes, remark(d))
		p.printf("%s\n", strings.TrimRight(line, " "))
		if d.Body != nil && *d.Body != "" {
			p.printf("  | %s\n", strings.ReplaceAll(strings.TrimRight(printableText(*d.Body), "\n"), "\n", "\n  | "))
		}
	}
}

func answerText(d delivery) string {
	if d.fault != "" {
		return d.fault
	}
	return fmt.Sprint(d.Answer)
}

// remark says whose signature it was, and whether it is a repeat.
func remark(d delivery) string {
	var words []string
	switch {
	case d.Verified == nil:
	case *d.Verified:
		words = append(words, fmt.Sprintf("verified by key %d", d.Key))
	default:
		words = append(words, "NOT VERIFIED: "+cell(d.NotVerified, 200))
	}
	if repeat := repeatText(d); repeat != "" {
		words = append(words, repeat)
	}
	return strings.Join(words, "; ")
}

// repeatText marks a repeat of a webhook-id.
func repeatText(d delivery) string {
	switch {
	case d.Duplicate:
		return fmt.Sprintf("DUPLICATE: arrival %d of an accepted message", d.Attempt)
	case d.Attempt > 1:
		return fmt.Sprintf("retry: attempt %d", d.Attempt)
	}
	return ""
}

func (p *program) printSummary(s summary, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(p.stdout).Encode(s)
	}
	p.printf("\n%s for %s: %s accepted, %s refused, %s unanswered; %s, %s\n", plural(s.Requests, "request"),
		plural(s.Messages, "message"), grouped(s.Accepted), grouped(s.Refused), grouped(s.Unanswered),
		counted(s.Retries, "retry", "retries"), plural(s.Duplicates, "duplicate"))
	if s.Unnamed > 0 {
		p.printf("%s without a webhook-id\n", plural(s.Unnamed, "request"))
	}
	if s.Unverified > 0 {
		p.printf("%s refused: not verified\n", plural(s.Unverified, "request"))
	}
	if s.Forgotten > 0 {
		p.printf("%s forgotten, the oldest; repeats of them counted as new messages\n", plural(s.Forgotten, "id"))
	}
	return nil
}
