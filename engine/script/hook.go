package script

import (
	"context"
	"errors"
	"fmt"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"runbook/engine"
)

// This file is the hooks of a runbook, before, gate and after, on both sides: what
// they see of the fleet, and how they ask a node of it.

// RunHook implements [engine.Watcher].
func (p *Program) RunHook(ctx context.Context, hook string, f engine.FleetInfo, h engine.Host) error {
	if p.header.Hooks[hook] == "" {
		return engine.Internal.Errorf("the runbook has no %s", hook)
	}
	if err := p.bindDefaults(); err != nil {
		return err
	}
	fleet := &fleetFrame{Nodes: []*nodeFrame{}, Wave: f.Wave, Waves: f.Waves}
	size := 0
	for _, n := range f.Nodes {
		node, err := nodeOf(n.NodeInfo)
		if err != nil {
			return err
		}
		if size += len(node.Vars); size > maxFrame/2 {
			return engine.Invalid.Errorf("the variables of all nodes have more than %d bytes, and a hook can take no more", maxFrame/2)
		}
		node.State = string(n.State)
		fleet.Nodes = append(fleet.Nodes, node)
	}
	c := conversation{p: p, host: h, pos: p.header.Hooks[hook]}
	if err := c.converse(ctx, frame{Type: tRun, Name: hook, Fleet: fleet}); err != nil {
		return err
	}
	return nil
}

// hook calls a hook.
func (ev *evaluator) hook(t *thread, f frame, params starlark.Value) error {
	fn := ev.hooks[f.Name]
	if fn == nil {
		return fmt.Errorf("there is no %s", f.Name)
	}
	nodes := make([]starlark.Value, len(f.Fleet.Nodes))
	for i, n := range f.Fleet.Nodes {
		node, err := ev.node(n)
		if err != nil {
			return err
		}
		nodes[i] = &onNode{node.(*record), n.Name}
	}
	fleet := newRecord(fleetKind, starlark.StringDict{
		"nodes": starlark.NewList(nodes), "wave": starlark.MakeInt(f.Fleet.Wave), "waves": starlark.MakeInt(f.Fleet.Waves),
	})
	fleet.Freeze()
	said, err := starlark.Call(t.star, fn, starlark.Tuple{fleet, params}, nil)
	if err == nil && said != starlark.None { // who returns False means that it has not passed
		return invalid("", "%s returned %s, and what it returns is not looked at: it says expect(cond, msg), and returns nothing", f.Name, describe(said))
	}
	return err
}

// fleetKind is the kind of what a hook sees of the fleet.
const fleetKind = "fleet"

// onNode is a node of a fleet, or a domain of its operations, such as route. The
// operations of all nodes are the same values: which one is asked is said when one is taken.
type onNode struct {
	*record
	node string
}

var (
	_ starlark.HasAttrs        = (*onNode)(nil)
	_ starlark.IterableMapping = (*onNode)(nil)
	_ starlark.Comparable      = (*onNode)(nil)
)

// Attr implements [starlark.HasAttrs].
func (n *onNode) Attr(name string) (starlark.Value, error) {
	v, err := n.record.Attr(name)
	return n.bound(v), err
}

// Get implements [starlark.Mapping].
func (n *onNode) Get(key starlark.Value) (starlark.Value, bool, error) {
	v, found, err := n.record.Get(key)
	return n.bound(v), found, err
}

// Items implements [starlark.IterableMapping].
func (n *onNode) Items() []starlark.Tuple {
	out := n.record.Items()
	for i := range out {
		out[i][1] = n.bound(out[i][1])
	}
	return out
}

// bound is v as it is of this node.
func (n *onNode) bound(v starlark.Value) starlark.Value {
	switch v := v.(type) {
	case *starlark.Builtin:
		return v.BindReceiver(starlark.String(n.node))
	case *record:
		return &onNode{v, n.node}
	}
	return v
}

// CompareSameType implements [starlark.Comparable]: a node is itself.
func (n *onNode) CompareSameType(op syntax.Token, y starlark.Value, _ int) (bool, error) {
	o, ok := y.(*onNode)
	switch {
	case op != syntax.EQL && op != syntax.NEQ:
		return false, fmt.Errorf("%s %s %s is not supported", n.kind, op, n.kind)
	case !ok:
		return false, errors.New("these cannot be compared")
	}
	return (n.node == o.node && n.kind == o.kind) == (op == syntax.EQL), nil
}
