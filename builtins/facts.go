package builtins

import (
	"context"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() { Operations["facts"] = Facts{} }

// Facts returns what the node is: hostname, os, os_version, kernel, arch,
// cpus, memory (bytes), boot_id, machine (the same at every boot, and of no other).
//
//	if node.facts().os == "debian":
type Facts struct{}

// Look implements [engine.Probe].
func (Facts) Look(ctx context.Context, n engine.Reader) (any, error) {
	facts, err := list[resource.Facts](ctx, n, resource.Selector{Kind: resource.KindFacts})
	if err != nil {
		return nil, err
	}
	if len(facts) == 0 {
		return nil, engine.Unreachable.Errorf("the node told no facts about itself")
	}
	return fields(facts[0]), nil
}
