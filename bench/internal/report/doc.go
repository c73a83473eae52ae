// Package report describes and judges. It has the types of what scenarios measure and promise, the results that a run writes, and
// what is made of them: ratios, verdicts, comparisons, the text on the terminal, and the page with its drawings.
//
// It measures nothing and knows no contender: a [Scenario] here is its description. Nothing in it talks to a database or
// over a network, and the same [Results] always make the same report.
package report
