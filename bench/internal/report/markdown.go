package report

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// PageFile is the name of the page that -report writes beside its drawings.
const PageFile = "REPORT.md"

// WritePage writes the report as a page with its drawings into a directory, which it makes. Files of an earlier report
// are replaced; a chart that is no longer drawn stays. The page has a section for each scenario that ran, and a verdict on
// each of the design's budgets.
func WritePage(dir string, r Results, ran, all []Scenario) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("-report: %w", err)
	}
	write := func(name string, content []byte) error {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("-report: %w", err)
		}
		return nil
	}
	for _, sc := range ran {
		found := r.scenario(sc.Name)
		for n, c := range sc.Charts {
			if len(found.Rounds) == 0 {
				continue
			}
			svg, err := c.draw(sc, found).SVG()
			if err != nil {
				return fmt.Errorf("-report: the chart %q: %w", c.Title, err)
			}
			if err := write(c.File(sc, n), svg); err != nil {
				return err
			}
		}
	}
	return write(PageFile, reportPage(r, ran, all))
}

// reportPage is the report as Markdown.
func reportPage(r Results, ran, all []Scenario) []byte {
	var p page
	p.printf("# Report of the benchmark\n\n")
	p.printf("Written by `go run ./bench -report`; its README says how it measures and what the columns mean. Absolute figures\n" +
		"belong to the machine named here, **the ratios are the result**. Every figure is the median over the rounds, with its\n" +
		"spread [least..greatest].\n\n")
	if r.Short {
		p.printf("**The short form**: its trials do far less work than those of a run of record, backlogs included, so that its\n" +
			"figures show that all works rather than how fast.\n\n")
	}
	p.machine(r)
	p.promises(r, all)
	for _, sc := range ran {
		if found := r.scenario(sc.Name); len(found.Rounds) > 0 {
			p.scenario(sc, found)
		}
	}
	return p.Bytes()
}

// page is a text in Markdown.
type page struct{ bytes.Buffer }

func (p *page) printf(format string, args ...any) { _, _ = fmt.Fprintf(p, format, args...) }

// row writes one line of a table.
func (p *page) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = strings.ReplaceAll(cell, "|", `\|`)
	}
	p.printf("| %s |\n", strings.Join(cells, " | "))
}

// head begins a table. The first `texts` columns are text, aligned left. The others are figures, aligned right, except a column without a name.
func (p *page) head(texts int, cells ...string) {
	p.row(cells...)
	var rule []string
	for i, name := range cells {
		if i < texts || name == "" {
			rule = append(rule, "---")
		} else {
			rule = append(rule, "---:")
		}
	}
	p.printf("| %s |\n", strings.Join(rule, " | "))
}

func (p *page) machine(r Results) {
	p.head(2, "", "")
	for _, line := range machineLines(r) {
		p.row(line[0], line[1])
	}
	p.printf("\n")
	if noise := noiseOf(r); noise != "" {
		p.printf("%s\n\n", noise)
	}
}

// promises is the design's table with what was measured of each row.
func (p *page) promises(r Results, all []Scenario) {
	p.printf("## Budgets\n\nThe table of DESIGN.md, with what this run measured.\n\n")
	p.head(4, "budget", "target", "measured", "")
	for _, promised := range Promises() {
		sc, known := named(all, promised.Scenario)
		if !known {
			p.row(promised.What, promised.Target, "–", string(notMeasured))
			continue
		}
		measured, v := judgePromise(sc, r.scenario(sc.Name).Rounds)
		p.row(promised.What, promised.Target, measured, marked(v))
	}
	p.printf("\n")
	p.further(r, all)
}

// further is a table of the bounds that the design's has not.
func (p *page) further(r Results, all []Scenario) {
	more := furtherBounds(all)
	if len(more) == 0 {
		return
	}
	p.printf("Bounds beside that table:\n\n")
	p.head(4, "scenario", "bounds", "measured", "")
	for _, sc := range more {
		var bounds []string
		for _, b := range sc.Budgets {
			if b.Bounded() {
				bounds = append(bounds, b.Name()+" "+b.Bound())
			}
		}
		measured, v := judgePromise(sc, r.scenario(sc.Name).Rounds)
		p.row(sc.Name, strings.Join(bounds, "<br>"), measured, marked(v))
	}
	p.printf("\n")
}

// judgePromise returns what was measured for each bound of a scenario, and their verdict: met when every one is. The short
// form is too short for some.
func judgePromise(sc Scenario, rounds []Round) (measured string, all verdict) {
	var lines []string
	all = met
	for _, b := range sc.Budgets {
		if !b.Bounded() {
			continue
		}
		s := b.evaluate(rounds)
		v := b.judge(s)
		if v == missed || v == notMeasured && all == met {
			all = v
		}
		if v != notMeasured {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s: %s %s", b.Name(), b.value(s), spread(s, budgetDigits))))
		}
	}
	if len(lines) == 0 {
		return "–", notMeasured
	}
	if all == notMeasured {
		all = metSoFar
	}
	return strings.Join(lines, "<br>"), all
}

// marked makes a verdict stand out.
func marked(v verdict) string {
	if v == met || v == missed {
		return "**" + string(v) + "**"
	}
	return string(v)
}

func (p *page) scenario(sc Scenario, found ScenarioResults) {
	p.printf("## %s\n\n%s. %s.%s\n\n", sc.Name, upperFirst(sc.About), upperFirst(roundsText(len(found.Rounds))), found.when())
	for _, c := range sc.Contenders {
		p.printf("- `%s`: %s\n", c.Name, c.About)
	}
	p.printf("\n")
	p.figures(sc, found.Rounds)
	p.budgets(sc, found.Rounds)
	for n, c := range sc.Charts {
		p.printf("![%s](%s)\n\n", upperFirst(c.Title), c.File(sc, n))
	}
}

func (p *page) figures(sc Scenario, rounds []Round) {
	head := []string{"contender"}
	for _, m := range sc.Metrics {
		head = append(head, m.Title)
	}
	p.head(1, head...)
	for _, c := range sc.Contenders {
		cells := []string{"`" + c.Name + "`"}
		for _, m := range sc.Metrics {
			cells = append(cells, cell(summaryOf(rounds, c.Name, m.Name), m))
		}
		p.row(cells...)
	}
	p.printf("\n")
}

func (p *page) budgets(sc Scenario, rounds []Round) {
	if len(sc.Budgets) == 0 {
		return
	}
	p.head(1, "result", "median", "spread", "budget", "")
	for _, b := range sc.Budgets {
		s := b.evaluate(rounds)
		v := b.judge(s)
		p.row(b.Name(), b.value(s), spread(s, budgetDigits), b.Bound(), marked(v)+b.doubt(s))
	}
	p.printf("\n")
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
