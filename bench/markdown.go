package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// reportFile is what -report writes beside its drawings.
const reportFile = "REPORT.md"

// writeReport writes the report as a page with its drawings into a directory, which it makes. Files of an earlier report
// are replaced; one of a chart that is no more stays.
func writeReport(dir string, r results, ran []scenario) error {
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
		found := r.scenario(sc.name)
		for n, c := range sc.charts {
			if len(found.Rounds) == 0 {
				continue
			}
			if err := write(c.file(sc, n), c.draw(sc, found).SVG()); err != nil {
				return err
			}
		}
	}
	return write(reportFile, reportPage(r, ran))
}

// reportPage is the report as Markdown.
func reportPage(r results, ran []scenario) []byte {
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
	p.promises(r)
	for _, sc := range ran {
		if found := r.scenario(sc.name); len(found.Rounds) > 0 {
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

// head begins a table. Columns after the first so many of text are figures, to the right; one without a name is text.
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

func (p *page) machine(r results) {
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
func (p *page) promises(r results) {
	p.printf("## Budgets\n\nThe table of DESIGN.md, with what this run measured.\n\n")
	p.head(4, "budget", "target", "measured", "")
	for _, promised := range promises() {
		sc, known := scenarioNamed(promised.scenario)
		if !known {
			p.row(promised.what, promised.target, "–", string(notMeasured))
			continue
		}
		measured, v := judgePromise(sc, r.scenario(sc.name).Rounds)
		p.row(promised.what, promised.target, measured, marked(v))
	}
	p.printf("\n")
	p.further(r)
}

// further is a table of the bounds that the design's has not.
func (p *page) further(r results) {
	more := furtherBounds()
	if len(more) == 0 {
		return
	}
	p.printf("Bounds beside that table:\n\n")
	p.head(4, "scenario", "bounds", "measured", "")
	for _, sc := range more {
		var bounds []string
		for _, b := range sc.budgets {
			if b.bounded() {
				bounds = append(bounds, b.name()+" "+b.bound())
			}
		}
		measured, v := judgePromise(sc, r.scenario(sc.name).Rounds)
		p.row(sc.name, strings.Join(bounds, "<br>"), measured, marked(v))
	}
	p.printf("\n")
}

// judgePromise says what was measured of each bound of a scenario, and what they come to: met when every one is. The short
// form is too short for some.
func judgePromise(sc scenario, rounds []round) (measured string, all verdict) {
	var lines []string
	all = met
	for _, b := range sc.budgets {
		if !b.bounded() {
			continue
		}
		s := b.evaluate(rounds)
		v := b.judge(s)
		if v == missed || v == notMeasured && all == met {
			all = v
		}
		if v != notMeasured {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s: %s %s", b.name(), b.value(s), spread(s, budgetDigits))))
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

func (p *page) scenario(sc scenario, found scenarioResults) {
	p.printf("## %s\n\n%s. %s.\n\n", sc.name, upperFirst(sc.about), upperFirst(roundsText(len(found.Rounds))))
	for _, c := range sc.contenders {
		p.printf("- `%s`: %s\n", c.name, c.about)
	}
	p.printf("\n")
	p.figures(sc, found.Rounds)
	p.budgets(sc, found.Rounds)
	for n, c := range sc.charts {
		p.printf("![%s](%s)\n\n", upperFirst(c.title), c.file(sc, n))
	}
}

func (p *page) figures(sc scenario, rounds []round) {
	head := []string{"contender"}
	for _, m := range sc.metrics {
		head = append(head, m.title)
	}
	p.head(1, head...)
	for _, c := range sc.contenders {
		cells := []string{"`" + c.name + "`"}
		for _, m := range sc.metrics {
			cells = append(cells, cell(summaryOf(rounds, c.name, m.name), m))
		}
		p.row(cells...)
	}
	p.printf("\n")
}

func (p *page) budgets(sc scenario, rounds []round) {
	if len(sc.budgets) == 0 {
		return
	}
	p.head(1, "result", "median", "spread", "budget", "")
	for _, b := range sc.budgets {
		s := b.evaluate(rounds)
		v := b.judge(s)
		p.row(b.name(), b.value(s), spread(s, budgetDigits), b.bound(), marked(v)+b.doubt(s))
	}
	p.printf("\n")
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
