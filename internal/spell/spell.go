// Package spell finds what a mistyped name was most likely meant to be.
package spell

import (
	"cmp"
	"slices"
	"strings"
)

// longest is the longest name that is looked at: nobody mistypes longer ones,
// and a hostile one would be slow.
const longest = 64

// Near returns the up to n candidates that name was most likely meant to be,
// best first. Case does not count; a third of the rest may be wrong.
func Near(name string, candidates []string, n int) []string {
	type scored struct {
		name     string
		distance int
	}
	if len(name) > longest {
		return nil
	}
	var found []scored
	name = strings.ToLower(name)
	limit := max(1, (len(name)+1)/3)
	for _, c := range candidates {
		folded := strings.ToLower(c)
		if len(folded)-len(name) > limit || len(name)-len(folded) > limit {
			continue
		}
		if d := distance(name, folded); d <= limit {
			found = append(found, scored{c, d})
		}
	}
	slices.SortStableFunc(found, func(a, b scored) int { return cmp.Compare(a.distance, b.distance) })
	var out []string
	for _, f := range found[:min(n, len(found))] {
		out = append(out, f.name)
	}
	return out
}

// Question asks whether one of names was meant: "did you mean a or b?". It is
// "" where there are none.
func Question(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "did you mean " + names[0] + "?"
	}
	return "did you mean " + strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1] + "?"
}

// distance is the number of bytes to insert, delete, replace or swap with the
// next one to make a into b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
