package sim

import (
	"net/netip"
	"slices"

	"runbook/engine/resource"
)

// This file is the kernel's rules for IPv4 addresses, in the order in which it
// asks them. The functions that they follow (net/ipv4/devinet.c,
// fib_frontend.c, fib_semantics.c) are named, so that a newer kernel can be compared.

var everybody = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// newAddr4 adds a (inet_rtm_newaddr, __inet_insert_ifa).
func (w *kernel) newAddr4(l resource.Link, a resource.Addr) error {
	list := w.addrs(a.Dev, 4)
	for _, o := range list {
		if o.SameSubnet(a) && o.Prefix.Addr() == a.Prefix.Addr() {
			return refuse("EEXIST", "ipv4: Address already assigned")
		}
	}
	for _, o := range list {
		if o.SameSubnet(a) && o.Scope != a.Scope {
			return refuse("EINVAL", "ipv4: Invalid scope value")
		}
	}
	if w.look(resource.Selector{Kind: resource.KindRoute, PrefSrc: a.Prefix.Addr()}); len(list) == 0 { // they go when the address does
		w.look(onLink4(a.Dev)...)
	}
	list = resource.InsertAddr(list, a)
	w.arrange(list)
	a, _ = resource.Get[resource.Addr](w.state, a.Key())
	w.addRoutes4(list, l, a)
	return nil
}

// primary is the first address of a's subnet (inet_ifa_byprefix).
func primary(list []resource.Addr, a resource.Addr) resource.Addr {
	if i := slices.IndexFunc(list, func(o resource.Addr) bool { return o.SameSubnet(a) }); i >= 0 {
		return list[i]
	}
	return a
}

// subnetRoutes reports whether the kernel makes routes to the subnet of a primary address.
func subnetRoutes(a resource.Addr) bool {
	net := a.Far().Masked()
	return net.Addr().As4()[0] != 0 && (net.Addr() != a.Prefix.Addr() || net.Bits() < 32)
}

// addRoutes4 makes the routes of a, which is one of list (fib_add_ifaddr).
func (w *kernel) addRoutes4(list []resource.Addr, l resource.Link, a resource.Addr) {
	src := a.Prefix.Addr()
	if a.Secondary {
		src = primary(list, a).Prefix.Addr()
	}
	w.addRoute4(a.Dev, one(a.Prefix.Addr()), resource.Local, src, 0)
	if !l.Up {
		return
	}
	if a.Broadcast.IsValid() && a.Broadcast != everybody && !a.Broadcast.IsUnspecified() {
		w.addRoute4(a.Dev, one(a.Broadcast), resource.Broadcast, src, 0)
	}
	if a.Secondary || !subnetRoutes(a) {
		return
	}
	net := a.Far().Masked()
	if !a.NoPrefixRoute {
		w.addRoute4(a.Dev, net, subnetType(l), src, a.Metric)
	}
	if net.Bits() < 31 {
		w.addRoute4(a.Dev, one(broadcast(net)), resource.Broadcast, src, 0)
	}
}

// subnetType is the type of a route to the subnet of an address on l.
func subnetType(l resource.Link) resource.RouteType {
	if l.Type == "loopback" {
		return resource.Local
	}
	return resource.Unicast
}

// route4 is a route of the kernel's own (fib_magic).
func route4(dev string, dst netip.Prefix, t resource.RouteType, src netip.Addr) resource.Route {
	table, scope := resource.TableLocal, resource.ScopeLink
	switch t {
	case resource.Unicast:
		table = resource.TableMain
	case resource.Local:
		scope = resource.ScopeHost
	}
	r := kernelRoute(dev, dst, t, table)
	r.Scope, r.PrefSrc = scope, src
	return r
}

// addRoute4 adds a route of the kernel's own, which may be there already for another address.
func (w *kernel) addRoute4(dev string, dst netip.Prefix, t resource.RouteType, src netip.Addr, metric uint32) {
	r := route4(dev, dst, t, src)
	r.Metric = metric
	if (t != resource.Local || one(src) != dst) && !w.local4(src, resource.TableLocal) { // fib_valid_prefsrc
		return
	}
	w.appendRoute(r, func(o resource.Route) bool { return equal(with(o, 0), r) })
}

// dropRoute4 deletes a route of the kernel's own, of whatever metric (fib_table_delete).
func (w *kernel) dropRoute4(dev string, dst netip.Prefix, t resource.RouteType, src netip.Addr) {
	r := route4(dev, dst, t, src)
	w.dropFirst(dst, r.Table, func(o resource.Route) bool {
		return o.Type == t && o.Scope == r.Scope && o.PrefSrc == src && o.Proto == r.Proto && o.TOS == 0 &&
			o.NHID == 0 && len(o.Hops) > 0 && o.Hops[0].Dev == dev
	})
}

// goneAddr4 deletes a, and its secondaries with it or, where the link is set
// broadcast4 reports whether a is a broadcast address, too.
func (w *kernel) broadcast4(a resource.Addr) bool {
	return slices.ContainsFunc(w.routes(resource.Selector{Kind: resource.KindRoute, Dst: one(a.Prefix.Addr()), Table: resource.TableLocal}), func(r resource.Route) bool {
		return r.Type == resource.Broadcast
	})
}

// so, all but the first, which takes its place (__inet_del_ifa).
func (w *kernel) goneAddr4(l resource.Link, a resource.Addr) error {
	for _, o := range w.addrs(a.Dev, 4) { // of which one that is put back in its place may move others
		if w.broadcast4(o) {
			return unpredictable("taking %s away could not be taken back: %s is a broadcast address of the node, too, so that its routes depend on which was first", a, o)
		}
	}
	list := w.addrs(a.Dev, 4)
	at := slices.IndexFunc(list, func(o resource.Addr) bool { return o.Key() == a.Key() })
	a = list[at]
	var promoted *resource.Addr
	if !a.Secondary {
		for _, o := range slices.Clone(list[at+1:]) {
			if !o.Secondary || !o.SameSubnet(a) {
				continue
			}
			if l.Type == "loopback" { // its settings are not read
				return unpredictable("what becomes of the secondary addresses of %s", a)
			}
			if l.Conf.PromoteSecondaries {
				promoted = &o
				break
			}
			list = slices.DeleteFunc(list, func(x resource.Addr) bool { return x.Key() == o.Key() })
			w.set(o.Key(), nil)
			w.dropRoutes4(list, l, o, nil)
		}
	}
	if promoted != nil {
		w.promote(list, l, at, *promoted)
		return nil
	}
	list = slices.Delete(list, at, at+1)
	w.set(a.Key(), nil)
	w.arrange(list)
	w.dropRoutes4(list, l, a, nil)
	if len(list) > 0 {
		return nil
	}
	return w.withoutIPv4(a.Dev)
}

// promote deletes the address at this place of list and lets next be the
// primary one of its subnet. All routes of the others there get a new source.
func (w *kernel) promote(list []resource.Addr, l resource.Link, at int, next resource.Addr) {
	a := list[at]
	from := slices.IndexFunc(list, func(o resource.Addr) bool { return o.Key() == next.Key() })
	var others []resource.Addr
	for _, o := range list[from:] {
		if !o.SameSubnet(a) {
			continue
		}
		w.dropRoutes4(list, l, o, &a)
		if o.Key() != next.Key() {
			others = append(others, o)
		}
	}
	to := at // behind the last primary before it that is not of a nearer scope
	for i, o := range list[:from] {
		if i > at && !o.Secondary && a.Scope <= o.Scope {
			to = i
		}
	}
	list = slices.Delete(list, at, at+1) // what stood behind it is now one place before
	w.set(a.Key(), nil)
	w.dropRoutes4(list, l, a, nil) // while next still is a secondary
	list = slices.Delete(list, from-1, from)
	next.Secondary = false
	list = slices.Insert(list, to, next)
	w.arrange(list)
	w.addRoutes4(list, l, next)
	for _, o := range others {
		w.addRoutes4(list, l, o)
	}
}

// dropRoutes4 deletes the routes of a which no address of list needs
// (fib_del_ifaddr). With old, which a's subnet is about to lose, list still holds a.
func (w *kernel) dropRoutes4(list []resource.Addr, l resource.Link, a resource.Addr, old *resource.Addr) {
	prim, subnet := a, false
	if a.Secondary {
		prim = primary(list, a)
		if old != nil && prim.Key() != old.Key() {
			return
		}
	} else if subnetRoutes(a) {
		if !a.NoPrefixRoute {
			w.dropRoute4(a.Dev, a.Far().Masked(), subnetType(l), prim.Prefix.Addr())
		}
		subnet = true
	}
	src, net := prim.Prefix.Addr(), a.Far().Masked()
	kept, kept32 := w.kept4(list, a, prim, old)
	if a.Broadcast.IsValid() && !kept[a.Broadcast] {
		w.dropRoute4(a.Dev, one(a.Broadcast), resource.Broadcast, src)
	}
	if subnet && net.Bits() < 31 {
		if !kept[broadcast(net)] {
			w.dropRoute4(a.Dev, one(broadcast(net)), resource.Broadcast, src)
		}
		if !kept[net.Addr()] {
			w.dropRoute4(a.Dev, one(net.Addr()), resource.Broadcast, src)
		}
	}
	if kept32 {
		return
	}
	w.dropRoute4(a.Dev, one(a.Prefix.Addr()), resource.Local, src)
	gone := !slices.ContainsFunc(list, func(o resource.Addr) bool { return o.Key() == a.Key() })
	if gone && w.addrType4(a.Prefix.Addr(), resource.TableLocal) != resource.Local {
		w.withoutSource4(a.Prefix.Addr())
	}
}

// kept4 returns the broadcast addresses whose routes other addresses of list
// need, with the source of prim, and whether another one needs the route to a itself.
func (w *kernel) kept4(list []resource.Addr, a, prim resource.Addr, old *resource.Addr) (out map[netip.Addr]bool, itself bool) {
	out = map[netip.Addr]bool{}
	sharedSource := false // another primary address is the same
	for _, o := range list {
		if o.Key() == a.Key() || old != nil && o.SameSubnet(*old) {
			continue
		}
		user := o // whose address the routes of o have for their source
		if o.Secondary {
			if user = primary(list, o); o.SameSubnet(prim) {
				user = prim
			} else if !sharedSource {
				continue
			}
		}
		if user.Prefix.Addr() != prim.Prefix.Addr() {
			continue
		}
		if !o.Secondary && o.Key() != prim.Key() {
			sharedSource = true
		}
		itself = itself || o.Prefix.Addr() == a.Prefix.Addr()
		if o.Broadcast.IsValid() {
			out[o.Broadcast] = true
		}
		if net := o.Far().Masked(); user.Key() == o.Key() && net.Bits() < 31 && net.Addr().As4()[0] != 0 {
			out[broadcast(net)], out[net.Addr()] = true, true
		}
	}
	return out, itself
}

// withoutSource4 deletes the routes of main whose source is the address a,
// which is gone (fib_sync_down_addr, fib_flush). Those of other tables stay.
func (w *kernel) withoutSource4(a netip.Addr) {
	w.dropAll(resource.Selector{Kind: resource.KindRoute, Table: resource.TableMain, PrefSrc: a})
}

// withoutIPv4 takes IPv4 from dev, which has lost its last address: all routes
// over it and all its neighbours go (fib_disable_ip).
func (w *kernel) withoutIPv4(dev string) error {
	over, neighbours := onLink4(dev)[0], onLink4(dev)[1]
	for _, r := range w.routes(over) {
		alive := func(h resource.Hop) bool { return h.Dev != dev && w.up(h.Dev) }
		if r.NHID != 0 || slices.ContainsFunc(r.Hops, alive) {
			return unpredictable("the last IPv4 address of %s, over which one hop of several leads: %s", dev, r)
		}
	}
	w.dropAll(over)
	w.look(neighbours)
	for k, r := range w.state {
		if n, ok := r.(resource.Neigh); ok && n.Match(neighbours) {
			w.set(k, nil)
		}
	}
	return nil
}

// dropAll deletes the routes that s selects.
func (w *kernel) dropAll(s resource.Selector) {
	for _, r := range slices.Backward(w.routes(s)) {
		w.dropRoute(r)
	}
}

// onLink4 selects what goes with the last IPv4 address of dev.
func onLink4(dev string) resource.Query {
	return resource.Query{{Kind: resource.KindRoute, Name: dev, Family: 4}, {Kind: resource.KindNeigh, Name: dev, Family: 4}}
}
