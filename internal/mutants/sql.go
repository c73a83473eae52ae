package main

import (
	"regexp"
	"strings"
)

// change is one change of a text.
type change struct {
	from, to int
	by       string
}

// statement recognises SQL among other strings.
var statement = regexp.MustCompile(`(?s)\b(SELECT|UPDATE|DELETE FROM|INSERT INTO|WHERE|CASE WHEN)\b`)

// slips are the mistakes that replace what the group of the pattern matches.
var slips = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`[^<>=!](<)[^<>=@]`), "<="},
	{regexp.MustCompile(`[^<>=!](<=)`), "<"},
	{regexp.MustCompile(`[^-<>=!?@](>)[^<>=@]`), ">="},
	{regexp.MustCompile(`[^<>=!](>=)`), ">"},
	{regexp.MustCompile(`(?:\s|\.)(=)(?:\s|\))`), "<>"},
	{regexp.MustCompile(`\s(AND)\s`), "OR"},
	{regexp.MustCompile(`\s(OR)\s`), "AND"},
	{regexp.MustCompile(`\b(IS NULL)\b`), "IS NOT NULL"},
	{regexp.MustCompile(`\b(IS NOT NULL)\b`), "IS NULL"},
	{regexp.MustCompile(`\b(NOT )(?:EXISTS|coalesce|[a-z_.]+\b)`), ""},
	{regexp.MustCompile(`(?:WHEN|AND|OR|WHERE|THEN|ELSE) (EXISTS)`), "NOT EXISTS"},
	{regexp.MustCompile(`\b(true)\b`), "false"},
	{regexp.MustCompile(`\b(false)\b`), "true"},
	{regexp.MustCompile(`\b(least)\(`), "greatest"},
	{regexp.MustCompile(`\b(greatest)\(`), "least"},
	{regexp.MustCompile(`\b(min)\(`), "max"},
	{regexp.MustCompile(`\b(max)\(`), "min"},
	{regexp.MustCompile(`( SKIP LOCKED)`), ""},
	{regexp.MustCompile(`( DESC)\b`), ""},
	{regexp.MustCompile(`\s(\+)\s`), "-"},
	{regexp.MustCompile(`\s(-)\s`), "+"},
}

// inSQL returns the slips that can be made in a string literal that holds SQL.
func inSQL(literal string) (all []change) {
	if !strings.HasPrefix(literal, "`") || !statement.MatchString(literal) {
		return nil
	}
	for _, slip := range slips {
		for from := 0; ; {
			at := slip.pattern.FindStringSubmatchIndex(literal[from:])
			if at == nil {
				break
			}
			all = append(all, change{from + at[2], from + at[3], slip.by})
			from += at[3]
		}
	}
	return all
}
