package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"runbook/engine"
	"runbook/engine/rollout"
)

// This file is what is said at the end of a run.

// byState is the nodes in each state, in the order of the run.
func (s *session) byState(states map[string]engine.NodeState) map[engine.NodeState][]string {
	out := map[engine.NodeState][]string{}
	add := func(name string) {
		if st, known := states[name]; known {
			out[st] = append(out[st], name)
		}
	}
	for _, n := range s.run.Nodes {
		add(n.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(states)) { // what hooks changed
		if engine.IsTarget(name) && !slices.Contains(out[states[name]], name) {
			add(name)
		}
	}
	return out
}

// next is what can be done after a run that failed, or was stopped: what the journal would let happen.
func (s *session) next(ctx context.Context, states map[string]engine.NodeState, failed *engine.Error) (out []engine.Next) {
	if failed == nil || s.fleet.inventory == ownLab { // whose nodes are gone with it
		return nil
	}
	run, entries, err := s.journal.Run(context.WithoutCancel(ctx), s.run.ID)
	if err != nil {
		return nil // it is a hint, and the run itself has said how it ended
	}
	run.Outcome = outcomeOf(states, failed)
	if past, err := engine.PastOf(entries); err == nil && unfinished(run, past) && (&rollout.Run{Program: s.run.Program, Past: past, Ceilings: s.run.Ceilings}).Refusal(nil) == nil {
		out = append(out, engine.Next{What: "go on with the nodes that are left", Command: "runbook resume " + run.ID})
	}
	if len(engine.NewUndo(run, entries, nil).Nodes()) > 0 {
		out = append(out, engine.Next{What: "take back what was done", Command: "runbook undo " + run.ID})
	}
	return out
}

// sum is how a run ended, in one line.
func (s *session) sum(states map[string]engine.NodeState) string {
	counts := map[engine.NodeState]int{}
	for _, st := range states {
		counts[st]++
	}
	var parts []string
	for _, st := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[st], st))
	}
	return fmt.Sprintf("%s: %s", s.run.ID, strings.Join(parts, ", "))
}
