package main

import (
	"context"
	"errors"

	"runbook/engine"
	"runbook/node/pg"
)

// This file reaches servers: a node's own through the node, and those that nodes share.

// withServers reaches what nodes reaches, and Postgres servers beside.
type withServers struct{ nodes engine.Dialer }

// Dial implements [engine.Dialer].
func (d withServers) Dial(ctx context.Context, name string) (engine.Node, error) {
	t, is := engine.ParseTarget(name)
	switch {
	case !is:
		n, err := d.nodes.Dial(ctx, name)
		if err != nil {
			return nil, err
		}
		return pg.Beside(n, pg.Through(n)), nil
	case t.Via == "":
		return pg.Beside(nil, nil), nil
	}
	n, err := d.nodes.Dial(ctx, t.Via)
	if err != nil {
		return nil, err
	}
	return reachedVia{pg.Beside(nil, pg.Through(n)), n}, nil
}

// reachedVia is a target that is reached through a node, over a connection of its own.
type reachedVia struct {
	engine.Node
	via engine.Node
}

// Lost implements [engine.Line].
func (r reachedVia) Lost() bool {
	l, can := r.via.(engine.Line)
	return can && l.Lost()
}

// Release implements [engine.Holder].
func (r reachedVia) Release() {
	if h, can := r.Node.(engine.Holder); can {
		h.Release()
	}
}

// Close implements [engine.Node].
func (r reachedVia) Close() error { return errors.Join(r.Node.Close(), r.via.Close()) }
