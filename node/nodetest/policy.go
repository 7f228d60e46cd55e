package nodetest

import "testing"

// testPolicy runs the tables of rules and neighbours.
func testPolicy(t *testing.T, f Factory) {
	for _, group := range []struct {
		name  string
		cases []editCase
	}{
		{"rules", casesRule}, {"rules refused", refusedRule}, {"gateways by rules", casesByRule},
		{"neighbours", casesNeigh}, {"neighbours refused", refusedNeigh},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) { testEdit(t, f, c) })
			}
		})
	}
}
