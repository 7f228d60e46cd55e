package pg

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"

	"runbook/engine"
	"runbook/engine/resource"
)

// Beside returns node with Postgres servers beside it: what is asked of a server goes to the one
// that it names, which is connected to when it is first asked, by dial (nil: from this
// machine), and kept until the node is closed. All else goes to node, which may be nil: there are
// then servers only. An edit changes one server, or the node.
//
// It can all that node can: where node is no [engine.Snapshotter], it has no snapshot, and so on.
func Beside(node engine.Node, dial Dial) engine.Node {
	return &beside{node: node, dial: dial, servers: map[string]*Server{}}
}

type beside struct {
	node engine.Node // or nil
	dial Dial

	mu      sync.Mutex
	servers map[string]*Server
	closed  bool
}

var (
	_ engine.Node        = (*beside)(nil)
	_ engine.Sequencer   = (*beside)(nil)
	_ engine.Snapshotter = (*beside)(nil)
	_ engine.Line        = (*beside)(nil)
	_ engine.Holder      = (*beside)(nil)
	_ engine.Confirmer   = (*beside)(nil)
	_ engine.Dialing     = (*beside)(nil)
)

// server is the one with that name.
func (b *beside) server(name string) (*Server, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.servers[name]; s != nil {
		return s, nil
	}
	if b.closed {
		return nil, net.ErrClosed
	}
	s, err := Open(name, b.dial)
	if err == nil {
		b.servers[name] = s
	}
	return s, err
}

// split is e for each that has a part in it: "" is the node.
func split(e engine.Edit) map[string]engine.Edit {
	out := map[string]engine.Edit{}
	part := func(name string, f func(*engine.Edit)) {
		p, has := out[name]
		if !has {
			if p = e; name != "" {
				p.Restart = ""
			}
			p.Want, p.Query, p.Before, p.After = nil, nil, nil, nil
			if e.Before != nil {
				p.Before = resource.State{}
			}
			if e.After != nil {
				p.After = resource.State{}
			}
		}
		f(&p)
		out[name] = p
	}
	for _, s := range e.Query {
		name := ""
		if s.Kind.OfServer() {
			name = s.Name
		}
		part(name, func(p *engine.Edit) { p.Query = append(p.Query, s) })
	}
	for k, r := range e.Want {
		part(k.Server(), func(p *engine.Edit) {
			if p.Want == nil {
				p.Want = resource.State{}
			}
			p.Want[k] = r
		})
	}
	for k, r := range e.Before {
		part(k.Server(), func(p *engine.Edit) { p.Before[k] = r })
	}
	for k, r := range e.After {
		part(k.Server(), func(p *engine.Edit) { p.After[k] = r })
	}
	return out
}

// Read implements [engine.Reader].
func (b *beside) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	out := resource.State{}
	for name, e := range split(engine.Edit{Query: q}) {
		from, err := b.whose(name, e)
		if err != nil {
			return nil, err
		}
		if from == nil {
			continue
		}
		found, err := from.Read(ctx, e.Query)
		if err != nil {
			return nil, err
		}
		for k, r := range found {
			out[k] = r
		}
	}
	return out, nil
}

// whose is who is asked for e, a part of an edit: nil is nobody, where there is no node.
func (b *beside) whose(name string, e engine.Edit) (engine.Node, error) {
	for _, s := range e.Query {
		if s.Kind.OfServer() && name == "" {
			return nil, engine.Internal.Errorf("a %s is asked for, and of no server", s.Kind)
		}
	}
	if name != "" {
		return b.server(name)
	}
	if b.node == nil && len(e.Want) > 0 {
		return nil, engine.Internal.Errorf("there is no node, and of it %v is wanted", e.Want.Keys())
	}
	return b.node, nil
}

// Apply implements [engine.Node].
func (b *beside) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	parts := split(e)
	if len(parts) == 0 && b.node != nil { // which may wait with it for what still goes on
		return b.node.Apply(ctx, e)
	}
	changed := 0
	for _, p := range parts {
		if len(p.Want) > 0 {
			changed++
		}
	}
	if changed > 1 {
		return nil, engine.Internal.Errorf("one edit is to change more than one of a node and its servers: %v", e.Want.Keys())
	}
	out := resource.State{}
	// What is only looked at comes first: where it has drifted, nothing is changed.
	for _, looks := range []bool{true, false} {
		for name, p := range parts {
			if (len(p.Want) == 0 && p.Restart == "") != looks {
				continue
			}
			found, err := b.applyPart(ctx, name, p)
			var drift *engine.DriftError
			if errors.As(err, &drift) {
				for k, r := range out {
					drift.Found[k] = r
				}
			}
			if err != nil {
				return nil, err
			}
			for k, r := range found {
				out[k] = r
			}
		}
	}
	return out, nil
}

func (b *beside) applyPart(ctx context.Context, name string, e engine.Edit) (resource.State, error) {
	to, err := b.whose(name, e)
	if to == nil || err != nil {
		return nil, err
	}
	return to.Apply(ctx, e)
}

// ApplyAll implements [engine.Sequencer]: what follows each other for the node goes out together.
func (b *beside) ApplyAll(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	var out []resource.State
	for len(edits) > 0 {
		n := 0
		for n < len(edits) && b.node != nil && ofNode(edits[n]) {
			n++
		}
		var found []resource.State
		var err error
		if n > 0 {
			found, err = engine.ApplyAll(ctx, b.node, edits[:n])
		} else {
			var s resource.State
			n = 1
			if s, err = b.Apply(ctx, edits[0]); err == nil {
				found = []resource.State{s}
			}
		}
		out = append(out, found...)
		if err != nil || len(found) < n || !resource.Equal(edits[n-1].After, found[n-1]) {
			return out, err
		}
		edits = edits[n:]
	}
	return out, nil
}

// ofNode reports whether e has nothing to do with any server.
func ofNode(e engine.Edit) bool {
	parts := split(e)
	_, has := parts[""]
	return has && len(parts) == 1 || len(parts) == 0
}

// Close implements [engine.Node]: it closes the servers and the node.
func (b *beside) Close() error {
	b.mu.Lock()
	servers := b.servers
	b.servers, b.closed = nil, true
	b.mu.Unlock()
	for _, s := range servers { // before the node, through which they may be reached
		s.Close() //nolint:errcheck // it returns none
	}
	if b.node == nil {
		return nil
	}
	return b.node.Close()
}

// Snapshot implements [engine.Snapshotter], of the node alone.
func (b *beside) Snapshot(ctx context.Context, max int) (resource.State, bool, error) {
	if n, can := b.node.(engine.Snapshotter); can {
		return n.Snapshot(ctx, max)
	}
	return nil, false, nil
}

// Lost implements [engine.Line]: a server that is lost is connected to again, a node is not.
func (b *beside) Lost() bool {
	n, can := b.node.(engine.Line)
	return can && n.Lost()
}

// Release implements [engine.Holder].
func (b *beside) Release() {
	b.mu.Lock()
	servers := slices.Collect(maps.Values(b.servers))
	b.mu.Unlock()
	for _, s := range servers {
		s.Release()
	}
	if n, can := b.node.(engine.Holder); can {
		n.Release()
	}
}

// Confirm implements [engine.Confirmer].
func (b *beside) Confirm(ctx context.Context, token string) error {
	if n, can := b.node.(engine.Confirmer); can {
		return n.Confirm(ctx, token)
	}
	return engine.Internal.Errorf("this kind of node guards nothing")
}

// Dial implements [engine.Dialing].
func (b *beside) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return Through(b.node)(ctx, network, addr)
}
