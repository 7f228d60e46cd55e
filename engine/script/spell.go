package script

import (
	"fmt"
	"strings"

	"runbook/internal/spell"
)

// didYouMean returns " (did you mean X?)" for the candidate that name was most
// likely meant to be, or "".
func didYouMean(name string, candidates []string) string {
	q := spell.Question(spell.Near(name, candidates, 1))
	if q == "" {
		return ""
	}
	return " (" + q + ")"
}

// itHas returns ": it has X, Y" for the names that there are, or "".
func itHas(names []string) string { return namely(": it has ", names) }

// itTakes returns ": it takes X, Y" for the arguments that there are, or "".
func itTakes(names []string) string { return namely(": it takes ", names) }

func namely(before string, names []string) string {
	const most = 30
	switch {
	case len(names) == 0:
		return ""
	case len(names) > most:
		return fmt.Sprintf("%s%s and %d others", before, strings.Join(names[:most], ", "), len(names)-most)
	}
	return before + strings.Join(names, ", ")
}
