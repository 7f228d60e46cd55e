package sim

import (
	"maps"
	"net"
	"net/netip"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is what the kernel makes of a link that goes up or down, or gets
// another MTU: what is lost with it, and what comes back by itself.

// minMTU6 is the least MTU with which a link speaks IPv6. Below it the kernel
// takes IPv6 off the link, which no undo could put back exactly.
const minMTU6 = 1280

// needsLink returns what must be known to foresee a change of the link name.
func needsLink(name string) resource.Query {
	return resource.Query{
		{Kind: resource.KindLink}, // a hop over another link may stay alive
		{Kind: resource.KindAddr, Name: name},
		{Kind: resource.KindRoute, Name: name},
		{Kind: resource.KindNeigh, Name: name},
		{Kind: resource.KindNexthop},
	}
}

// linkOf is the name of the link under k.
func linkOf(k resource.Key) string { return string(k)[len("link "):] }

// makeLink makes the link under k what want says.
func (w *kernel) makeLink(k resource.Key, want resource.Resource) error {
	name := linkOf(k)
	w.look(resource.Selector{Kind: resource.KindLink, Name: name})
	have, exists := resource.Get[resource.Link](w.state, k)
	link, ok := want.(resource.Link)
	switch {
	case !exists:
		return refuse("ENODEV", "")
	case !ok:
		return unpredictable("taking the link %s away", name)
	}
	same := link
	same.Up, same.MTU, same.Carrier = have.Up, have.MTU, have.Carrier
	switch {
	case len(resource.Compare(resource.Of(same), resource.Of(have))) > 0:
		return unpredictable("a change of a link but for being up and its MTU: from %s to %s", have, link)
	case link.Up == have.Up && link.MTU == have.MTU:
		return nil
	}
	if w.putsBack {
		w.set(k, link)
		for k, r := range w.want { // by which it is known to speak IPv6
			if route, ok := r.(resource.Route); ok && route.Type == resource.Multicast {
				w.set(k, route)
			}
		}
		return nil
	}
	if err := plain(have); err != nil {
		return err
	}
	if err := w.alone(name); err != nil {
		return err
	}
	if link.MTU != have.MTU {
		if err := w.setMTU(have, link.MTU); err != nil {
			return err
		}
	}
	if link.Up == have.Up {
		return nil
	}
	w.look(needsLink(name)...)
	if !link.Up {
		if err := w.limited(name); err != nil {
			return err
		}
		if _, err := w.losing(name); err != nil {
			return err
		}
		return w.down(name)
	}
	return w.up4and6(name)
}

// plain is an error for a link that the model does not cover.
func plain(l resource.Link) error {
	switch {
	case l.Type != "ether" && l.Type != "veth":
		return unpredictable("a change of a link of type %s: %s", l.Type, l.Name)
	case l.Master != "":
		return unpredictable("a change of %s, which is a port of %s", l.Name, l.Master)
	case l.Conf.Forwarding6:
		return unpredictable("a change of %s, which routes IPv6", l.Name)
	}
	return nil
}

// alone is an error where another link follows what becomes of the one called
// name: one over it, such as a VLAN, which loses its routes with it, or its other end.
func (w *kernel) alone(name string) error {
	w.look(resource.Selector{Kind: resource.KindLink})
	for _, l := range resource.All[resource.Link](w.state) {
		switch {
		case l.Lower != name:
		case l.Type == "veth":
			return unpredictable("a change of %s, whose other end is on this node, too: %s", name, l.Name)
		default:
			return unpredictable("a change of %s, over which there is another link: %s", name, l.Name)
		}
	}
	return nil
}

// setMTU gives l another MTU (dev_validate_mtu, rt6_mtu_change).
func (w *kernel) setMTU(l resource.Link, mtu int) error {
	switch {
	case l.MaxMTU > 0 && mtu > l.MaxMTU:
		return refuse("EINVAL", "mtu greater than device maximum")
	case mtu < minMTU6 || l.MTU < minMTU6:
		return unpredictable("an MTU below %d, with which %s does not speak IPv6: from %d to %d", minMTU6, l.Name, l.MTU, mtu)
	}
	w.look(resource.Selector{Kind: resource.KindRoute, Name: l.Name, Family: 6})
	for _, r := range resource.All[resource.Route](w.state) {
		if r.Family() == 6 && len(r.Extra) > 0 && r.Match(resource.Selector{Kind: resource.KindRoute, Name: l.Name}) {
			return unpredictable("another MTU of %s, for the metrics of a route over it may follow: %s", l.Name, r)
		}
	}
	l.MTU = mtu
	w.set(l.Key(), l)
	return nil
}

// down takes the link called name down: with it go the routes over it, but those
// to the node itself; the hops of a multipath route, but not the last; IPv6 addresses;
// nexthop objects; neighbours (fib_sync_down_dev, addrconf_ifdown, nexthop_flush_dev, neigh_ifdown).
func (w *kernel) down(name string) error {
	l, _ := resource.Get[resource.Link](w.state, resource.LinkKey(name))
	l.Up, l.Carrier = false, false
	w.set(l.Key(), l)
	gone, err := w.flushNexthops(name)
	if err != nil {
		return err
	}
	w.lookBeside(w.over(name))
	var shifted []resource.Route
	for _, r := range w.over(name) {
		switch {
		case r.NHID != 0:
			if gone[r.NHID] {
				w.set(r.Key(), nil)
				shifted = append(shifted, r)
			}
		case r.Family() == 4 && r.Scope == resource.ScopeHost:
		case w.alive(r):
		default:
			w.set(r.Key(), nil)
			shifted = append(shifted, r)
		}
	}
	w.renumber(shifted)
	for _, a := range resource.All[resource.Addr](w.state) {
		local := a.Prefix.Addr().IsLinkLocalUnicast() || a.Prefix.Addr().IsLoopback()
		if a.Dev == name && a.Prefix.Addr().Is6() && !(l.Conf.KeepAddrOnDown && a.Permanent && !local) {
			w.set(a.Key(), nil)
		}
	}
	for _, n := range resource.All[resource.Neigh](w.state) {
		if n.Dev == name {
			w.set(n.Key(), nil)
		}
	}
	return nil
}

// many is how many routes are looked at one by one. Beyond, tables are looked at whole, for each
// selector is held against each route.
const many = 100

// lookBeside looks at what shares an identity with one of routes: what stands
// behind one that goes moves up.
func (w *kernel) lookBeside(routes []resource.Route) {
	for _, r := range routes {
		s := resource.Selector{Kind: resource.KindRoute, Dst: r.Dst, Table: r.Table}
		if len(routes) > many {
			s = resource.Selector{Kind: resource.KindRoute, Family: r.Family(), Table: r.Table}
		}
		w.look(s)
	}
}

// over returns the routes with a hop over the link called name.
func (w *kernel) over(name string) []resource.Route {
	var out []resource.Route
	for _, r := range resource.All[resource.Route](w.state) {
		if slices.ContainsFunc(r.Hops, func(h resource.Hop) bool { return h.Dev == name }) {
			out = append(out, r)
		}
	}
	return out
}

// alive reports whether a hop of r leads over a link that is up.
func (w *kernel) alive(r resource.Route) bool {
	return slices.ContainsFunc(r.Hops, func(h resource.Hop) bool { return w.up(h.Dev) })
}

// renumber closes the gaps that gone routes leave among those of their identity:
// what came after them moves up.
func (w *kernel) renumber(gone []resource.Route) {
	identity := func(r resource.Route) resource.Key {
		r.Nth = 0
		return r.Key()
	}
	left := make(map[resource.Key][]resource.Route, len(gone))
	for _, g := range gone {
		left[identity(g)] = nil
	}
	for _, r := range w.state {
		if r, ok := r.(resource.Route); ok {
			if _, gaps := left[identity(r)]; gaps {
				left[identity(r)] = append(left[identity(r)], r)
			}
		}
	}
	for _, routes := range left {
		slices.SortFunc(routes, func(a, b resource.Route) int { return a.Nth - b.Nth })
		if len(routes) == 0 || routes[len(routes)-1].Nth == len(routes)-1 {
			continue
		}
		for _, r := range routes {
			w.set(r.Key(), nil)
		}
		for i, r := range routes {
			r.Nth = i
			w.set(r.Key(), r)
		}
	}
}

// up4and6 takes the link called name up, and has it find its carrier: the routes
// to the subnets of its addresses come back, and IPv6 begins anew (fib_add_ifaddr,
// addrconf_dev_config, addrconf_permanent_addr).
func (w *kernel) up4and6(name string) error {
	l, _ := resource.Get[resource.Link](w.state, resource.LinkKey(name))
	l.Up, l.Carrier = true, true
	w.set(l.Key(), l)
	list := w.addrs(name, 4)
	for _, a := range list {
		w.addRoutes4(list, l, a)
	}
	if l.Conf.DisableIPv6 || l.MTU < minMTU6 {
		return nil
	}
	return w.up6(l)
}

// up6 has l, which came up, speak IPv6: its addresses get their routes, and it
// makes itself a link-local one.
func (w *kernel) up6(l resource.Link) error {
	all := kernelRoute(l.Name, multicast6.Dst, resource.Multicast, resource.TableLocal)
	all.Metric = prefixMetric
	w.appendRoute(all, func(o resource.Route) bool { return onLink6(o, l.Name) })
	for _, a := range w.addrs(l.Name, 6) {
		if a.Peer.IsValid() || !a.Permanent {
			return unpredictable("which routes come back with %s, for its address %s", l.Name, a)
		}
		if l.Conf.KeepAddrOnDown && w.routed6(a) {
			return unpredictable("taking %s up could not be taken back: it keeps %s when it goes down, but not the route to that", l.Name, a)
		}
		w.addRoutes6(l, a)
	}
	switch l.Conf.AddrGenMode {
	case 0:
	case 1:
		return nil
	default:
		return unpredictable("the link-local address that %s makes from a secret", l.Name)
	}
	p, err := linkLocalOf(l)
	if err != nil || w.state[resource.AddrKey(l.Name, p)] != nil {
		return err
	}
	return w.newAddr6(l, resource.Addr{Dev: l.Name, Prefix: p, Permanent: true, Proto: protoLinkLocal})
}

// linkLocalOf is the address that the kernel makes from the MAC of l.
func linkLocalOf(l resource.Link) (netip.Prefix, error) {
	mac, err := net.ParseMAC(l.MAC)
	if err != nil || len(mac) != 6 {
		return netip.Prefix{}, unpredictable("the link-local address of %s, whose MAC is %q", l.Name, l.MAC)
	}
	a := [16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64), nil
}

// restart takes the link called name down and up. What it loses is put back, so
// that nothing differs afterwards; it returns what that is.
func (w *kernel) restart(name string) (lost resource.State, err error) {
	w.look(needsLink(name)...)
	l, exists := resource.Get[resource.Link](w.state, resource.LinkKey(name))
	switch {
	case !exists:
		return nil, refuse("ENODEV", "")
	case !l.Up:
		return nil, &engine.Error{
			Code: engine.Unreachable, Cause: "the link " + name + " is down, so that it cannot be restarted", Hint: "node.link.up takes it up",
			Err: &engine.NodeError{Errno: "ENETDOWN", Words: "network is down"},
		}
	}
	if l.Type != "ether" && l.Type != "veth" || l.Master != "" {
		return nil, plain(l)
	}
	if err := w.alone(name); err != nil {
		return nil, err
	}
	if err := w.restorable(name); err != nil {
		return nil, err
	}
	return w.losing(name)
}

// losing returns what goes with the link called name when it goes down. It is an
// error where not all of that could be put back.
func (w *kernel) losing(name string) (lost resource.State, err error) {
	trial := &kernel{state: maps.Clone(w.state)}
	if err := trial.down(name); err != nil {
		return nil, err
	}
	w.look(trial.footprint...)
	if err := w.comesBesides(name, trial); err != nil {
		return nil, err
	}
	lost = resource.State{}
	for k, was := range trial.was {
		_, isAddr := was.(resource.Addr) // one with a lifetime is put back with what is left of it
		if was != nil && (isAddr || !was.Volatile()) && k != resource.LinkKey(name) {
			lost[k] = was
		}
	}
	if err := w.detectedFirst(name, lost); err != nil {
		return lost, err
	}
	return lost, w.comesBack(lost)
}

// detectedFirst is an error where a route of lost has for its source an address that the
// kernel makes itself when the link called name comes up, and that is no source until its detection has ended.
func (w *kernel) detectedFirst(name string, lost resource.State) error {
	l, _ := resource.Get[resource.Link](w.state, resource.LinkKey(name))
	list := w.addrs(name, 6)
	for _, r := range resource.All[resource.Route](lost) {
		for _, a := range list {
			if r.PrefSrc == a.Prefix.Addr() && a.Proto == protoLinkLocal && detects(l, a) {
				return unpredictable("the route %s could not be put back: the kernel makes its source %s anew, and detects it first", r, r.PrefSrc)
			}
		}
	}
	return nil
}

// comesBesides is an error where the kernel would make more of the link called
// name than there is now, when it comes up again after down: somebody has taken that away, and it cannot be
// taken away again. Unicast routes can.
func (w *kernel) comesBesides(name string, down *kernel) error {
	up := &kernel{state: maps.Clone(down.state), placed: map[resource.Key]bool{}}
	if up.up4and6(name) != nil {
		return nil // it is not known, and what is put back is compared
	}
	for k := range up.was {
		r, isRoute := up.state[k].(resource.Route)
		if isRoute && r.Type != resource.Unicast && r.Family() == 4 && w.state[k] == nil {
			return unpredictable("what comes up with %s besides what goes with it: the route %s", name, r)
		}
	}
	return nil
}

// limited is an error where something that goes with the link called name has
// a lifetime: no state tells how much would be left of it when it is put back. A restart can.
func (w *kernel) limited(name string) error {
	for _, a := range resource.All[resource.Addr](w.state) {
		if a.Dev == name && a.Prefix.Addr().Is6() && !a.Permanent {
			return unpredictable("what goes with %s could not be put back: the address %s has a lifetime", name, a)
		}
	}
	for _, r := range w.over(name) {
		if r.Expires && !r.Volatile() {
			return unpredictable("what goes with %s could not be put back: the route %s has a lifetime", name, r)
		}
	}
	return nil
}

// restorable is an error where something on the link called name could not be put back as it is.
func (w *kernel) restorable(name string) error {
	const (
		fromRA     = 2     // IFAPROT_KERNEL_RA
		manageTemp = 0x100 // IFA_F_MANAGETEMPADDR
	)
	for _, r := range w.state {
		switch r := r.(type) {
		case resource.Addr:
			if r.Dev == name && r.Prefix.Addr().Is6() && (r.Proto == fromRA || r.Secondary || r.Flags&manageTemp != 0) {
				return unpredictable("a restart of %s, which has an address that a router advertised: %s", name, r)
			}
		case resource.Route:
			if r.Volatile() && slices.ContainsFunc(r.Hops, func(h resource.Hop) bool { return h.Dev == name }) {
				return unpredictable("a restart of %s, over which a route leads that a router advertised: %s", name, r)
			}
		}
	}
	return nil
}
