package script

import "strings"

// didYouMean returns " (did you mean X?)" for the candidate that name was most
// likely meant to be, or "".
func didYouMean(name string, candidates []string) string {
	best, limit := "", (len(name)+1)/2 // half of it may be wrong
	for _, c := range candidates {
		if d := distance(fold(name), fold(c)); d < limit || d == 0 {
			best, limit = c, d
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + best + "?)"
}

func fold(s string) string {
	if len(s) > 64 { // no name is: do not let a script make this slow
		s = s[:64]
	}
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// distance is the number of bytes to insert, delete or replace to make a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // distances from a's beginning to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
