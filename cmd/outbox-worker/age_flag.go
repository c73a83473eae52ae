package main

import (
	"strconv"
	"strings"
	"time"
)

// age is a flag's duration that can be told in days too.
type age time.Duration

const wantAge = "a duration like 90s, 15m, 36h or 7d"

func (a *age) Type() string { return "age" }

// String returns nothing for 0, which is the default and means no bound.
func (a *age) String() string {
	if *a == 0 {
		return ""
	}
	return plainDuration(time.Duration(*a))
}

// Set reads what time.ParseDuration does, and whole days.
func (a *age) Set(text string) error {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(n) * 24 * time.Hour
		if n > 36500 { // a century; more would not fit into a Duration before long
			return usagef("too long")
		}
	}
	if err == nil && d < 0 {
		return usagef("negative")
	}
	*a = age(d)
	return err
}
