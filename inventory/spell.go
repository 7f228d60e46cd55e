package inventory

import (
	"strings"

	"runbook/internal/spell"
)

// didYouMean is a hint, or "" where nothing is near.
func didYouMean(name string, candidates []string) string {
	return spell.Question(spell.Near(name, candidates, 3))
}

// some is a list of at most n of names, in words.
func some(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:n], ", ") + ", …"
}
