package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"runbook/engine"
	"runbook/inventory"
	"runbook/tui"
)

// This file finds the nodes of an inventory that are meant.

// fromInventory selects nodes of an inventory.
func (f fleetFlags) fromInventory(ctx context.Context) (*fleet, error) {
	path, err := inventory.Find(f.inventory)
	if err != nil {
		return nil, err
	}
	if path == labName { // $RUNBOOK_INVENTORY may say it too
		f.inventory = labName
		return f.find(ctx)
	}
	inv, err := inventory.Load(ctx, path)
	if err != nil {
		return nil, err
	}
	for _, w := range inv.Warnings() {
		fmt.Fprintln(os.Stderr, tui.StyleOf(os.Stderr).Warning(w))
	}
	chosen, selection, err := f.choose(inv)
	if err != nil {
		return nil, err
	}
	fl := &fleet{
		nodes: infos(chosen), inventory: inventory.Absolute(path), selection: selection, all: infos(inv.Nodes()),
		problems: map[string]*engine.Error{}, close: func() {},
	}
	targets := sshDialer{}
	for _, n := range inv.Nodes() { // servers are reached also through nodes that are not selected
		targets[n.Name] = reach{target(n), n.Problem}
	}
	for _, n := range chosen {
		if n.Problem != nil {
			fl.problems[n.Name] = n.Problem
		}
	}
	fl.dialer = targets
	if len(fl.problems) > 0 && !f.asking {
		return nil, unreachable(chosen)
	}
	return fl, nil
}

// unreachable is the error where nodes are selected that cannot be reached as the
// inventory wants them to be. It is the first one's.
func unreachable(nodes []inventory.Node) error {
	var first *engine.Error
	var others []string
	for _, n := range nodes {
		switch {
		case n.Problem == nil:
		case first == nil:
			e := *n.Problem
			first = &e
		default:
			others = append(others, n.Name)
		}
	}
	first.Left = engine.NothingChanged
	if len(others) > 0 {
		first.Hint = strings.TrimPrefix(first.Hint+"; ", "; ") + fmt.Sprintf("%d other selected nodes have such a problem: runbook nodes shows each", len(others))
	}
	return first
}

// choose returns the nodes of inv that are meant, and what that is called. Nothing
// said is an error, never all.
func (f fleetFlags) choose(inv *inventory.Inventory) ([]inventory.Node, string, error) {
	switch {
	case f.names != nil:
		nodes, err := inv.Named(f.names)
		return nodes, f.selection, err
	case f.selection == "":
		return nil, "", &engine.Error{Code: engine.Invalid, Cause: "no nodes are selected", Hint: "-n NAME, -n GROUP, -n 'web and not web-3'; every node is -n all"}
	}
	nodes, err := inv.Select(f.selection)
	if err != nil {
		return nil, "", err
	}
	n, err := f.limited(len(nodes))
	if err != nil {
		return nil, "", err
	}
	selection := f.selection
	if n < len(nodes) {
		selection += fmt.Sprintf(" (the first %d of %d)", n, len(nodes))
	}
	return nodes[:n], selection, nil
}

// limited returns how many of n selected nodes --limit-to leaves: at least one, and
// of a percentage as many as make it full.
func (f fleetFlags) limited(n int) (int, error) {
	if f.flags == nil || !f.flags.Changed("limit-to") {
		return n, nil
	}
	number, percent := strings.CutSuffix(f.limitTo, "%")
	v, err := strconv.ParseUint(number, 10, 31)
	if err != nil || v < 1 || percent && v > 100 || strings.HasPrefix(number, "+") {
		return 0, &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("--limit-to %q: want a number of nodes from 1 on, or a percentage from 1%% to 100%%", f.limitTo)}
	}
	if percent {
		v = (uint64(n)*v + 99) / 100
	}
	return min(n, int(v)), nil
}
