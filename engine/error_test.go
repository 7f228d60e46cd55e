package engine_test

import (
	"testing"

	"runbook/engine"
)

// Of several codes the run exits with the first in the documented order, whichever came first.
func TestWorst(t *testing.T) {
	order := []engine.Code{130, 7, 5, 3, 4, 6, 1, 2, 0}
	for i, a := range order {
		for _, b := range order[i:] {
			if x, y := engine.Worst(a, b), engine.Worst(b, a); x != a || y != a {
				t.Errorf("of %d and %d: %d and %d, want %d", a, b, x, y, a)
			}
		}
	}
}
