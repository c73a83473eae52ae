package main

import (
	"strconv"
	"strings"
	"time"
)

// age is the duration of a flag, which can be given in days too.
type age time.Duration

const wantAge = "a duration like 90s, 15m, 36h or 7d; at most 36500d"

// ageDaysMax is a century: more is a mistake, and a Duration cannot hold much more.
const ageDaysMax = 36500

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
	const day = 24 * time.Hour
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if n, err = strconv.Atoi(days); n < 0 || n > ageDaysMax {
			return usagef("not within 0 and %d days", ageDaysMax)
		}
		d = time.Duration(n) * day
	}
	if err != nil {
		return err
	}
	if d < 0 || d > ageDaysMax*day {
		return usagef("not within 0 and %d days", ageDaysMax)
	}
	*a = age(d)
	return nil
}
