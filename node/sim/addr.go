package sim

import (
	"cmp"
	"net/netip"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is what addresses of both families have in common: what a change
// must look at, which are not modelled, and the routes that come and go with
// them. addr4.go and addr6.go hold the kernel's own rules.

// needsAddr returns what must be known to foresee that the address under k
// comes or goes.
func needsAddr(k resource.Key) resource.Query {
	dev, p, err := resource.ParseAddrKey(k)
	if err != nil {
		return nil
	}
	family := resource.Addr{Prefix: p}.Family()
	q := resource.Query{
		{Kind: resource.KindLink, Name: dev},
		{Kind: resource.KindAddr, Name: dev, Family: family},
		{Kind: resource.KindRoute, Name: dev, Family: family},
		{Kind: resource.KindRoute, Table: resource.TableLocal, Family: family},
		{Kind: resource.KindRoute, Dst: p.Masked()},
		{Kind: resource.KindRoute, PrefSrc: p.Addr()},
		{Kind: resource.KindRoute, Covers: p.Addr(), Table: resource.TableMain},
	}
	if family == 6 {
		return append(q, resource.Selector{Kind: resource.KindAddr, Covers: p.Addr()})
	}
	return append(q, resource.Selector{Kind: resource.KindNeigh, Name: dev, Family: 4})
}

// makeAddr makes the address under k what want says: a nil want is its absence.
func (w *kernel) makeAddr(k resource.Key, want resource.Resource) error {
	dev, p, err := resource.ParseAddrKey(k)
	if err != nil {
		return err
	}
	family := resource.Addr{Prefix: p}.Family()
	w.look(resource.Selector{Kind: resource.KindLink, Name: dev}, resource.Selector{Kind: resource.KindAddr, Name: dev, Family: family})
	have, exists := resource.Get[resource.Addr](w.state, k)
	if want == nil {
		if !exists {
			return nil
		}
		return w.goneAddr(have)
	}
	a, ok := want.(resource.Addr)
	if !ok || a.Key() != k {
		return engine.Internal.Errorf("%s cannot become %s", k, want.Key())
	}
	switch {
	case exists && have == asKept(a, have):
		return nil
	case a.Place > 0: // it was read, and is put back
		w.putBackAddr(a)
		return nil
	}
	return w.newAddr(a)
}

// asKept is a with what the kernel alone decides, as in have.
func asKept(a, have resource.Addr) resource.Addr {
	if a.Family() == 6 {
		a.Scope = have.Scope
	}
	if a.Place == 0 {
		a.Secondary, a.Place = have.Secondary, have.Place
	}
	return a
}

// newAddr adds a to its link.
func (w *kernel) newAddr(a resource.Addr) error {
	l, err := w.addrLink(a.Dev)
	if err != nil {
		return err
	}
	if err := modelledAddr(a); err != nil {
		return err
	}
	if a.Family() == 4 {
		return w.newAddr4(l, a)
	}
	return w.newAddr6(l, a)
}

// goneAddr deletes a from its link.
func (w *kernel) goneAddr(a resource.Addr) error {
	l, err := w.addrLink(a.Dev)
	if err != nil {
		return err
	}
	if err := modelledAddr(a); err != nil {
		return err
	}
	if a.Family() == 4 {
		return w.goneAddr4(l, a)
	}
	return w.goneAddr6(l, a)
}

// putBackAddr puts a where it was. The routes that came with it are put back
// beside it, each as what it was: a node makes both so.
func (w *kernel) putBackAddr(a resource.Addr) {
	list := slices.DeleteFunc(w.addrs(a.Dev, a.Family()), func(o resource.Addr) bool { return o.Key() == a.Key() })
	at := 0
	for at < len(list) && (list[at].OneOrder(a) && list[at].Place < a.Place || a.Family() == 6 && list[at].Scope < a.Scope) {
		at++
	}
	w.arrange(slices.Insert(list, at, a))
}

// addrLink returns the link called name, which an address is to be on.
func (w *kernel) addrLink(name string) (resource.Link, error) {
	l, ok := resource.Get[resource.Link](w.state, resource.LinkKey(name))
	w.look(resource.Selector{Kind: resource.KindLink, Name: name})
	if ok && l.Type == "loopback" {
		return l, nil
	}
	return w.link(name)
}

// modelledAddr reports what there is about a that the model does not cover.
func modelledAddr(a resource.Addr) error {
	four, ip := a.Family() == 4, a.Prefix.Addr()
	switch {
	case !a.Permanent:
		return unpredictable("a change of an address that has a lifetime: %s", a)
	case four && (a.Flags != 0 || ip.IsMulticast() || ip.As4()[0] == 0 || ip.As4()[0] >= 240),
		a.Flags&^flagNoDAD != 0:
		return unpredictable("an address of this sort: %s", a)
	case len(a.Label) > 15:
		return unpredictable("a label of more than 15 characters: %s", a)
	case !four && (a.Broadcast.IsValid() || a.Label != "" || a.Secondary):
		return unpredictable("an IPv6 address with a broadcast address, a label, or made for privacy: %s", a)
	case a.Peer.IsValid() && (a.Peer.Bits() != a.Prefix.Bits() || a.Peer.Addr().Is4() != four || a.Peer.Addr() == ip || a.Peer.Addr().IsUnspecified()):
		return unpredictable("an address with the peer %s: %s", a.Peer, a)
	case ip.Zone() != "" || ip.Is4In6() || a.Broadcast.IsValid() && !a.Broadcast.Is4():
		return unpredictable("an address of another family: %s", a)
	}
	return nil
}

// flagNoDAD is IFA_F_NODAD: no duplicate address detection.
const flagNoDAD = 0x02

// addrs returns the addresses of dev in the kernel's order.
func (w *kernel) addrs(dev string, family int) []resource.Addr {
	s := resource.Selector{Kind: resource.KindAddr, Name: dev, Family: family}
	w.look(s)
	var out []resource.Addr
	for _, r := range w.state {
		if a, ok := r.(resource.Addr); ok && a.Match(s) {
			out = append(out, a)
		}
	}
	secondary := func(a resource.Addr) int {
		if a.Secondary {
			return 1
		}
		return 0
	}
	slices.SortFunc(out, func(a, b resource.Addr) int {
		if !a.OneOrder(b) {
			return cmp.Compare(a.Scope, b.Scope)
		}
		return cmp.Or(a.Place-b.Place, secondary(a)-secondary(b), cmp.Compare(a.Key(), b.Key()))
	})
	return out
}

// arrange makes list the order of the addresses of a link.
func (w *kernel) arrange(list []resource.Addr) {
	place := 0
	for i, a := range list {
		if i > 0 && !a.OneOrder(list[i-1]) {
			place = 0
		}
		place++
		if a.Place = place; w.state[a.Key()] != resource.Resource(a) {
			w.set(a.Key(), a)
		}
	}
}

// sameIdentity returns the routes to r's destination in r's table that the
// kernel does not tell from r by their key, in its order.
func (w *kernel) sameIdentity(r resource.Route) []resource.Route {
	w.look(resource.Selector{Kind: resource.KindRoute, Dst: r.Dst, Table: r.Table})
	var out []resource.Route
	if r.ByLink() { // it has one of its own
		if have, ok := resource.Get[resource.Route](w.state, r.Key()); ok {
			out = append(out, have)
		}
		return out
	}
	for r.Nth = 0; ; r.Nth++ {
		have, ok := resource.Get[resource.Route](w.state, r.Key())
		if !ok {
			return out
		}
		out = append(out, have)
	}
}

// appendRoute adds r behind the routes of its identity, unless shared says of one of them
// that it does for r.
func (w *kernel) appendRoute(r resource.Route, shared func(resource.Route) bool) {
	same := w.sameIdentity(r)
	does := func(o resource.Route) bool {
		return o.Metric == r.Metric && !o.Src.IsValid() && o.TOS == r.TOS && shared(o)
	}
	if slices.ContainsFunc(w.routes(resource.Selector{Kind: resource.KindRoute, Dst: r.Dst, Table: r.Table}), does) {
		return
	}
	r.Nth = len(same)
	if r.ByLink() {
		r.Nth = 0
	}
	w.set(r.Key(), r)
}

// dropRoute deletes r; those behind it move up.
func (w *kernel) dropRoute(r resource.Route) {
	for _, next := range w.sameIdentity(r) {
		if next.Nth > r.Nth {
			w.set(r.Key(), with(next, r.Nth))
			r.Nth++
		}
	}
	w.set(r.Key(), nil)
}

func with(r resource.Route, nth int) resource.Route {
	r.Nth = nth
	return r
}

// dropFirst deletes the first route to dst in table that match accepts, in the order of the metrics.
func (w *kernel) dropFirst(dst netip.Prefix, table resource.Table, match func(resource.Route) bool) {
	s := resource.Selector{Kind: resource.KindRoute, Dst: dst, Table: table}
	w.look(s)
	for _, r := range w.routes(s) {
		if match(r) {
			w.dropRoute(r)
			return
		}
	}
}

// routes returns the routes that s selects, those of one identity in the kernel's order.
func (w *kernel) routes(s resource.Selector) []resource.Route {
	w.look(s)
	var out []resource.Route
	for _, r := range w.state {
		if route, ok := r.(resource.Route); ok && route.Match(s) {
			out = append(out, route)
		}
	}
	slices.SortFunc(out, func(a, b resource.Route) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), a.Nth-b.Nth, cmp.Compare(a.Key(), b.Key()))
	})
	return out
}

// kernelRoute is a route that the kernel makes of an address on dev.
func kernelRoute(dev string, dst netip.Prefix, t resource.RouteType, table resource.Table) resource.Route {
	return resource.Route{Dst: dst, Table: table, Type: t, Proto: resource.ProtoKernel, Hops: []resource.Hop{{Dev: dev}}}
}

// one is the prefix of a alone.
func one(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
