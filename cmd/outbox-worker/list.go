package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-abbacb8b/epilogue/internal/event"
	"github.com/seed-abbacb8b/epilogue/outbox"
	"github.com/seed-abbacb8b/epilogue/outbox/operator"
)

// listFlags are the flags of the command list.
type listFlags struct {
	states               []string
	endpoint, runID      string
	tenant               tenantName
	olderThan, newerThan age
	limit                int
	all                  bool
	columns              []string
	asJSON, ids          bool
}

// listLook is how many messages the list looks at without --all: more would take too long.
const listLook = 100_000

// listLimitMax bounds the memory of a list: a few hundred MB at the very most.
const listLimitMax = 100_000

func (p *program) listCommand() *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list messages, the newest first",
		Long: `Lists messages, the newest first. The states are pending (not tried yet), delivering (leased by a worker), retrying,
delivered, dead (given up) and cancelled. LAST says how the last attempt ended, why a message was given up, or what the
workers lack to send it: a signing key, their proxy. For a message that is held back, NEXT says until when, and LAST
says what holds it back: a pause, a circuit breaker, a Retry-After, a rate. An empty list is no error. An event for an
operator shows (event) instead of a run; --endpoint event lists events.

There is no index of tenants, endpoints and delivered messages. So the list looks at the newest 100 000 messages only
(with a --state of due or dead ones, at the newest of these), and says so when there are more. --all looks at all,
however long that takes. A run (--run-id) is found at once.`,
		Example: `  outbox-worker list --state dead,retrying --newer-than 24h
  outbox-worker list --endpoint https://hooks.example.com --state pending --limit 20
  outbox-worker list --run-id run-4711
  outbox-worker list --tenant acme --state dead,retrying
  outbox-worker list --state dead --ids | outbox-worker replay -`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.list(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.states, "state", nil, "only these states; repeat it or separate with commas")
	flags.StringVar(&f.endpoint, "endpoint", "", "only this endpoint, as https://HOST[:PORT]; event for events")
	flags.StringVar(&f.runID, "run-id", "", "only messages of this run")
	tenantFlag(cmd, &f.tenant, "only this tenant's messages")
	flags.Var(&f.olderThan, "older-than", "written at least this long ago, like 90s, 15m, 36h or 7d")
	flags.Var(&f.newerThan, "newer-than", "written at most this long ago, whenever it died or was delivered")
	flags.IntVar(&f.limit, "limit", operator.ListLimit, "how many to list at most")
	flags.BoolVar(&f.all, "all", false, "look at all messages, not only at the newest 100 000")
	flags.StringSliceVar(&f.columns, "columns", nil, "only these columns, in this order: "+strings.Join(columnNames(), ", "))
	flags.BoolVar(&f.ids, "ids", false, "print the ids only, one per line")
	jsonFlag(cmd, &f.asJSON)
	completeFlag(cmd, "state", completeStates)
	return cmd
}

func (f listFlags) filter() (operator.Filter, error) {
	filter := operator.Filter{
		Look:     listLook,
		Endpoint: f.endpoint, RunID: f.runID, Limit: f.limit,
		OlderThan: time.Duration(f.olderThan), NewerThan: time.Duration(f.newerThan),
	}
	if f.all {
		filter.Look = 0
	}
	var faults []error
	for _, word := range f.states {
		state := outbox.State(strings.ToLower(strings.TrimSpace(word)))
		if !slices.Contains(outbox.States, state) {
			faults = append(faults, usagef("--state %.64q: there is no such state; want %s%s", word,
				strings.Join(stateNames(), ", "), didYouMean(string(state), stateNames())))
		}
		filter.States = append(filter.States, state)
	}
	if f.endpoint != "" && f.endpoint != event.Lane {
		faults = append(faults, checkEndpoint(f.endpoint))
	}
	for _, name := range f.columns {
		if !slices.Contains(columnNames(), name) {
			faults = append(faults, usagef("--columns %.64q: there is no such column; want %s%s", name, strings.Join(columnNames(), ", "), didYouMean(name, columnNames())))
		}
	}
	if f.ids && f.asJSON {
		faults = append(faults, usagef("--ids and --json exclude each other"))
	}
	if f.limit < 1 || f.limit > listLimitMax {
		faults = append(faults, usagef("--limit is %d; want 1 to %d", f.limit, listLimitMax))
	}
	if f.newerThan > 0 && f.newerThan <= f.olderThan {
		faults = append(faults, usagef("--newer-than %s and --older-than %s leave nothing between them", &f.newerThan, &f.olderThan))
	}
	return filter, errors.Join(faults...)
}

// checkEndpoint refuses an endpoint that is not in the form of the tables: another spelling would match nothing, without an
// error.
func checkEndpoint(endpoint string) error {
	canonical, err := outbox.CheckURL(endpoint)
	if err != nil {
		return usagef("endpoint %.200q: %v", endpoint, err)
	}
	if canonical != endpoint {
		return usagef("endpoint %.200q: want the origin of the URL, %s", endpoint, canonical)
	}
	return nil
}

func (p *program) list(ctx context.Context, f listFlags) error {
	filter, err := f.filter()
	if err != nil {
		return err
	}
	filter.Limit++ // one more, to know whether there are more
	store, err := p.storeOf(ctx, f.tenant)
	if err != nil {
		return err
	}
	page, err := store.ListPage(ctx, filter)
	if err != nil {
		return err
	}
	messages := page.Messages
	if page.Beyond {
		defer p.say("looked only at the newest %s; messages written before %s are not listed; --all looks at all", counted(listLook, "message", "messages"), page.Since.UTC().Format("2006-01-02 15:04:05Z"))
	}
	if len(messages) > f.limit {
		messages = messages[:f.limit]
		defer p.say("only the newest %s listed; --limit lists more", counted(int64(f.limit), "is", "are"))
	}
	switch {
	case f.asJSON:
		if messages == nil {
			messages = []operator.MessageStatus{}
		}
		err = p.printJSON(messages)
	case f.ids:
		for _, m := range messages {
			p.printf("%s\n", m.ID)
		}
	case len(messages) == 0:
		p.say("no messages")
	default:
		err = p.printMessages(ctx, messages, f.columns)
	}
	return err
}

// listColumns are the columns of a list. TENANT is left out where no message names one.
var listColumns = []string{"ID", "STATE", "RUN", "STATUS", "ENDPOINT", "TENANT", "ATTEMPTS", "WRITTEN", "NEXT", "LAST"}

// columnNames are the columns as --columns names them.
func columnNames() []string {
	names := make([]string, len(listColumns))
	for i, name := range listColumns {
		names[i] = strings.ToLower(name)
	}
	return names
}

// chosen are the columns of a table with these names, in this order. One that the table has not is empty.
func chosen(header []string, rows [][]string, names []string) ([]string, [][]string) {
	lines := make([][]string, len(rows)+1)
	for _, name := range names {
		at := slices.Index(header, strings.ToUpper(name))
		lines[0] = append(lines[0], strings.ToUpper(name))
		for i := range rows {
			text := ""
			if at >= 0 {
				text = rows[i][at]
			}
			lines[i+1] = append(lines[i+1], text)
		}
	}
	return lines[0], lines[1:]
}

// printMessages prints the columns with these names; all of them, as far as they fit the terminal, when there are none.
func (p *program) printMessages(ctx context.Context, messages []operator.MessageStatus, columns []string) error {
	now, err := p.now(ctx)
	if err != nil {
		return err
	}
	header := []string{"ID", "STATE", "RUN", "STATUS", "ENDPOINT", "ATTEMPTS", "WRITTEN", "NEXT", "LAST"}
	rows := make([][]string, len(messages))
	for i, m := range messages {
		rows[i] = []string{
			m.ID.String(), string(m.State), runOf(m), statusOf(m), cell(m.Endpoint, 50),
			fmt.Sprint(m.Attempts), ago(now, m.CreatedAt), nextAttempt(m, now), lastWord(m, now),
		}
	}
	tenantOf := func(i int) *string { return messages[i].Tenant }
	header, rows = withTenants(header, rows, 5, tenantOf)
	if len(columns) > 0 {
		header, rows = chosen(header, rows, columns)
		p.table(header, rows)
		return nil
	}
	p.table(header, rows, "STATUS", "ATTEMPTS", "RUN", "TENANT", "WRITTEN", "ENDPOINT", "NEXT", "STATE")
	return nil
}

// runOf and statusOf mark an event, which has no run.
func runOf(m operator.MessageStatus) string {
	if isEvent(m) {
		return "(event)"
	}
	return cell(m.RunID, 40)
}

func statusOf(m operator.MessageStatus) string {
	if isEvent(m) {
		return "-"
	}
	return string(m.Status)
}

func isEvent(m operator.MessageStatus) bool { return m.Kind != nil && *m.Kind == operator.KindEvent }

// withTenants adds the column TENANT to a table, if any of its rows has a tenant.
func withTenants(header []string, rows [][]string, column int, tenantOf func(row int) *string) ([]string, [][]string) {
	named := false
	for i := range rows {
		named = named || tenantOf(i) != nil
	}
	if !named {
		return header, rows
	}
	for i := range rows {
		name := "-"
		if t := tenantOf(i); t != nil {
			name = cell(*t, 40)
		}
		rows[i] = slices.Insert(rows[i], column, name)
	}
	return slices.Insert(header, column, "TENANT"), rows
}

// nextAttempt says when a message is tried next, which is not before its hold ends; for one that is being delivered, when its
// lease ends.
func nextAttempt(m operator.MessageStatus, now time.Time) string {
	switch {
	case m.State == outbox.StateDelivering && m.LockedUntil != nil:
		return "lease ends " + until(now, *m.LockedUntil)
	case m.HeldBy != nil && m.HeldUntil == nil:
		return "when resumed"
	case m.HeldBy != nil:
		return until(now, *m.HeldUntil)
	case m.NextAttemptAt != nil:
		return until(now, *m.NextAttemptAt)
	}
	return "-"
}

// lastWord says what holds a message back, what it waits for, how its last attempt ended, or why it was given up.
func lastWord(m operator.MessageStatus, now time.Time) string {
	const runesMax = 70
	var parts []string
	switch {
	case m.HeldBy != nil && *m.HeldBy != operator.HeldByWorker:
		parts = append(parts, heldShort(m.Hold, now))
	case m.WaitsFor != nil:
		parts = append(parts, "waits for", *m.WaitsFor)
	case m.DeadReason != nil:
		if m.State == outbox.StateDead { // for a cancelled one, the reason repeats the state
			parts = append(parts, *m.DeadReason)
		}
		if m.DeadError != nil {
			parts = append(parts, *m.DeadError)
		}
	default:
		if m.LastStatusCode != nil {
			parts = append(parts, fmt.Sprint(*m.LastStatusCode))
		} else if m.LastClass != nil {
			parts = append(parts, *m.LastClass)
		}
		if m.LastError != nil {
			parts = append(parts, *m.LastError)
		}
	}
	return cell(strings.Join(parts, ": "), runesMax)
}

func stateNames() []string {
	names := make([]string, len(outbox.States))
	for i, s := range outbox.States {
		names[i] = string(s)
	}
	return names
}
