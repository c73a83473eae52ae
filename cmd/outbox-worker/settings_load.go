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

	"github.com/seed-abbacb8b/epilogue/internal/fieldfault"
	"github.com/seed-abbacb8b/epilogue/internal/keyring"
	"github.com/seed-abbacb8b/epilogue/outbox"
)

// fault is what is wrong with one variable.
type fault struct{ variable, text string }

// faultsError holds every fault of the configuration, so that all can be corrected at once.
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
	given    map[string]string // the variables that are set to something
	faults   []fault
}

// needs returns the faults of the named variables, or of all when none is named: a fault in the settings of the worker does not
// stop a command that only needs the database.
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

// databaseVariables are the variables of a command that only needs the database.
func databaseVariables() []string {
	return []string{envPrefix + "DATABASE_URL", envPrefix + "SCHEMA", envPrefix + "POOLER"}
}

// load reads the environment and the flag --schema, which wins. It warns of unknown variables.
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

// loadSettings reads every variable separately: go-envconfig stops at the first fault of a struct, and all faults are to be
// shown.
func loadSettings(env map[string]string) loaded {
	c := loaded{given: map[string]string{}}
	for _, name := range variableNames() {
		// A variable that is set to nothing counts as unset: compose files do that with ${VAR:-}. Secrets from files end in a newline.
		if value := strings.TrimSpace(env[name]); value != "" {
			c.given[name] = value
		}
	}
	unread := map[string]bool{}
	lookuper := envconfig.PrefixLookuper(envPrefix, envconfig.MapLookuper(c.given))
	target := reflect.ValueOf(&c.settings).Elem()
	for i, f := range settingFields() {
		one := reflect.New(reflect.StructOf([]reflect.StructField{{Name: f.Name, Type: f.Type, Tag: f.Tag}}))
		if err := envconfig.ProcessWith(context.Background(), &envconfig.Config{Target: one.Interface(), Lookuper: lookuper}); err != nil {
			name := variableName(f)
			unread[name] = true
			c.faults = append(c.faults, parseFault(f, c.given[name], err))
			continue
		}
		target.Field(i).Set(one.Elem().Field(0))
	}
	c.faults = append(c.faults, zeroFaults(c, unread)...)
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

// checkKeyFile checks the file of signing keys. Only a command that needs the file calls it, so that a hanging mount of a
// secret stops no other command.
func (c *loaded) checkKeyFile() {
	var faults faultsError
	if _, err := c.settings.keyring(nil); errors.As(err, &faults) {
		c.faults = append(c.faults, faults...)
		c.sortFaults()
	}
}

// parseFault says which form was wanted. Our own decoders do so themselves, and quote nothing of a secret.
func parseFault(f reflect.StructField, value string, err error) fault {
	name := variableName(f)
	var ours decodeError
	if errors.As(err, &ours) {
		return fault{name, name + " " + string(ours)}
	}
	want := "another value"
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
	return fault{name, fmt.Sprintf("%s is %.64q; want %s", name, value, want)}
}

// zeroFaults refuses zeros that would become the default without notice.
func zeroFaults(c loaded, unread map[string]bool) []fault {
	var faults []fault
	force, parsed := reflect.ValueOf(c.settings.inForce()), reflect.ValueOf(c.settings)
	for i, f := range reflect.VisibleFields(parsed.Type()) {
		name := variableName(f)
		if c.given[name] != "" && !unread[name] && parsed.Field(i).IsZero() && !force.Field(i).IsZero() {
			faults = append(faults, fault{name, fmt.Sprintf("%s is %.64q; want more than that, or leave it out for the default (%s)",
				name, c.given[name], valueText(force.Field(i)))})
		}
	}
	return faults
}

// relationFaults are the faults that the worker finds. It saw the default of a variable that could not be read, so faults about such
// a variable are left out.
func relationFaults(c loaded) []fault {
	known := map[string]bool{}
	for _, f := range c.faults {
		known[f.variable] = true
	}
	var faults []fault
	config := c.settings.worker(nil)
	if c.settings.signs() { // which keys there are shows when they are opened
		config.Keys = new(keyring.Ring)
	}
	for _, f := range fieldfault.Of(config.Validate()) {
		if !slices.ContainsFunc(f.Fields(), func(field string) bool { return known[variableOf(field)] }) {
			faults = append(faults, fault{variableOf(f.Field), f.In(variableOf)})
		}
	}
	return faults
}

// inVariables returns the text of an error about the worker's configuration, with the names of the variables.
func inVariables(err error) string {
	faults := fieldfault.Of(err)
	if len(faults) == 0 {
		return err.Error()
	}
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.In(variableOf)
	}
	return strings.Join(lines, "\n")
}

// variableOf returns the variable of a field of the worker's configuration; the name of the field where there is none.
func variableOf(field string) string {
	if field == "MaxConns" {
		return "pool_max_conns in " + envPrefix + "DATABASE_URL"
	}
	if field == "Keys" {
		return keysVariable
	}
	if f, ok := reflect.TypeFor[settings]().FieldByName(field); ok {
		return variableName(f)
	}
	return field
}

// kubernetesVariable matches the variables that Kubernetes adds to containers beside a service called outbox.
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
