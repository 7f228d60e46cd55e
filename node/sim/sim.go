// Package sim is the node in memory. It says what the Linux kernel would do to
// a change, without doing it: dry runs predict on it, tests and labs without
// namespaces run on it.
//
// It is an [engine.Model], seeded lazily from a real node ([Over]), and an
// [engine.Node] that holds a literal state ([New]). What it says is held to the
// kernel by the conformance suite in node/nodetest.
//
// # What is modelled
//
// IPv4 and IPv6 routes in every table: unicast over one hop or several,
// blackhole, unreachable, prohibit and throw, with metric, protocol, scope,
// onlink, preferred source and, for IPv4, TOS. They lead over links of type
// ether or veth without a master. Everything else is refused with
// [engine.ErrUnpredictable]: changes to nexthop objects and to routes that use one, but
// for putting them back; routes with a lifetime, a source prefix or attributes that have
// no field ([resource.Route.Extra]); several routes of one identity; what could not be
// put back. A tentative IPv6 address counts as usable.
//
// IPv4 and IPv6 addresses that have no lifetime, on such links and on lo, with
// their order, and all that comes and goes with them: the routes of subnets,
// which addresses share, secondary addresses, and what has them for its source.
//
// Policy rules with all that has a field, and gateways are looked up as they
// say; permanent and managed neighbours and proxies on such links.
//
// # The normal form of a route
//
// What Read returns, on every kind of node, and therefore what Predict writes
// to Edit.After, is what the kernel would dump, in one form:
//
//   - A unicast route over one hop has one Hop, with Weight 0. Dev is always
//     set: the kernel finds it through the gateway where it was not given.
//   - A multipath route has two hops or more, in the order in which they were
//     given, each with a Weight of 1 to 256.
//   - A blackhole (unreachable, prohibit, throw) has no hops. The kernel puts
//     those of IPv6 on lo, whatever was asked for; that is left out.
//   - Metric is explicit in IPv6: 1024 where none was given. Scope is what was
//     asked for in IPv4, and always global in IPv6.
//   - PrefSrc is there only where it was asked for (the kernel's own prefix
//     routes ask for it).
//   - Flags that come and go with the carrier (dead, linkdown) are left out, as
//     are cached clones. The local table is included.
package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

var (
	_ engine.Model = (*Node)(nil)
	_ engine.Node  = (*Node)(nil)
)

// Node is a node in memory. It is safe for concurrent use.
type Node struct {
	mu    sync.Mutex
	store store
}

// Over returns a model of the node behind src. It reads from src only what it
// is asked about and what a prediction needs, and everything only once.
func Over(src engine.Reader) *Node {
	return &Node{store: store{src: src, known: resource.State{}}}
}

// New returns a node that holds s and nothing else.
func New(s resource.State) *Node {
	w := &kernel{state: s.Clone()}
	for _, a := range resource.All[resource.Addr](w.state) {
		if a.Place == 0 { // nothing says in which order they are
			w.arrange(w.addrs(a.Dev, a.Family()))
		}
	}
	return &Node{store: store{known: w.state}}
}

// Hold has n hold s, too, as it stands.
func (n *Node) Hold(s resource.State) {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.Copy(n.store.known, s)
}

// Read implements [engine.Reader].
func (n *Node) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.store.load(ctx, q); err != nil {
		return nil, err
	}
	return n.store.known.Select(q), nil
}

// Predict implements [engine.Model]. It asks the node below for all that it
// needs in one Read. Where the kernel would refuse, e is completed too, with
// After equal to Before, and the model stays as it was.
func (n *Node) Predict(ctx context.Context, e *engine.Edit) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.predict(ctx, e)
}

// Apply implements [engine.Node].
func (n *Node) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.store.load(ctx, e.Query); err != nil {
		return nil, err
	}
	if found := n.store.known.Select(e.Query); e.Before != nil && !resource.Equal(e.Before, found) {
		return nil, &engine.DriftError{Found: found}
	}
	wanted := engine.Edit{Want: e.Want, Restart: e.Restart, Undo: e.Undo, AsItWas: e.AsItWas}
	if err := n.predict(ctx, &wanted); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(e.Want.Keys(), func(k resource.Key) bool {
		return k.Kind() == resource.KindAddr || k.Kind() == resource.KindLink
	}) {
		n.keep(e)
	}
	return n.store.known.Select(e.Query), nil
}

// keep makes as it was what e foresees unchanged although the kernel takes it along with an
// address or a link: a node puts it back.
func (n *Node) keep(e engine.Edit) {
	for k, r := range e.Before {
		_, wanted := e.Want[k]
		if kind := k.Kind(); !wanted && (kind == resource.KindRoute || kind == resource.KindAddr) && len(resource.Compare(resource.State{k: r}, resource.State{k: e.After[k]})) == 0 {
			n.store.known[k] = r
		}
	}
}

// Close implements [engine.Node]. What the model was laid over stays open.
func (n *Node) Close() error { return nil }

func (n *Node) predict(ctx context.Context, e *engine.Edit) error {
	q := append(sessionsFor(e), e.Query...)
	for _, k := range order(e.Want) {
		q = append(q, needs(k, e.Want[k])...)
	}
	if e.Restart != "" {
		q = append(q, needsLink(e.Restart)...)
	}
	// What the node remembers is wanted by whoever predicts a change: it comes with the rest.
	if err := n.store.load(ctx, append(q, resource.Selector{Kind: resource.KindMemory})); err != nil {
		return err
	}

	w, refused := n.try(e)
	// Usually that is all: what the kernel looked at was foreseen by needs.
	for len(subtract(w.footprint, n.store.read)) > 0 && n.store.src != nil {
		w.undo()
		if err := n.store.load(ctx, w.footprint); err != nil {
			return err
		}
		w, refused = n.try(e)
	}
	e.Query = w.footprint
	e.After = n.store.known.Select(e.Query)
	e.Before = w.before(e.Query, e.After)
	if refused != nil {
		w.undo()
		e.After = e.Before.Clone()
		return refused
	}
	disrupt(e)
	return n.cut(ctx, e)
}

// carrierAndDAD is how long a link that comes up may take until its addresses are usable.
const carrierAndDAD = 8 * time.Second

// disrupt says in e what it interrupts, and gives what takes its time more of it.
func disrupt(e *engine.Edit) {
	if e.Restart != "" {
		e.Disrupts, e.Verb = resource.LinkKey(e.Restart), "restart"
		e.Settle = max(e.Settle, engine.Duration(carrierAndDAD))
	}
	for _, c := range e.Diff() {
		before, _ := c.Before.(resource.Link)
		after, _ := c.After.(resource.Link)
		a, isAddr := c.After.(resource.Addr)
		switch {
		case before.Up && !after.Up && e.Disrupts == "":
			e.Disrupts, e.Verb = c.Key, "down"
		case !before.Up && after.Up, c.Before == nil && isAddr && detects(resource.Link{}, a):
			e.Settle = max(e.Settle, engine.Duration(carrierAndDAD))
		}
	}
}

// try makes what e wants, on what is known so far.
func (n *Node) try(e *engine.Edit) (*kernel, error) {
	w := &kernel{
		state: n.store.known, want: e.Want, footprint: slices.Clone(e.Query),
		placed: map[resource.Key]bool{}, putsBack: putsBack(e.Want, n.store.known), back: e.Undo,
	}
	if e.AsItWas { // a node makes it so, whatever its kernel takes along
		for k, r := range e.Want {
			w.set(k, r)
		}
		return w, nil
	}
	for _, k := range order(e.Want) {
		if err := w.make(k, e.Want[k]); err != nil {
			return w, err
		}
	}
	if e.Restart == "" {
		if e.Undo {
			return w, nil
		}
		return w, w.canGoBack(n.store.knows)
	}
	var err error
	e.Lost, err = w.restart(e.Restart)
	return w, err
}

// unpredictable is the error for what the model does not cover.
func unpredictable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", engine.ErrUnpredictable, fmt.Sprintf(format, args...))
}
