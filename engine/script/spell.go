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

// distance is the number of bytes to insert, delete, replace, or exchange with
// their neighbours to make a into b.
func distance(a, b string) int {
	d := make([][]int, len(a)+1) // d[i][j]: of the first i bytes of a and the first j of b
	for i := range d {
		d[i] = make([]int, len(b)+1)
		for j := range d[i] {
			if i == 0 || j == 0 {
				d[i][j] = i + j
				continue
			}
			replace := d[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			d[i][j] = min(replace, d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
