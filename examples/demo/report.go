package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/compare"
	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/latency"
	"github.com/seed-abbacb8b/epilogue/examples/demo/internal/receiver"
	"github.com/seed-abbacb8b/epilogue/internal/throwaway"
)

// errVerdict says that the comparison found a fault, which was printed already.
var errVerdict = errors.New("the comparison found a fault")

// judge compares what was committed with what arrived, and prints the result.
func (d *demo) judge(ctx context.Context) error {
	e, err := d.evidence(ctx)
	if err != nil {
		return err
	}
	record := d.receiver.Record()
	v := compare.Records{Outcomes: e.outcomes, Messages: e.messages, Arrivals: record.Arrivals}.Verdict()
	d.tellCounts(e, v, record)
	d.tellLatency(v)
	sound := d.tellVerdict(e, v, record)
	d.told = true
	d.tellNext(ctx)
	if !sound {
		return errVerdict
	}
	return nil
}

func (d *demo) tellCounts(e evidence, v compare.Verdict, record receiver.Record) {
	count := func(n int, format string, args ...any) { d.story.line("  %7d  %s", n, fmt.Sprintf(format, args...)) }
	d.story.line("\nWhat was committed, and what arrived\n")
	count(v.Outcomes, "outcomes committed by the service: %d succeeded, %d failed, %d cancelled",
		e.statuses["succeeded"], e.statuses["failed"], e.statuses["cancelled"])
	count(len(e.rolledBack), "outcomes rolled back on purpose, message and all, and made again")
	count(v.Messages, "messages in the outbox")
	count(v.Arrived, "messages arrived, in %d requests: %d repeats, %d answered with 503 and sent again",
		len(record.Arrivals)+record.Refusals, v.Repeats, record.Refusals)
	if took := v.AllAt.Sub(d.course.begun).Seconds(); v.Arrived > 0 {
		count(int(float64(v.Arrived)/took), "messages per second, with all the service's own work on the same machine")
	}
}

func (d *demo) tellLatency(v compare.Verdict) {
	d.story.line("\nFrom just before the commit to the arrival (messages per range)\n")
	var bars strings.Builder
	_ = latency.Write(&bars, v.Latencies, "  ") // a strings.Builder takes everything
	d.story.line("%s", strings.TrimRight(bars.String(), "\n"))
	at := func(share float64) string { return latency.Short(latency.Quantile(v.Latencies, share)) }
	d.story.line("\n  half of them within %s, 99 %% within %s, all within %s", at(0.5), at(0.99), at(1))
	c := d.course
	if c.killedAt.IsZero() {
		return
	}
	for _, at := range v.RepeatsAt {
		if at.After(c.killedAt) {
			d.story.line("  the first message that the killed worker left without an answer came again %s after the kill",
				latency.Short(at.Sub(c.killedAt)))
			return
		}
	}
}

// tellVerdict reports whether all is well.
func (d *demo) tellVerdict(e evidence, v compare.Verdict, record receiver.Record) bool {
	d.story.line("\nVerdict\n")
	sound := true
	check := func(faults []string, format string, args ...any) {
		mark := "ok   "
		if len(faults) > 0 {
			mark, sound = "FAULT", false
		}
		d.story.line("  %s  %s", mark, fmt.Sprintf(format, args...))
		d.tellSome(faults)
	}
	check(d.unended(e), "every run ended: %d of %d", d.runs-e.unended, d.runs)
	check(append(v.Unwritten, append(v.Unfounded, v.Doubled...)...), "each outcome has its message, and each message its outcome: %d and %d",
		v.Outcomes, v.Messages)
	check(d.course.torn, "so it was at each of %d looks in mid-run, too", d.course.looks)
	check(v.Missing, "every committed outcome arrived: %d of %d", v.Outcomes-len(v.Missing), v.Outcomes)
	check(v.Phantoms, "phantoms, arrived but never committed: %d; %d outcomes were rolled back to provoke them", len(v.Phantoms), len(e.rolledBack))
	check(v.Altered, "what arrived is what was committed, by status and SHA-256 of the body: %d differ", len(v.Altered))
	check(record.Faults, "nothing else came to the receiver")
	d.story.line("  %s  repeats: %d, each under the webhook-id of the first, so a receiver can drop them", "note ", v.Repeats)
	if e.dead > 0 {
		d.story.line("  %s  %d messages are dead; -keep leaves the database: TABLE %s", "note ", e.dead, d.in("outbox.dead_message"))
	}
	return sound
}

func (d *demo) unended(e evidence) []string {
	if e.unended == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d runs have not ended", e.unended)}
}

// tellSome names a few of the faults.
func (d *demo) tellSome(faults []string) {
	const linesMax = 5
	for _, f := range faults[:min(len(faults), linesMax)] {
		d.story.line("         - %s", f)
	}
	if more := len(faults) - linesMax; more > 0 {
		d.story.line("         - and %d more", more)
	}
}

// tellNext says where to look, and with -keep lets the reader do so.
func (d *demo) tellNext(ctx context.Context) {
	if !d.options.keep {
		d.story.line("\nNext: `go run ./examples/demo -keep` leaves the database to look into; examples/README.md embeds the hook in a")
		d.story.line("service of your own; README.md says how to run the worker.")
		return
	}
	d.story.line("\nLook into the database:\n\n  psql %s\n", d.where())
	for _, query := range []string{
		`TABLE outbox.overview`,
		`SELECT run_id, status, state, attempts FROM outbox.status WHERE attempts > 1 LIMIT 10`,
		`SELECT class, status_code, count(*) FROM outbox.attempt GROUP BY 1, 2`,
		`SELECT convert_from(result, 'UTF8')::jsonb->>'verdict' AS verdict, count(*) FROM demo.run GROUP BY 1 ORDER BY 2 DESC`,
	} {
		d.story.line("  %s;", d.in(query))
	}
	if !d.server.Owned() {
		d.story.line("\nAfterwards: DROP SCHEMA %s, %s CASCADE", d.outboxSchema, d.serviceSchema)
		return
	}
	d.story.line("\nIt is removed when you press Ctrl-C.")
	<-ctx.Done()
}

// where is the argument for psql. The URL of a server that the environment names may have a password in it.
func (d *demo) where() string {
	if d.server.Owned() {
		return `"` + d.server.URL() + `"`
	}
	return `"$` + throwaway.URLVariable + `"`
}
