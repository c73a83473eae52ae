// Bench is the benchmark of record: it starts a Postgres of its own, lets contenders do the same work in turn, and prints
// what each took, the ratios between them, and whether the budgets are met. README.md says what is measured, and how to
// read it.
//
// # How it is built
//
// A scenario is one question: its contenders, what is measured of each, and the budgets that this must meet. A trial is
// one contender's run in a schema of its own, made before and dropped after. A round is a trial of every contender, in an
// order that rotates from round to round; the round before the first is a warm-up with less work and does not count. A
// sample is what one trial measured. Ratios are taken within a round and then summarised over the rounds, so that what
// disturbs the machine for a while disturbs both sides of a ratio.
//
// This package has the scenarios. bench/internal/stand has what they run on, bench/internal/report what describes and judges
// them; neither of the two imports the other, or this package.
//
// To add a scenario, write a file with a function that returns it and name that function in scenarios.
package main
