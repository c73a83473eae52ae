package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

func (p *program) showCommand() *cobra.Command {
	var asJSON, body bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "show a message and every attempt",
		Long: `Shows a message: its state, what holds it back, its content, and every attempt to deliver it. In JSON the result
is base64. With --body the request body is written as it is, and nothing else.`,
		Example: `  outbox-worker show 0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10
  outbox-worker show 0190b7a5-5c3e-7c3a-9b1e-2f7d3c6a8e10 --body > body.json`,
		Args: takes(1, 1, "one message by its id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON && body {
				return usagef("--body and --json exclude each other")
			}
			id, err := outbox.ParseID(args[0])
			if err != nil {
				return err
			}
			store, err := p.store(cmd.Context())
			if err != nil {
				return err
			}
			message, err := store.Show(cmd.Context(), id)
			switch {
			case err != nil:
				return err
			case asJSON:
				return p.printJSON(message)
			case body:
				_, err := p.stdout.Write(bodyOf(message))
				return err
			}
			return p.printMessage(cmd.Context(), message)
		},
	}
	cmd.Flags().BoolVar(&body, "body", false, "write the whole request body, and nothing else")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// bodyOf returns the body of the request.
func bodyOf(m operator.MessageDetail) []byte {
	if m.Error != nil {
		return []byte(*m.Error)
	}
	return m.Result
}

func (p *program) printMessage(ctx context.Context, m operator.MessageDetail) error {
	now, err := p.now(ctx)
	if err != nil {
		return err
	}
	line := func(name, format string, args ...any) {
		p.printf("%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("message", "%s", m.ID)
	line("state", "%s", standing(m.MessageStatus, now))
	if m.WaitsFor != nil {
		line("waits for", "%s", printable(*m.WaitsFor))
	}
	if isEvent(m.MessageStatus) {
		line("kind", "event: it goes to the workers' URL for events (OUTBOX_EVENTS_URL), which stands in no row")
	} else {
		line("run", "%s, %s at step %d", printable(m.RunID), m.Status, m.FinalStep)
		line("url", "%s", printable(m.URL))
	}
	line("endpoint", "%s", orDash(printable(m.Endpoint)))
	if m.Tenant != nil {
		line("tenant", "%s", printable(*m.Tenant))
	}
	line("written", "%s (%s)", ago(now, m.CreatedAt), m.CreatedAt.UTC().Format(time.RFC3339))
	if m.ReplayOf != nil {
		line("replay of", "%s", m.ReplayOf)
	}
	if m.DedupeKey != nil {
		line("dedupe key", "%s", printable(*m.DedupeKey))
	}
	if len(m.Options) > 0 {
		line("options", "%s", printable(string(m.Options)))
	}
	name := "headers"
	for _, key := range slices.Sorted(maps.Keys(m.Headers)) {
		line(name, "%s: %s", printable(key), printable(m.Headers[key]))
		name = ""
	}
	p.printBody(m)
	p.printf("\n")
	p.printAttempts(m.AttemptList, now)
	return nil
}

// standing returns the state of a message, and what comes next.
func standing(m operator.MessageStatus, now time.Time) string {
	text := string(m.State)
	switch {
	case m.State == outbox.StateDelivering && m.LockedBy != nil && m.LockedUntil != nil:
		text += fmt.Sprintf(" by %s, lease ends %s", printable(*m.LockedBy), until(now, *m.LockedUntil))
	case m.HeldBy != nil && *m.HeldBy != operator.HeldByWorker: // what a worker lacks is on a separate line
		text += ", " + heldText(m.Hold, now)
	case m.NextAttemptAt != nil:
		text += ", next attempt " + until(now, *m.NextAttemptAt)
	case m.DeadReason != nil && m.DeadAt != nil:
		text += " " + ago(now, *m.DeadAt)
		if m.State == outbox.StateDead {
			text += ", " + *m.DeadReason
		}
		if m.DeadError != nil {
			text += ": " + printable(*m.DeadError)
		}
	}
	return text
}

// printBody prints the start of the body, enough to recognise it.
func (p *program) printBody(m operator.MessageDetail) {
	const bytesShown = 1024
	body := bodyOf(m)
	if body == nil && m.Status == outbox.Succeeded {
		p.printf("%-10s not kept: it was over %s bytes\n", "body", grouped(outbox.ResultBytesKept))
		return
	}
	size := plural(int64(len(body)), "byte")
	start := body[:min(len(body), bytesShown)]
	for len(start) > 0 && len(start) < len(body) && !utf8.RuneStart(body[len(start)]) {
		start = start[:len(start)-1]
	}
	switch {
	case !utf8.Valid(start):
		p.printf("%-10s %s, not text; --body writes them\n", "body", size)
		return
	case len(start) < len(body):
		size += fmt.Sprintf(", the first %d are shown; --body writes all", len(start))
	}
	p.printf("%-10s %s\n", "body", size)
	if len(start) > 0 {
		text := strings.TrimRight(printableText(string(start)), "\n")
		p.printf("  | %s\n", strings.ReplaceAll(text, "\n", "\n  | "))
	}
}

func (p *program) printAttempts(attempts []operator.Attempt, now time.Time) {
	if len(attempts) == 0 {
		p.printf("no attempts yet\n")
		return
	}
	const runesMax = 120
	rows := make([][]string, len(attempts))
	for i, a := range attempts {
		took, status := "-", "-"
		if a.DurationMS != nil {
			took = plainDuration(time.Duration(*a.DurationMS) * time.Millisecond)
			if *a.DurationMS == 0 {
				took = "<1ms"
			}
		}
		if a.StatusCode != nil {
			status = fmt.Sprint(*a.StatusCode)
		}
		var words []string
		for _, word := range []*string{a.Error, a.Response, a.Note} {
			if word != nil && *word != "" {
				words = append(words, *word)
			}
		}
		rows[i] = []string{
			fmt.Sprint(a.Attempt), a.StartedAt.UTC().Format(time.RFC3339), ago(now, a.StartedAt), took, a.Class, status,
			cell(a.Worker, 40), cell(strings.Join(words, " · "), runesMax),
		}
	}
	p.table([]string{"ATTEMPT", "STARTED", "", "TOOK", "RESULT", "STATUS", "WORKER", "ANSWER"}, rows)
	if attempts[len(attempts)-1].Class == "blocked" {
		p.printf("\nblocked by the settings of the worker: OUTBOX_ALLOW_HTTP, OUTBOX_ALLOWED_CIDRS, OUTBOX_ALLOWED_PORTS\n")
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
