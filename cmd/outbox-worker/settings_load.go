package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sethvargo/go-envconfig"

	"github.com/seed-abbacb8b/epilogue/outbox"
)

// fault is what is wrong with one variable.
type fault struct{ variable, text string }

// faultsError holds every fault of the configuration, so that one look repairs them all.
type faultsError []fault

func (f faultsError) Error() string {
	lines := make([]string, len(f))
	for i, each := range f {
		lines[i] = each.text
	}
	if len(lines) > 1 {
		lines = append([]string{fmt.Sprintf("%d faults in the configuration:", len(f))}, lines...)
	}
	return strings.Join(lines, "\n")
}

// loaded is what was found in the environment.
type loaded struct {
	settings settings
	given    map[string]string // the variables that are set, and not to nothing
	faults   []fault
}

// needs returns the faults of the named variables, or of all when none is named: a command that only looks at the
// database is not kept from it by a slip in the worker's settings.
func (c loaded) needs(names ...string) error {
	var faults faultsError
	for _, f := range c.faults {
		if len(names) == 0 || slices.Contains(names, f.variable) {
			faults = append(faults, f)
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return faults
}

// databaseVariables are what a command needs that only looks at the database.
func databaseVariables() []string {
	return []string{envPrefix + "DATABASE_URL", envPrefix + "SCHEMA", envPrefix + "POOLER"}
}

// load reads the environment, the flag --schema before it, and warns of variables that we don't know.
func (p *program) load(needs ...string) (loaded, error) {
	env := p.env
	if p.schema != "" {
		if err := outbox.CheckSchema(p.schema); err != nil {
			return loaded{}, usagef("--schema: %v", err)
		}
		env = make(map[string]string, len(p.env)+1)
		for name, value := range p.env {
			env[name] = value
		}
		env[envPrefix+"SCHEMA"] = p.schema
	}
	for _, name := range unknownVariables(env) {
		p.say("outbox-worker: warning: %s is set, but there is no such variable%s", name, didYouMean(name, variableNames()))
	}
	c := loadSettings(env)
	if len(needs) == 0 || slices.Contains(needs, keysFileVariable) {
		c.checkKeyFile()
	}
	return c, c.needs(needs...)
}

// loadSettings reads every variable. go-envconfig stops at the first fault; so each round hides the variable that the
// last one stumbled over, until none is left to stumble over.
func loadSettings(env map[string]string) loaded {
	c := loaded{given: map[string]string{}}
	for _, name := range variableNames() {
		// Set to nothing is as good as unset: compose files do that with ${VAR:-}. Secrets from files end in a newline.
		if value := strings.TrimSpace(env[name]); value != "" {
			c.given[name] = value
		}
	}
	hidden := map[string]bool{}
	for range variableNames() {
		var s settings
		var last string
		err := envconfig.ProcessWith(context.Background(), &envconfig.Config{
			Target: &s,
			Lookuper: envconfig.PrefixLookuper(envPrefix, envconfig.LookuperFunc(func(name string) (string, bool) {
				last = name
				if hidden[name] {
					return "", false
				}
				value, ok := c.given[name]
				return value, ok
			})),
		})
		c.settings = s
		if err == nil {
			break
		}
		hidden[last] = true
		c.faults = append(c.faults, parseFault(last, c.given[last], err))
	}
	c.faults = append(c.faults, zeroFaults(c, hidden)...)
	c.faults = append(c.faults, relationFaults(c)...)
	if c.given[envPrefix+"DATABASE_URL"] == "" {
		c.faults = append(c.faults, fault{envPrefix + "DATABASE_URL",
			"OUTBOX_DATABASE_URL is not set; set it to the outbox's database, as postgres://app:PASSWORD@localhost:5432/app"})
	}
	c.sortFaults()
	return c
}

func (c *loaded) sortFaults() {
	slices.SortStableFunc(c.faults, func(a, b fault) int {
		return slices.Index(variableNames(), a.variable) - slices.Index(variableNames(), b.variable)
	})
}

// checkKeyFile looks into the file of signing keys. Only a command that needs it does so: a secret's mount that hangs
// keeps nobody from looking at the database.
func (c *loaded) checkKeyFile() {
	var faults faultsError
	if _, err := c.settings.keyring(nil); errors.As(err, &faults) {
		c.faults = append(c.faults, faults...)
		c.sortFaults()
	}
}

// parseFault says what was wanted. A decoder of ours says that by itself, and shows of a secret nothing.
func parseFault(name, value string, err error) fault {
	var ours decodeError
	if errors.As(err, &ours) {
		return fault{name, name + " " + string(ours)}
	}
	want := "another value"
	if f, ok := fieldOf(name); ok {
		switch f.Type {
		case reflect.TypeFor[time.Duration]():
			want = "a duration like 500ms, 30s, 5m or 72h"
		case reflect.TypeFor[int]():
			want = "a whole number"
		case reflect.TypeFor[*float64]():
			want = "a number like 0.2"
		case reflect.TypeFor[bool]():
			want = "true or false"
		}
	}
	return fault{name, fmt.Sprintf("%s is %.64q; want %s", name, value, want)}
}

// zeroFaults refuses zeros that would quietly become the default.
func zeroFaults(c loaded, hidden map[string]bool) []fault {
	var faults []fault
	force, parsed := reflect.ValueOf(c.settings.inForce()), reflect.ValueOf(c.settings)
	for i, f := range reflect.VisibleFields(parsed.Type()) {
		name := variableName(f)
		if c.given[name] != "" && !hidden[name] && parsed.Field(i).IsZero() && !force.Field(i).IsZero() {
			faults = append(faults, fault{name, fmt.Sprintf("%s is %.64q; want more than that, or leave it out for the default (%s)",
				name, c.given[name], valueText(force.Field(i)))})
		}
	}
	return faults
}

// relationFaults are the worker's own, with its fields' names turned into the variables'. What is said about a variable
// that could not be read is left out: it was said of its default.
func relationFaults(c loaded) []fault {
	known := map[string]bool{}
	for _, f := range c.faults {
		known[f.variable] = true
	}
	var faults []fault
	err := c.settings.worker(nil).Validate()
	for _, e := range unjoin(err) {
		text, about := inVariables(e.Error())
		if len(about) == 0 || !slices.ContainsFunc(about, func(name string) bool { return known[name] }) {
			faults = append(faults, fault{append(about, "")[0], text})
		}
	}
	return faults
}

func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// inVariables replaces the fields' names in a fault by the variables', and lists those.
func inVariables(text string) (replaced string, names []string) {
	var fields []string
	for _, f := range settingFields() {
		fields = append(fields, f.Name)
	}
	word := regexp.MustCompile(`\b(` + strings.Join(fields, "|") + `)\b`)
	replaced = word.ReplaceAllStringFunc(text, func(field string) string {
		f, _ := reflect.TypeFor[settings]().FieldByName(field)
		names = append(names, variableName(f))
		return variableName(f)
	})
	return replaced, names
}

// kubernetesVariable matches what Kubernetes puts into the containers of a namespace with a service called outbox.
var kubernetesVariable = regexp.MustCompile(`_SERVICE_(HOST|PORT\w*)=|_PORT(_\d+_(TCP|UDP|SCTP))?=\w+://|_PORT_\d+_[A-Z]+_(PROTO|PORT|ADDR)=`)

func unknownVariables(env map[string]string) []string {
	var unknown []string
	known := variableNames()
	for name, value := range env {
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(known, name) && !kubernetesVariable.MatchString(name+"="+value) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

func settingFields() []reflect.StructField { return reflect.VisibleFields(reflect.TypeFor[settings]()) }

func variableName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
	return envPrefix + name
}

func variableNames() []string {
	var names []string
	for _, f := range settingFields() {
		names = append(names, variableName(f))
	}
	return names
}

func fieldOf(variable string) (reflect.StructField, bool) {
	for _, f := range settingFields() {
		if variableName(f) == variable {
			return f, true
		}
	}
	return reflect.StructField{}, false
}
