package sim_test

import (
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

func TestSimulatedNodesRemember(t *testing.T) {
	n := &sim.Remembering{Node: sim.New(sim.LabNode("node-1", 1))}
	e := engine.Edit{Disrupts: "link eth1", Verb: "restart", Run: "r1", By: "ann@ops"}
	if _, err := n.Apply(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	s, err := sim.Over(n).Read(t.Context(), resource.Query{{Kind: resource.KindMemory}})
	if m, ok := resource.Get[resource.Memory](s, "memory link eth1"); err != nil || !ok || m.Run != "r1" || !m.Ended {
		t.Errorf("a model over it remembers %v: %v", s, err)
	}
	e.Run = "r2"
	if _, err := n.Apply(t.Context(), e); err == nil || engine.AsError(err).Code != engine.LimitHit {
		t.Errorf("a repeat: %v", err)
	}
	e.Repeat = true
	if _, err := n.Apply(t.Context(), e); err != nil {
		t.Error(err)
	}
}
