package nodetest

import (
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
)

// testPolicy runs the tables of rules and neighbours.
func testPolicy(t *testing.T, f Factory, chosen func(i int, cutsLoopback bool) bool) {
	for _, group := range []struct {
		name  string
		cases []editCase
	}{
		{"rules", casesRule}, {"rules refused", refusedRule}, {"gateways by rules", casesByRule},
		{"neighbours", casesNeigh}, {"neighbours refused", refusedNeigh},
	} {
		t.Run(group.name, func(t *testing.T) {
			for i, c := range group.cases {
				if chosen(i, c.cutsLoopback) {
					t.Run(c.name, func(t *testing.T) { testEdit(t, f, c) })
				}
			}
		})
	}
	t.Run("rules behind", func(t *testing.T) { testRulesBehind(t, f) })
}

// testRulesBehind takes a rule back behind which somebody has added another: it
// moves up, and that is no difference.
func testRulesBehind(t *testing.T, f Factory) {
	n := open(t, f, Usual)
	e, err := predict(t, n, all(ruleA))
	if err != nil {
		t.Fatal(err)
	}
	found, err := n.Apply(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, n, engine.Edit{Want: all(at(ruleB, 1), at(ruleC, 2))})
	back, left := e.TakeBack(found, read(t, n, e.Query))
	if len(left) > 0 {
		t.Errorf("left alone:\n%s", left)
	}
	found, err = n.Apply(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "from what was expected to the node", back.After, found)
	expected := Usual.State.Clone()
	for _, r := range []resource.Rule{ruleB, at(ruleC, 1)} {
		expected[r.Key()] = r
	}
	same(t, "the node after taking back", expected, read(t, n, Everything))
}
