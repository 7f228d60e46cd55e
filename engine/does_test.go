package engine_test

import (
	"net/netip"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
)

// restart is the plan of a node that restarts eth1, on which it has an address of its own, and a route via a gateway.
func restart(node, addr, via string) *engine.NodePlan {
	p := netip.MustParsePrefix(addr)
	lost := resource.Of(
		resource.Addr{Prefix: p, Dev: "eth1", Permanent: true},
		resource.Route{Dst: p.Masked(), Hops: []resource.Hop{{Dev: "eth1"}}, PrefSrc: p.Addr(), Proto: resource.ProtoKernel},
		resource.Route{Dst: netip.MustParsePrefix("10.20.0.0/16"), Hops: []resource.Hop{{Via: netip.MustParseAddr(via), Dev: "eth1"}}},
	)
	return &engine.NodePlan{Node: node, Steps: []engine.PlannedChange{{Op: "link.restart", Object: "eth1", Edit: engine.Edit{Restart: "eth1", Lost: lost}}}}
}

// The same is done to nodes whose own addresses are others; another route that is lost is another thing.
func TestDoes(t *testing.T) {
	one, two, other := restart("a", "10.98.0.11/16", "10.98.0.1"), restart("b", "10.98.0.12/16", "10.98.0.1"), restart("c", "10.98.0.13/16", "10.98.0.9")
	if one.Does() != two.Does() {
		t.Error("their own addresses part them")
	}
	if one.Does() == other.Does() {
		t.Error("another route is lost, and that is the same")
	}
	more := restart("d", "10.98.0.14/16", "10.98.0.1")
	more.Steps = append(more.Steps, more.Steps[0])
	if more.Does() == one.Does() {
		t.Error("it is done twice, and that is the same")
	}
}
