package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Print prints the machine, then for each scenario the figures of each contender and the ratios.
func Print(out io.Writer, r Results, ran []Scenario) {
	printMachine(out, r)
	missedBudgets := 0
	for _, sc := range ran {
		found := r.scenario(sc.Name)
		rounds := found.Rounds
		if len(rounds) == 0 {
			continue // the run ended before it
		}
		_, _ = fmt.Fprintf(out, "\n%s: %s.%s\n\n", sc.Name, sc.About, found.when())
		printFigures(out, sc, rounds)
		missedBudgets += printBudgets(out, sc, rounds)
	}
	_, _ = fmt.Fprintf(out, "\nMedians of %s (long scenarios: fewer), with [min..max]. Budgets missed: %d.\n", roundsText(r.Rounds), missedBudgets)
	if noise := noiseOf(r); noise != "" {
		_, _ = fmt.Fprintln(out, noise)
	}
}

func roundsText(n int) string {
	if n == 1 {
		return "1 round"
	}
	return fmt.Sprintf("%d rounds", n)
}

// noiseOf says how many trials were disturbed. It says nothing when the machine was quiet.
func noiseOf(r Results) string {
	trials, noisy, worst := 0, 0, 0.0
	for _, sc := range r.Scenarios {
		for _, round := range sc.Rounds {
			for _, s := range round {
				trials++
				if s.Disturbed() {
					noisy++
					worst = max(worst, s[OthersMetric])
				}
			}
		}
	}
	if noisy == 0 {
		return ""
	}
	return fmt.Sprintf("The machine was not quiet: in %d of %d trials other processes used more than %.0f %% of it, at worst %.0f %%.",
		noisy, trials, noisyPercent, worst)
}

func printMachine(out io.Writer, r Results) {
	w := table(out)
	for _, line := range machineLines(r) {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
	}
	_ = w.Flush()
}

// machineLines say where and when the figures were measured, each by a name and a text.
func machineLines(r Results) [][2]string {
	form := "full"
	if r.Short {
		form = "short"
	}
	m := r.Machine
	return [][2]string{
		{"machine", fmt.Sprintf("%s, %d cores, %.1f GiB, %s", m.CPU, m.Cores, m.MemoryGiB, m.System)},
		{"versions", fmt.Sprintf("%s, Postgres %s", m.Go, m.Postgres)},
		{"Postgres", m.Settings},
		{"disk", fmt.Sprintf("%.2f ms to write 8 KiB and sync", m.SyncMS)},
		{"load before", fmt.Sprintf("%s (1 min average of runnable processes)", Number(m.LoadBefore, 2))},
		{"run", fmt.Sprintf("%s, %s, %.0f s", form, r.Started.Format("2006-01-02 15:04 MST"), r.Seconds)},
	}
}

func printFigures(out io.Writer, sc Scenario, rounds []Round) {
	w := table(out)
	_, _ = fmt.Fprint(w, "  contender")
	for _, m := range sc.Metrics {
		_, _ = fmt.Fprintf(w, "\t%s", m.Title)
	}
	_, _ = fmt.Fprintln(w)
	for _, c := range sc.Contenders {
		_, _ = fmt.Fprintf(w, "  %s", c.Name)
		for _, m := range sc.Metrics {
			_, _ = fmt.Fprintf(w, "\t%s", cell(summaryOf(rounds, c.Name, m.Name), m))
		}
		_, _ = fmt.Fprintln(w)
	}
	_ = w.Flush()
}

func printBudgets(out io.Writer, sc Scenario, rounds []Round) (missedBudgets int) {
	if len(sc.Budgets) == 0 {
		return 0
	}
	_, _ = fmt.Fprintln(out)
	w := table(out)
	_, _ = fmt.Fprintln(w, "  result\tmedian\tspread\tbudget\t")
	for _, b := range sc.Budgets {
		s := b.evaluate(rounds)
		v := b.judge(s)
		if v == missed {
			missedBudgets++
		}
		_, _ = fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s%s\n", b.Name(), b.value(s), spread(s, budgetDigits), b.Bound(),
			v, b.doubt(s))
	}
	_ = w.Flush()
	return missedBudgets
}

func table(out io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(out, 0, 0, 3, ' ', 0) }

func cell(s summary, m Metric) string {
	if m.Detail || s.n < 2 {
		return Number(s.median, m.Digits)
	}
	return Number(s.median, m.Digits) + " " + spread(s, m.Digits)
}

func spread(s summary, digits int) string {
	if s.n < 2 {
		return ""
	}
	return "[" + Number(s.min, digits) + ".." + Number(s.max, digits) + "]"
}

// Number groups the digits before the point by threes: 27 410.5. A value that was not measured is a dash.
func Number(v float64, digits int) string {
	if math.IsNaN(v) {
		return "–"
	}
	if math.Abs(v) < 0.5*math.Pow10(-digits) {
		v = 0 // never -0
	}
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(v, 'f', digits, 64), ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + " " + whole[i:]
	}
	if fraction != "" {
		fraction = "." + fraction
	}
	return sign + whole + fraction
}
