package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/seed-abbacb8b/epilogue/internal/testdb"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// question is a query of an alert rule or of the dashboard, and the labels that its text shows.
type question struct {
	where, expr string
	shows       []string // labels
	alert       bool
}

type alertRule struct {
	Alert, Expr, For    string
	Annotations, Labels map[string]string
}

func alertRules(t *testing.T) []alertRule {
	t.Helper()
	text, err := os.ReadFile("../../monitoring/outbox.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []alertRule } }
	if err := yaml.Unmarshal(text, &file); err != nil || len(file.Groups) != 1 {
		t.Fatalf("the file has %d groups of rules, %v; want 1", len(file.Groups), err)
	}
	return file.Groups[0].Rules
}

// questions returns all queries of the rules and of the dashboard, with values in place of the dashboard's variables.
func questions(t *testing.T) (all []question) {
	t.Helper()
	shown := func(pattern, text string) (labels []string) {
		for _, found := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			labels = append(labels, found[1])
		}
		return labels
	}
	for _, r := range alertRules(t) {
		all = append(all, question{"alert " + r.Alert, r.Expr, shown(`\$labels\.(\w+)`, r.Annotations["summary"]), true})
	}
	text, err := os.ReadFile("../../monitoring/grafana/outbox.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct{ List []struct{ Definition string } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$outbox", ".*")
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			all = append(all, question{"panel " + p.Title, variables.Replace(target.Expr), shown(`\{\{ *(\w+) *\}\}`, target.LegendFormat), false})
		}
	}
	for _, v := range dashboard.Templating.List {
		if found := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Definition); found != nil {
			all = append(all, question{"variable", "count by (" + found[2] + ") (" + found[1] + ")", nil, false})
		}
	}
	return all
}

// series is a time series.
type series struct {
	name   string
	labels map[string]string
}

var label = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"`)

// seriesOf reads the text of /metrics. Prometheus adds the labels job and instance, and the metric up.
func seriesOf(metrics string) []series {
	scraped := func() map[string]string { return map[string]string{"job": "outbox-worker", "instance": "w:1"} }
	all := []series{{"up", scraped()}}
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name := line[:strings.IndexAny(line, "{ ")]
		s := series{name, scraped()}
		for _, found := range label.FindAllStringSubmatch(line[len(name):], -1) {
			s.labels[found[1]] = found[3]
		}
		all = append(all, s)
	}
	return all
}

// selector is a metric of a query, with its matchers.
type selector struct{ name, matchers string }

// matches returns the series that a selector selects.
func (x selector) matches(all []series) (found []series) {
	for _, s := range all {
		ok := s.name == x.name
		for _, m := range label.FindAllStringSubmatch(x.matchers, -1) {
			value, is := s.labels[m[1]], false
			if strings.HasSuffix(m[2], "~") {
				is = regexp.MustCompile("^(?:" + m[3] + ")$").MatchString(value)
			} else {
				is = value == m[3]
			}
			ok = ok && is != strings.HasPrefix(m[2], "!")
		}
		if ok {
			found = append(found, s)
		}
	}
	return found
}

var (
	matched  = regexp.MustCompile(`(\w+)(\{[^}]*\})`)
	grouping = regexp.MustCompile(`\b(by|on|without|ignoring)\s*\(([^)]*)\)`)
	ranges   = regexp.MustCompile(`\[[^\]]*\]`)
	word     = regexp.MustCompile(`[a-zA-Z_]\w*\s*\(?`)
)

// parts returns a query's metrics, the labels that it groups by, and the labels that its matchers name.
func parts(expr string) (metrics []selector, groups, named []string) {
	for _, found := range matched.FindAllStringSubmatch(expr, -1) {
		metrics = append(metrics, selector{found[1], found[2]})
		for _, m := range label.FindAllStringSubmatch(found[2], -1) {
			named = append(named, m[1])
		}
	}
	rest := matched.ReplaceAllString(expr, " ")
	for _, found := range grouping.FindAllStringSubmatch(rest, -1) {
		groups = append(groups, strings.FieldsFunc(found[2], func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	rest = ranges.ReplaceAllString(grouping.ReplaceAllString(rest, " "), " ")
	for _, found := range word.FindAllString(rest, -1) {
		if name := strings.TrimSpace(found); !strings.HasSuffix(name, "(") && !slices.Contains([]string{"and", "or", "unless", "bool", "offset"}, name) {
			metrics = append(metrics, selector{name, ""})
		}
	}
	return metrics, groups, named
}

// fault says what is wrong with a query, given the series of a worker.
func (q question) fault(all []series) string {
	metrics, groups, named := parts(q.expr)
	there := map[string]bool{}
	for _, x := range metrics {
		found := x.matches(all)
		if len(found) == 0 {
			return fmt.Sprintf("%s: there is no %s%s", q.where, x.name, x.matchers)
		}
		for _, s := range found {
			for name := range s.labels {
				there[name] = true
			}
		}
	}
	for _, name := range append(groups, named...) {
		if !there[name] {
			return fmt.Sprintf("%s: no label %s in %v", q.where, name, slices.Sorted(maps.Keys(there)))
		}
	}
	kept := there
	if len(groups) > 0 {
		kept = map[string]bool{}
		for _, name := range groups {
			kept[name] = true
		}
	}
	for _, name := range q.shows {
		if !kept[name] {
			return fmt.Sprintf("%s shows the label %s, and %q leaves %v", q.where, name, q.expr, slices.Sorted(maps.Keys(kept)))
		}
	}
	return ""
}

// underLoad starts a worker with messages that are delivered, fail and wait, and returns its admin address.
func underLoad(t *testing.T) (admin string) {
	t.Helper()
	db := testdb.New(t)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fails":
			w.WriteHeader(http.StatusInternalServerError)
		case "/refuses":
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(receiver.Close)
	_, admin = beginWorker(t, append(environment(db), "OUTBOX_SAMPLE_INTERVAL=1s", "OUTBOX_RETRY_SCHEDULE=10ms"))
	for i := range 60 {
		m := outbox.Message{Outcome: testdb.Outcome("run", receiver.URL), URL: receiver.URL + []string{"/", "/fails", "/refuses"}[i%3]}
		if i%10 == 0 {
			m.Options.SigningKey = "nobody"
		}
		written(t, db, m)
	}
	return admin
}

// An alert about a metric that does not exist never fires, and nobody notices.
func TestEachQueryOfRulesAndDashboardNamesMetricsOfAWorkerUnderLoad(t *testing.T) {
	t.Parallel()
	admin := underLoad(t)
	var faults []string
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // no event tells when a metric has changed
		_, metrics := get(t, "http://"+admin+"/metrics")
		all := seriesOf(metrics)
		faults = faults[:0]
		for _, q := range questions(t) {
			if fault := q.fault(all); fault != "" {
				faults = append(faults, fault)
			}
		}
		if len(faults) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s\n\n%s", strings.Join(faults, "\n"), metrics)
		}
	}
}

// This shows that the test above finds queries without metrics.
func TestAQueryForAMissingMetricIsFound(t *testing.T) {
	t.Parallel()
	all := seriesOf("# HELP a_total x\na_total{outbox=\"o\",result=\"x\"} 1\nb 2\n")
	for expr, want := range map[string]string{
		`sum by (outbox) (rate(a_total{result!="y"}[5m])) / on (outbox) a_total > 0`: "",
		`sum(a_totals)`:                        "there is no a_totals",
		`a_total{result="y"}`:                  `there is no a_total{result="y"}`,
		`a_total{result=~"y|z"} or b`:          `there is no a_total{result=~"y|z"}`,
		`max by (reason) (a_total)`:            "no label reason",
		`b{colour!="red"}`:                     "no label colour",
		`sum by (result) (a_total) unless b`:   "shows the label outbox",
		`absent(c) or up{job="outbox-worker"}`: "there is no c",
	} {
		got := question{where: "it", expr: expr, shows: []string{"outbox"}}.fault(all)
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: the fault is %q, want %q", expr, got, want)
		}
	}
}

// Prometheus accepts each query, and each one of the dashboard has a result.
func TestARealPrometheusAnswersEachQueryOfTheDashboard(t *testing.T) {
	t.Parallel()
	tool(t, "prometheus")
	base := scrape(t, underLoad(t))
	for _, q := range questions(t) {
		for deadline := time.Now().Add(3 * patience); ; time.Sleep(50 * time.Millisecond) { // Prometheus tells nobody that it has scraped
			answers, err := results(base, q.expr)
			if err == nil && (q.alert || len(answers) > 0) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: the query %s has no result, want one: %v", q.where, q.expr, err)
			}
		}
	}
}
