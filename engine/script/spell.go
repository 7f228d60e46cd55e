package script

import "runbook/internal/spell"

// didYouMean returns " (did you mean X?)" for the candidate that name was most
// likely meant to be, or "".
func didYouMean(name string, candidates []string) string {
	q := spell.Question(spell.Near(name, candidates, 1))
	if q == "" {
		return ""
	}
	return " (" + q + ")"
}
