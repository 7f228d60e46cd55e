package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file keeps the connections of a run, and gives every call over them a deadline.

// fleet keeps one connection to each node for the length of a run, or as long
// as it lasts.
type fleet struct {
	mu    sync.Mutex
	nodes map[string]engine.Node
}

func (f *fleet) node(ctx context.Context, d engine.Dialer, name string) (engine.Node, error) {
	f.mu.Lock()
	n := f.nodes[name]
	f.mu.Unlock()
	if n != nil && !lost(n) {
		return n, nil
	}
	return f.fresh(ctx, d, name)
}

// fresh makes a new connection to a node, in place of the one that there may be.
func (f *fleet) fresh(ctx context.Context, d engine.Dialer, name string) (patient, error) {
	dialing, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	dialed, err := d.Dial(dialing, name)
	if err != nil {
		return patient{}, late(ctx, dialing, err, dialWithin)
	}
	n := patient{dialed}
	f.mu.Lock()
	old := f.nodes[name]
	if f.nodes == nil {
		f.nodes = map[string]engine.Node{}
	}
	f.nodes[name] = n
	f.mu.Unlock()
	if old != nil {
		old.Close() //nolint:errcheck // it is lost, or not needed any more
	}
	return n, nil
}

// release lets other runs change a node that this one is through with.
func (f *fleet) release(name string) {
	f.mu.Lock()
	n := f.nodes[name]
	f.mu.Unlock()
	if p, ok := n.(patient); ok {
		if h, can := p.Node.(engine.Holder); can {
			h.Release()
		}
	}
}

func (f *fleet) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var nodes []engine.Node
	for _, n := range f.nodes {
		nodes = append(nodes, n)
	}
	each(len(nodes), parallel, func(i int) { nodes[i].Close() })
	f.nodes = nil
}

// How long a node may take. Every call has a deadline: a node that hangs costs
// its own slot, for so long.
const (
	dialWithin   = 20 * time.Second
	answerWithin = 30 * time.Second
)

// patient is a node whose every call has a deadline.
type patient struct{ engine.Node }

func (p patient) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	own, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	s, err := p.Node.Read(own, q)
	return s, late(ctx, own, err, answerWithin)
}

func (p patient) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	within := answerWithin + time.Duration(e.Settle)
	own, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	s, err := p.Node.Apply(own, e)
	return s, late(ctx, own, err, within)
}

// ApplyAll implements [engine.Sequencer], where the node does.
func (p patient) ApplyAll(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	within := answerWithin
	for _, e := range edits {
		within += time.Duration(e.Settle)
	}
	own, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	s, err := engine.ApplyAll(own, p.Node, edits)
	return s, late(ctx, own, err, within)
}

// Snapshot implements [engine.Snapshotter], where the node does.
func (p patient) Snapshot(ctx context.Context, max int) (resource.State, bool, error) {
	n, can := p.Node.(engine.Snapshotter)
	if !can {
		return nil, false, nil
	}
	own, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	s, few, err := n.Snapshot(own, max)
	return s, few, late(ctx, own, err, answerWithin)
}

// Confirm implements [engine.Confirmer], where the node does.
func (p patient) Confirm(ctx context.Context, token string) error {
	n, can := p.Node.(engine.Confirmer)
	if !can {
		return engine.Internal.Errorf("this kind of node guards nothing")
	}
	own, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return late(ctx, own, n.Confirm(own, token), answerWithin)
}

// Lost implements [engine.Line], where the node does.
func (p patient) Lost() bool {
	n, can := p.Node.(engine.Line)
	return can && n.Lost()
}

// late says in err which deadline has passed, where one has: the run's, with
// what its context says, or a call's own.
func late(ctx, own context.Context, err error, within time.Duration) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ended(ctx, err)
	case errors.Is(own.Err(), context.DeadlineExceeded):
		return &engine.Error{Code: engine.Unreachable, Cause: fmt.Sprintf("no answer within %s", within), Err: err}
	}
	return err
}

// ended is err, or the limit that ended ctx.
func ended(ctx context.Context, err error) error {
	var limit *engine.Error
	if errors.As(context.Cause(ctx), &limit) {
		return limit
	}
	return err
}

// each calls f(0) … f(n-1), so many at a time, and waits for all.
func each(n, at int, f func(int)) {
	var g errgroup.Group
	g.SetLimit(at)
	for i := range n {
		g.Go(func() error { f(i); return nil })
	}
	g.Wait() //nolint:errcheck // f keeps its own errors
}

// canceled reports whether err says that somebody stopped the run.
func canceled(err error) bool { return errors.Is(err, context.Canceled) }
