package main

import (
	"fmt"
	"strings"
)

// didYouMean ends an error about an unknown word with the nearest known one, or with nothing when none is near.
func didYouMean(word string, known []string) string {
	if best := nearest(word, known); best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return ""
}

// nearest returns the known word that takes the fewest edits, if they are no more than a third of its letters and one;
// otherwise one that begins with the word.
func nearest(word string, known []string) string {
	best, fewest := "", 0
	for _, k := range known {
		edits := editDistance(strings.ToLower(word), strings.ToLower(k))
		if edits <= len(k)/3+1 && edits < len(k) && (best == "" || edits < fewest) {
			best, fewest = k, edits
		}
	}
	if best != "" || word == "" {
		return best
	}
	for _, k := range known {
		if strings.HasPrefix(k, word) {
			return k
		}
	}
	return ""
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbours between two words (optimal string
// alignment). It compares bytes, because the known words are ASCII.
func editDistance(a, b string) int {
	const lengthMax = 64 // bounds the work: a longer word is not a mistyped one of ours
	if len(a) > lengthMax || len(b) > lengthMax {
		return lengthMax
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := last[j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			row[j] = min(last[j]+1, row[j-1]+1, replaced)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
