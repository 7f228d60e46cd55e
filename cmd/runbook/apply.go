package main

import (
	"slices"

	"github.com/spf13/cobra"

	"runbook/engine"
	"runbook/engine/rollout"
)

// This file does what a saved plan says, or nothing.

func applyCommand(stop stopper) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "apply PLAN",
		Short: "Do what was planned, or nothing",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return engine.Invalid.Errorf("apply takes one saved plan; its parameters are in it")
			}
			return needFile(c, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return f.show([]string{"apply", args[0]}, &stop, func(emit func(engine.Event)) error {
				saved, err := loadPlan(args[0])
				if err != nil {
					return err
				}
				planning, cancel := stop.whole()
				defer cancel()
				f.of(saved)
				s, err := open(planning, saved.Source, saved.Params, f.fleetFlags, emit)
				if err != nil {
					return err
				}
				defer s.close()
				if err := s.start(f); err != nil {
					return err
				}
				return s.recorded("apply", stop, func() (map[string]engine.NodeState, error) {
					return s.carryOut(planning, stop, f, saved)
				})
			})
		},
	}
	f.addInventory(c)
	f.addRun(c)
	return c
}

// of makes f mean the nodes of a saved plan, all of them, whatever its selection means today, and
// the limits that it was predicted with.
func (f *fleetFlags) of(p *engine.Plan) {
	if f.inventory == "" {
		f.inventory = p.Inventory
	}
	f.names = nil
	for _, n := range p.Nodes {
		if !engine.IsTarget(n.Node) { // hooks ask those by themselves
			f.names = append(f.names, n.Node)
		}
	}
	f.selection = p.Selection
	f.ceilings.at("the plan", p.Header.Limits)
}

// hold marks the nodes of now that are not as they were in the saved plan, and tells of them.
func hold(saved, now *engine.Plan, tell func(*engine.NodePlan)) {
	was := map[string]*engine.NodePlan{}
	for _, np := range saved.Nodes {
		was[np.Node] = np
	}
	for i, np := range now.Nodes {
		if np.Err != nil {
			continue
		}
		before := was[np.Node]
		if before == nil { // a server that no hook had asked
			before = &engine.NodePlan{Node: np.Node}
		}
		if err := rollout.Drifted(before, np); err != nil {
			drifted := *np // what was told of is not changed any more
			drifted.Err = err
			now.Nodes[i] = &drifted
			tell(&drifted)
		}
	}
}

// holdTargets is hold of servers, of which now has those that a hook has asked. One that was to be
// changed, and is not asked now, is marked as well.
func holdTargets(saved, now *engine.Plan, tell func(*engine.NodePlan)) {
	for _, np := range saved.Nodes {
		asked := slices.ContainsFunc(now.Nodes, func(n *engine.NodePlan) bool { return n.Node == np.Node })
		if engine.IsTarget(np.Node) && len(np.Changes()) > 0 && !asked {
			now.Nodes = append(now.Nodes, &engine.NodePlan{Node: np.Node})
		}
	}
	hold(saved, now, tell)
}
