// Package monitoring_test tests that the rules, their tests, the runbook, the dashboard and the services of Compose agree
// with each other. A test of the worker's program checks that the queries use metrics that a worker has.
package monitoring_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type rule struct {
	Alert       string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	read(t, "outbox.rules.yml", &file)
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("found no rules, want some")
	}
	return all
}

// promtool runs Prometheus's own tool, which CI installs (.ci/install-tools).
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (the package prometheus)")
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func TestTheRulesPassTheirTests(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "outbox.rules.yml")
	promtool(t, "test", "rules", "outbox.rules.test.yml")
}

func TestEachAlertHasSeriesThatMakeItFireAndSeriesThatDoNot(t *testing.T) {
	t.Parallel()
	var file struct {
		Tests []struct {
			Name  string
			Tests []struct {
				Name   string `yaml:"alertname"`
				Alerts []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	read(t, "outbox.rules.test.yml", &file)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, alert := range test.Tests {
			if len(alert.Alerts) > 0 {
				fires[alert.Name] = true
			} else {
				silent[alert.Name] = true
			}
		}
	}
	for _, r := range rules(t) {
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: is there a test in which it fires? %v; one in which it does not? %v; want both", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
}

// An operator who is woken at night must find the meaning of the alert, what to look at and what to do.
func TestEachAlertHasASeverityASummaryAndASectionOfTheRunbook(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		sections[name] = text
	}
	for _, r := range rules(t) {
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: the severity is %q, want critical or warning", r.Alert, s)
		}
		if s := r.Annotations["summary"]; !regexp.MustCompile(`^.+ .+ .+\.$`).MatchString(s) {
			t.Errorf("%s: the summary is %q, want a sentence", r.Alert, s)
		}
		if link := r.Annotations["runbook_url"]; !strings.HasSuffix(link, "/docs/runbook.md#"+strings.ToLower(r.Alert)) {
			t.Errorf("%s: the link to the runbook is %q, want one to the section of the alert", r.Alert, link)
		}
		for _, part := range []string{"**Means.**", "**Look at**", "**Do"} {
			if !strings.Contains(sections[r.Alert], part) {
				t.Errorf("%s: its section of the runbook lacks %s", r.Alert, part)
			}
		}
		if row := "| [" + r.Alert + "](#" + strings.ToLower(r.Alert) + ") | " + r.Labels["severity"] + " |"; !strings.Contains(string(page), row) {
			t.Errorf("the runbook's table lacks %s", row)
		}
		delete(sections, r.Alert)
	}
	for name := range sections {
		t.Errorf("the runbook has a section %s, but there is no such alert", name)
	}
}
