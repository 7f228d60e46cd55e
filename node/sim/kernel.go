package sim

import (
	"cmp"
	"maps"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is what changes of every kind have in common: in which order they
// are made, what they look at, and how they are taken back. What the kernel makes of a
// change stands in the file of its kind.

// order returns the keys of want in the order in which they are made, that of
// a linux node: what something rests on first, then what goes, in the reverse order.
func order(want resource.State) []resource.Key {
	keys := want.Keys()
	place := func(k resource.Key) int { a, _ := want[k].(resource.Addr); return a.Place }
	slices.SortStableFunc(keys, func(a, b resource.Key) int {
		return cmp.Or(rank(a, want[a])-rank(b, want[b]), place(a)-place(b))
	})
	return keys
}

// goes is added to the rank of what goes.
const goes = 100

func rank(k resource.Key, want resource.Resource) int {
	r := map[resource.Kind]int{
		resource.KindLink: 1, resource.KindAddr: 2, resource.KindRule: 3, resource.KindNexthop: 4, resource.KindNeigh: 6,
		resource.KindRoute: 7,
	}[k.Kind()]
	switch want := want.(type) {
	case nil:
		if k.Kind() == resource.KindAddr { // before any route: some go with it
			return r
		}
		return goes - r
	case resource.Nexthop:
		if len(want.Group) > 0 {
			return r + 1
		}
	case resource.Route:
		if slices.ContainsFunc(want.Hops, func(h resource.Hop) bool { return h.Via.IsValid() }) || want.NHID != 0 {
			return r + 1
		}
	}
	return r
}

// needs returns what must be known to foresee that k becomes want. It may be
// more than the outcome then rests on, but is enough: it is fetched at once.
func needs(k resource.Key, want resource.Resource) resource.Query {
	switch k.Kind() {
	case resource.KindRoute:
		return needsRoute(k, want)
	case resource.KindLink:
		return needsLink(linkOf(k))
	case resource.KindRule:
		family, _, _, _ := resource.ParseRuleKey(k)
		return resource.Query{rulesOf(family)}
	case resource.KindNeigh:
		n, _ := resource.ParseNeighKey(k)
		return resource.Query{neighAt(n), {Kind: resource.KindLink, Name: n.Dev}, multicast6}
	case resource.KindAddr:
		return needsAddr(k)
	case resource.KindNexthop:
		return needsNexthop(want)
	}
	if k.Kind().OfServer() {
		return resource.Query{{Kind: k.Kind(), Name: k.Server(), Key: k}}
	}
	return nil
}

// make makes k what want says: a nil want is its absence.
func (w *kernel) make(k resource.Key, want resource.Resource) error {
	switch k.Kind() {
	case resource.KindRoute:
		return w.makeRoute(k, want)
	case resource.KindLink:
		return w.makeLink(k, want)
	case resource.KindRule:
		return w.makeRule(k, want)
	case resource.KindNeigh:
		return w.makeNeigh(k, want)
	case resource.KindAddr:
		return w.makeAddr(k, want)
	case resource.KindNexthop:
		return w.makeNexthop(k, want)
	}
	if k.Kind().OfServer() {
		return w.makeServer(k, want)
	}
	return unpredictable("a change of %s", k)
}

// makeServer makes k, which a Postgres server holds, what want says: the server makes
// just that of it, as whoever asks for it has worked out.
func (w *kernel) makeServer(k resource.Key, want resource.Resource) error {
	switch {
	case k.Kind().Ends() && want != nil, !k.Kind().Ends() && want == nil:
		return unpredictable("that %s comes or goes", k)
	case want != nil && want.Key() != k:
		return engine.Internal.Errorf("%s cannot become %s", k, want.Key())
	}
	if !slices.ContainsFunc(w.footprint, func(s resource.Selector) bool { return s.Key == k }) { // which may say what else must be true of it
		w.look(resource.Selector{Kind: k.Kind(), Name: k.Server(), Key: k})
	}
	w.set(k, want)
	return nil
}

// kernel is one change on its way: a copy of the state that it is tried on,
// and what was looked at.
type kernel struct {
	state     resource.State // changed in place: a copy for each prediction would cost more than the rest
	want      resource.State // all that is to be made
	footprint resource.Query
	placed    map[resource.Key]bool // the priorities whose rules were made, by the key of the first
	split     bool                  // IPv4: the tables main and local are two, see newRoute4
	was       resource.State        // of the keys that were changed: what they were; see set
	unknown   []resource.Key        // of these: those that state did not have
	putsBack  bool                  // an address is put back where it was, and the routes that it came with
	back      bool                  // what is made was there before: a node then finds its gateways in any case, see byDetour
}

// putsBack reports whether want is what was there before: it has an address with its
// place, or a route that only the kernel makes. All that goes with these is in it too.
func putsBack(want, state resource.State) bool {
	for k, r := range want {
		switch r := r.(type) {
		case resource.Addr:
			if r.Place > 0 && len(resource.Compare(resource.State{k: r}, resource.State{k: state[k]})) > 0 {
				return true
			}
		case resource.Route:
			if r.Proto == resource.ProtoKernel && r.Type != resource.Unicast && state[k] == nil {
				return true
			}
		}
	}
	return false
}

// set makes k what r is, and remembers what it was.
func (w *kernel) set(k resource.Key, r resource.Resource) {
	if _, again := w.was[k]; !again {
		old, known := w.state[k]
		if !known {
			w.unknown = append(w.unknown, k)
		}
		if w.was == nil {
			w.was = resource.State{}
		}
		w.was[k] = old
	}
	w.state[k] = r
}

// undo makes the state what it was.
func (w *kernel) undo() {
	maps.Copy(w.state, w.was)
	for _, k := range w.unknown {
		delete(w.state, k)
	}
}

// before is what q selected of the state before it was changed, given what it selects now.
func (w *kernel) before(q resource.Query, now resource.State) resource.State {
	out := now.Clone()
	for k, r := range w.was {
		delete(out, k)
		if r != nil && q.Match(r) {
			out[k] = r
		}
	}
	return out
}

// look adds to the footprint.
func (w *kernel) look(q ...resource.Selector) {
	for _, s := range q {
		if !slices.ContainsFunc(w.footprint, func(o resource.Selector) bool { return includes(o, s) }) {
			w.footprint = append(w.footprint, s)
		}
	}
}
