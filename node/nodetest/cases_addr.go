package nodetest

import (
	"net/netip"

	"runbook/engine/resource"
)

// This file is cases of addresses: what comes and goes with them.

// ip is an address on a link, as f changes it.
func ip(p, dev string, f ...func(*resource.Addr)) resource.Addr {
	a := resource.Addr{Dev: dev, Prefix: prefix(p), Permanent: true}
	if a.Prefix.Addr().Is6() {
		a.Flags = nodad
		if a.Prefix.Addr().IsLinkLocalUnicast() {
			a.Scope = link
		}
	}
	for _, f := range f {
		f(&a)
	}
	return a
}

func brd(s string) func(*resource.Addr)   { return func(a *resource.Addr) { a.Broadcast = addr(s) } }
func label(s string) func(*resource.Addr) { return func(a *resource.Addr) { a.Label = s } }
func prio(m uint32) func(*resource.Addr)  { return func(a *resource.Addr) { a.Metric = m } }
func setBy(p uint8) func(*resource.Addr)  { return func(a *resource.Addr) { a.Proto = p } }
func dad(a *resource.Addr)                { a.Flags = 0 }
func alone(a *resource.Addr)              { a.NoPrefixRoute = true }
func second(a *resource.Addr)             { a.Secondary = true }
func near(s resource.Scope) func(*resource.Addr) {
	return func(a *resource.Addr) { a.Scope = s }
}

func peer(s string) func(*resource.Addr) {
	return func(a *resource.Addr) { a.Peer = netip.PrefixFrom(addr(s), a.Prefix.Bits()) }
}

// fromKernel is a route of the kernel's own.
func fromKernel(t resource.RouteType, dst, dev, source string) resource.Route {
	r := resource.Route{Dst: prefix(dst), Type: t, Table: local, Proto: resource.ProtoKernel, Scope: link, Hops: []resource.Hop{{Dev: dev}}}
	switch {
	case r.Family() == 6:
		r.Scope = global
	case t == resource.Local:
		r.Scope = host
	}
	if t == resource.Unicast {
		r.Table = resource.TableMain
		r.Metric = map[int]uint32{6: 256}[r.Family()]
	}
	if source != "" {
		r.PrefSrc = addr(source)
	}
	return r
}

func own(a, dev, source string) resource.Route {
	return fromKernel(resource.Local, a+"/32", dev, source)
}
func ownSix(a, dev string) resource.Route { return fromKernel(resource.Local, a+"/128", dev, "") }
func subnet(p, dev, source string) resource.Route {
	return fromKernel(resource.Unicast, p, dev, source)
}

func everyone(a, dev, source string) resource.Route {
	return fromKernel(resource.Broadcast, a+"/32", dev, source)
}
func behind(r resource.Route, n int) resource.Route {
	return with(r, func(r *resource.Route) { r.Nth = n })
}

// keysOf are the keys of rs, as absent.
func keysOf(rs ...resource.Resource) resource.State {
	out := resource.State{}
	for _, r := range rs {
		out[r.Key()] = nil
	}
	return out
}

var (
	eth1First  = ip("10.98.0.2/16", "eth1", brd("10.98.255.255")) // that Usual has
	eth1Routes = []resource.Resource{
		subnet("10.98.0.0/16", "eth1", "10.98.0.2"), own("10.98.0.2", "eth1", "10.98.0.2"), everyone("10.98.255.255", "eth1", "10.98.0.2"),
	}
	eth1Six = ip("fd00:98::2/64", "eth1")

	doc     = ip("192.0.2.1/24", "eth1") // an address of a subnet of its own
	doc2    = ip("192.0.2.2/24", "eth1", second)
	doc3    = ip("192.0.2.3/24", "eth1", second)
	docNet  = subnet("192.0.2.0/24", "eth1", "192.0.2.1")
	docOwn  = own("192.0.2.1", "eth1", "192.0.2.1")
	docOwn2 = own("192.0.2.2", "eth1", "192.0.2.1")
	docOwn3 = own("192.0.2.3", "eth1", "192.0.2.1")
	docAll  = everyone("192.0.2.255", "eth1", "192.0.2.1")

	six     = ip("2001:db8::1/64", "eth1")
	six2    = ip("2001:db8::2/64", "eth1")
	sixNet  = subnet("2001:db8::/64", "eth1", "")
	sixOwn  = ownSix("2001:db8::1", "eth1")
	sixOwn2 = ownSix("2001:db8::2", "eth1")
)

// states makes a list of states, one of each resource.
func states(rs ...resource.Resource) (out []resource.State) {
	for _, r := range rs {
		out = append(out, resource.Of(r))
	}
	return out
}

var casesAddr4 = []editCase{
	{name: "add", want: resource.Of(doc), then: resource.Of(doc, docNet, docOwn, docAll)},
	{name: "add what is there", want: resource.Of(eth1First), then: resource.State{}},
	{name: "add a second of the subnet", want: resource.Of(ip("10.98.0.3/16", "eth1")), then: resource.Of(ip("10.98.0.3/16", "eth1", second), own("10.98.0.3", "eth1", "10.98.0.2"))},
	{name: "add a second with another broadcast address", given: states(doc), want: resource.Of(ip("192.0.2.2/24", "eth1", brd("192.0.2.99"))),
		then: resource.Of(ip("192.0.2.2/24", "eth1", second, brd("192.0.2.99")), docOwn2, everyone("192.0.2.99", "eth1", "192.0.2.1"))},
	{name: "add a third", given: states(doc, doc2), want: resource.Of(ip("192.0.2.3/24", "eth1")), then: resource.Of(doc3, docOwn3)},
	{name: "add with broadcast", want: resource.Of(ip("192.0.2.1/24", "eth1", brd("192.0.2.255"))), then: resource.Of(ip("192.0.2.1/24", "eth1", brd("192.0.2.255")), docNet, docOwn, docAll)},
	{name: "add with another broadcast", want: resource.Of(ip("192.0.2.1/24", "eth1", brd("192.0.2.99"))),
		then: resource.Of(ip("192.0.2.1/24", "eth1", brd("192.0.2.99")), docNet, docOwn, docAll, everyone("192.0.2.99", "eth1", "192.0.2.1"))},
	{name: "add with the broadcast to everybody", want: resource.Of(ip("192.0.2.1/24", "eth1", brd("255.255.255.255"))),
		then: resource.Of(ip("192.0.2.1/24", "eth1", brd("255.255.255.255")), docNet, docOwn, docAll)},
	{name: "add with label", want: resource.Of(ip("192.0.2.1/24", "eth1", label("eth1:1"))), then: resource.Of(ip("192.0.2.1/24", "eth1", label("eth1:1")), docNet, docOwn, docAll)},
	{name: "add with metric", want: resource.Of(ip("192.0.2.1/24", "eth1", prio(7))), then: resource.Of(ip("192.0.2.1/24", "eth1", prio(7)), metric(docNet, 7), docOwn, docAll)},
	{name: "add without prefix route", want: resource.Of(ip("192.0.2.1/24", "eth1", alone)), then: resource.Of(ip("192.0.2.1/24", "eth1", alone), docOwn, docAll)},
	{name: "add set by a router", want: resource.Of(ip("192.0.2.1/24", "eth1", setBy(186))), then: resource.Of(ip("192.0.2.1/24", "eth1", setBy(186)), docNet, docOwn, docAll)},
	{name: "add of scope link", want: resource.Of(ip("192.0.2.1/24", "eth1", near(link))), then: resource.Of(ip("192.0.2.1/24", "eth1", near(link)), docNet, docOwn, docAll)},
	{name: "add of scope host", want: resource.Of(ip("192.0.2.1/24", "eth1", near(host))), then: resource.Of(ip("192.0.2.1/24", "eth1", near(host)), docNet, docOwn, docAll)},
	{name: "add /32", want: resource.Of(ip("192.0.2.1/32", "eth1")), then: resource.Of(ip("192.0.2.1/32", "eth1"), docOwn)},
	{name: "add /31", want: resource.Of(ip("192.0.2.1/31", "eth1")), then: resource.Of(ip("192.0.2.1/31", "eth1"), subnet("192.0.2.0/31", "eth1", "192.0.2.1"), docOwn)},
	{name: "add /30", want: resource.Of(ip("192.0.2.1/30", "eth1")),
		then: resource.Of(ip("192.0.2.1/30", "eth1"), subnet("192.0.2.0/30", "eth1", "192.0.2.1"), docOwn, everyone("192.0.2.3", "eth1", "192.0.2.1"))},
	{name: "add the subnet's own address", want: resource.Of(ip("192.0.2.0/24", "eth1")),
		then: resource.Of(ip("192.0.2.0/24", "eth1"), subnet("192.0.2.0/24", "eth1", "192.0.2.0"), own("192.0.2.0", "eth1", "192.0.2.0"), everyone("192.0.2.255", "eth1", "192.0.2.0"))},
	{name: "add with peer", want: resource.Of(ip("192.0.2.1/32", "eth1", peer("192.0.2.9"))),
		then: resource.Of(ip("192.0.2.1/32", "eth1", peer("192.0.2.9")), docOwn, subnet("192.0.2.9/32", "eth1", "192.0.2.1"))},
	{name: "add with a peer's subnet", want: resource.Of(ip("10.98.0.2/24", "eth1", peer("192.0.2.9"))),
		then: resource.Of(ip("10.98.0.2/24", "eth1", peer("192.0.2.9")), subnet("192.0.2.0/24", "eth1", "10.98.0.2"), everyone("192.0.2.255", "eth1", "10.98.0.2"))},
	{name: "add with another length", want: resource.Of(ip("10.98.0.2/24", "eth1")),
		then: resource.Of(ip("10.98.0.2/24", "eth1"), subnet("10.98.0.0/24", "eth1", "10.98.0.2"), everyone("10.98.0.255", "eth1", "10.98.0.2"))},
	{name: "add on the other link", want: resource.Of(ip("10.98.0.3/16", "eth0", brd("10.98.255.255"))),
		then: resource.Of(ip("10.98.0.3/16", "eth0", brd("10.98.255.255")), behind(subnet("10.98.0.0/16", "eth0", "10.98.0.3"), 1), own("10.98.0.3", "eth0", "10.98.0.3"), behind(everyone("10.98.255.255", "eth0", "10.98.0.3"), 1))},
	{name: "add the same on the other link", want: resource.Of(ip("10.98.0.2/16", "eth0")),
		then: resource.Of(ip("10.98.0.2/16", "eth0"), behind(subnet("10.98.0.0/16", "eth0", "10.98.0.2"), 1), behind(own("10.98.0.2", "eth0", "10.98.0.2"), 1), behind(everyone("10.98.255.255", "eth0", "10.98.0.2"), 1))},
	{name: "add on the loopback", want: resource.Of(ip("192.0.2.1/32", "lo")), then: resource.Of(ip("192.0.2.1/32", "lo"), own("192.0.2.1", "lo", "192.0.2.1"))},
	{name: "add a subnet on the loopback", want: resource.Of(ip("192.0.2.1/24", "lo")),
		then: resource.Of(ip("192.0.2.1/24", "lo"), fromKernel(resource.Local, "192.0.2.0/24", "lo", "192.0.2.1"), own("192.0.2.1", "lo", "192.0.2.1"), everyone("192.0.2.255", "lo", "192.0.2.1"))},
	{name: "add on a link that is down", start: &Eth1Down, want: resource.Of(doc), then: resource.Of(doc, docOwn)},
	{name: "add without carrier", start: &NoCarrier, want: resource.Of(doc), then: resource.Of(doc, docNet, docOwn, docAll)},
	{name: "add where a route of the subnet is", given: states(dev("192.0.2.0/24", "eth1")), want: resource.Of(doc), then: resource.Of(doc, behind(docNet, 1), docOwn, docAll)},
	{name: "add on a link without any", given: states(dev(net4, "eth1")), want: resource.Of(doc), then: resource.Of(doc, docNet, docOwn, docAll)},

	{name: "delete", given: states(doc), want: keysOf(doc), then: keysOf(doc, docNet, docOwn, docAll)},
	{name: "delete what is not there", want: keysOf(doc), then: resource.State{}},
	{name: "delete on a link that is not there", want: keysOf(ip("192.0.2.1/24", "eth9")), then: resource.State{}},
	{name: "delete with the routes from it", given: states(doc, src(via(net4, gw4, "eth1"), "192.0.2.1"), src(via("10.21.0.0/16", "10.99.0.1", "eth0"), "192.0.2.1")), want: keysOf(doc),
		then: keysOf(doc, docNet, docOwn, docAll, via(net4, gw4, "eth1"), via("10.21.0.0/16", "10.99.0.1", "eth0"))},
	{name: "delete, routes from it in other tables stay", given: states(doc, inTable(src(via(net4, gw4, "eth1"), "192.0.2.1"), table100)), want: keysOf(doc), then: keysOf(doc, docNet, docOwn, docAll)},
	{name: "delete, a blackhole from it goes", given: states(doc, src(typed(resource.Blackhole, net4), "192.0.2.1")), want: keysOf(doc), then: keysOf(doc, docNet, docOwn, docAll, typed(resource.Blackhole, net4))},
	{name: "delete, routes through its subnet stay", given: states(doc, via(net4, "192.0.2.9", "eth1")), want: keysOf(doc), then: keysOf(doc, docNet, docOwn, docAll)},
	{name: "delete, its address stays on another link", given: states(doc, ip("192.0.2.1/32", "eth0"), src(via(net4, gw4, "eth1"), "192.0.2.1")), want: keysOf(doc),
		then: and(keysOf(doc, docNet, docAll, behind(docOwn, 1)), resource.Of(own("192.0.2.1", "eth0", "192.0.2.1")))},
	{name: "delete the second", given: states(doc, doc2, doc3), want: keysOf(doc2), then: keysOf(doc2, docOwn2)},
	{name: "delete the first with its secondaries", given: states(doc, doc2, doc3), want: keysOf(doc), then: keysOf(doc, doc2, doc3, docNet, docOwn, docOwn2, docOwn3, docAll)},
	{name: "delete the first and the routes from a second", given: states(doc, doc2, src(via(net4, gw4, "eth1"), "192.0.2.2")), want: keysOf(doc),
		then: keysOf(doc, doc2, docNet, docOwn, docOwn2, docAll, via(net4, gw4, "eth1"))},
	{name: "delete all of a subnet", given: states(doc, doc2), want: keysOf(doc, doc2), then: keysOf(doc, doc2, docNet, docOwn, docOwn2, docAll)},
	{name: "delete with label, metric and broadcast", given: states(ip("192.0.2.1/24", "eth1", label("eth1:1"), prio(7), brd("192.0.2.99"))), want: keysOf(doc),
		then: keysOf(doc, metric(docNet, 7), docOwn, docAll, everyone("192.0.2.99", "eth1", "192.0.2.1"))},
	{name: "delete without prefix route", given: states(ip("192.0.2.1/24", "eth1", alone), dev("192.0.2.0/24", "eth1")), want: keysOf(doc), then: keysOf(doc, docOwn, docAll)},
	{name: "delete with peer", given: states(ip("192.0.2.1/32", "eth1", peer("192.0.2.9"))), want: keysOf(ip("192.0.2.1/32", "eth1", peer("192.0.2.9"))),
		then: keysOf(ip("192.0.2.1/32", "eth1", peer("192.0.2.9")), docOwn, subnet("192.0.2.9/32", "eth1", "192.0.2.1"))},
	{name: "delete one of two lengths", given: states(ip("10.98.0.2/24", "eth1")), want: keysOf(eth1First), then: keysOf(eth1First, eth1Routes[0], eth1Routes[2])},
	{name: "delete the other of two lengths", given: states(ip("10.98.0.2/24", "eth1")), want: keysOf(ip("10.98.0.2/24", "eth1")),
		then: keysOf(ip("10.98.0.2/24", "eth1"), subnet("10.98.0.0/24", "eth1", ""), everyone("10.98.0.255", "eth1", ""))},
	{name: "delete one of two of a broadcast address", given: states(ip("192.0.2.1/24", "eth1", brd("10.98.255.255"))), want: keysOf(doc), then: keysOf(doc, docNet, docOwn, docAll, behind(everyone("10.98.255.255", "eth1", ""), 1))},
	{name: "delete the first of the list", given: states(doc, ip("198.51.100.1/24", "eth1")), want: keysOf(eth1First), then: keysOf(append(eth1Routes, eth1First)...)},
	{name: "delete the middle of the list", given: states(doc, ip("198.51.100.1/24", "eth1")), want: keysOf(doc), then: keysOf(doc, docNet, docOwn, docAll)},
	{name: "delete the first of a list with secondaries", given: states(ip("10.98.0.3/16", "eth1", second), doc, doc2), want: keysOf(doc), then: keysOf(doc, doc2, docNet, docOwn, docOwn2, docAll)},
	{name: "delete the last of a link", want: keysOf(eth1First), then: keysOf(append(eth1Routes, eth1First)...)},
	{name: "delete the last of a link with its routes", given: states(existing, inTable(existing, table100), dev("10.21.0.0/16", "eth1"), onlink(via("10.22.0.0/16", far4, "eth1"))), want: keysOf(eth1First),
		then: keysOf(append(eth1Routes, eth1First, existing, inTable(existing, table100), dev("10.21.0.0/16", "eth1"), via("10.22.0.0/16", far4, "eth1"))...)},
	{name: "delete the last of a link, multipath over it", given: states(multi(net4, hop(gw4, "eth1", 1), hop("10.98.0.9", "eth1", 2))), want: keysOf(eth1First),
		then: keysOf(append(eth1Routes, eth1First, existing)...)},
	{name: "delete the last of a link with a neighbour", given: states(resource.Neigh{Dev: "eth1", Addr: addr(gw4), MAC: "02:00:00:00:00:99", Permanent: true}), want: keysOf(eth1First),
		then: keysOf(append(eth1Routes, eth1First, resource.Neigh{Dev: "eth1", Addr: addr(gw4)})...)},
	{name: "delete on a link that is down", start: &Eth1Down, want: keysOf(eth1First), then: keysOf(eth1First, eth1Routes[1])},
	{name: "delete on the loopback", given: states(ip("192.0.2.1/24", "lo")), want: keysOf(ip("192.0.2.1/24", "lo")),
		then: keysOf(ip("192.0.2.1/24", "lo"), fromKernel(resource.Local, "192.0.2.0/24", "lo", ""), docOwn, docAll)},
	{name: "delete the loopback's own", want: keysOf(ip("127.0.0.1/8", "lo")),
		then: keysOf(ip("127.0.0.1/8", "lo"), fromKernel(resource.Local, "127.0.0.0/8", "lo", ""), own("127.0.0.1", "lo", ""), everyone("127.255.255.255", "lo", ""))},
	{name: "delete one of two links with the subnet", given: states(ip("10.98.0.3/16", "eth0", brd("10.98.255.255"))), want: keysOf(ip("10.98.0.3/16", "eth0")),
		then: keysOf(ip("10.98.0.3/16", "eth0"), behind(subnet("10.98.0.0/16", "eth0", ""), 1), own("10.98.0.3", "eth0", ""), behind(everyone("10.98.255.255", "eth0", ""), 1))},

	{name: "promote", start: &Promoting, given: states(doc, doc2), want: keysOf(doc),
		then: and(keysOf(doc, docOwn), resource.Of(ip("192.0.2.2/24", "eth1"), subnet("192.0.2.0/24", "eth1", "192.0.2.2"), own("192.0.2.2", "eth1", "192.0.2.2"), everyone("192.0.2.255", "eth1", "192.0.2.2")))},
	{name: "promote one of two", start: &Promoting, given: states(doc, doc2, doc3), want: keysOf(doc),
		then: and(keysOf(doc, docOwn), resource.Of(ip("192.0.2.2/24", "eth1"), subnet("192.0.2.0/24", "eth1", "192.0.2.2"), own("192.0.2.2", "eth1", "192.0.2.2"), own("192.0.2.3", "eth1", "192.0.2.2"), everyone("192.0.2.255", "eth1", "192.0.2.2")))},
	{name: "promote, a second goes", start: &Promoting, given: states(doc, doc2), want: keysOf(doc2), then: keysOf(doc2, docOwn2)},
	{name: "promote, routes from the first go", start: &Promoting, given: states(doc, doc2, src(via(net4, gw4, "eth1"), "192.0.2.1")), want: keysOf(doc),
		then: and(keysOf(doc, docOwn, via(net4, gw4, "eth1")), resource.Of(ip("192.0.2.2/24", "eth1"), subnet("192.0.2.0/24", "eth1", "192.0.2.2"), own("192.0.2.2", "eth1", "192.0.2.2"), everyone("192.0.2.255", "eth1", "192.0.2.2")))},
	{name: "promote the only subnet of a link", start: &Promoting, given: states(ip("10.98.0.3/16", "eth1", second, brd("10.98.255.255"))), want: keysOf(eth1First),
		then: and(keysOf(eth1First, eth1Routes[1]), resource.Of(ip("10.98.0.3/16", "eth1", brd("10.98.255.255")), subnet("10.98.0.0/16", "eth1", "10.98.0.3"), own("10.98.0.3", "eth1", "10.98.0.3"), everyone("10.98.255.255", "eth1", "10.98.0.3")))},

	{name: "refused: there otherwise", want: resource.Of(ip("10.98.0.2/16", "eth1")), errno: "EEXIST", words: "ipv4: Address already assigned"},
	{name: "refused: there with another label", given: states(doc), want: resource.Of(ip("192.0.2.1/24", "eth1", label("eth1:1"))), errno: "EEXIST", words: "ipv4: Address already assigned"},
	{name: "refused: another scope than the subnet's", given: states(doc), want: resource.Of(ip("192.0.2.2/24", "eth1", near(link))), errno: "EINVAL", words: "ipv4: Invalid scope value"},
	{name: "refused: no such link", want: resource.Of(ip("192.0.2.1/24", "eth9")), errno: "ENODEV", words: "no such device"},
	{name: "refused: the second of two", want: resource.Of(ip("192.0.2.1/24", "eth1"), ip("192.0.2.2/24", "eth1", near(link))), errno: "EINVAL", words: "ipv4: Invalid scope value"},
}

// up is eth1 of Eth1Down coming up, and what comes back with it in any case.
var (
	up     = withLink(Eth1Down, "eth1", func(l *resource.Link) { l.Up, l.Carrier = true, true })
	withUp = and(up, resource.Of(eth1Routes[0], eth1Routes[2], metric(fromKernel(resource.Multicast, "ff00::/8", "eth1", ""), 256)))
)

var casesAddrUp = []editCase{
	{name: "as it was", start: &Eth1Down, want: up, then: withUp},
	{name: "secondaries", start: &Eth1Down, given: states(doc, doc2, ip("192.0.2.3/24", "eth1", second, brd("192.0.2.99"))), want: up,
		then: and(withUp, resource.Of(docNet, docAll, everyone("192.0.2.99", "eth1", "192.0.2.1")))},
	{name: "metric, and none of its prefix", start: &Eth1Down, given: states(ip("192.0.2.1/24", "eth1", prio(7)), ip("198.51.100.1/24", "eth1", alone)), want: up,
		then: and(withUp, resource.Of(metric(docNet, 7), docAll, everyone("198.51.100.255", "eth1", "198.51.100.1")))},
	{name: "peer", start: &Eth1Down, given: states(ip("192.0.2.1/32", "eth1", peer("192.0.2.9"))), want: up, then: and(withUp, resource.Of(subnet("192.0.2.9/32", "eth1", "192.0.2.1")))},
	{name: "IPv6", start: &Eth1Down, given: states(six, ip("2001:db8::2/64", "eth1", prio(7)), ip("2001:db8:1::1/64", "eth1", alone)), want: up,
		then: and(withUp, resource.Of(sixNet, metric(sixNet, 7)))},
	{name: "IPv6 after duplicate address detection", start: &Eth1Down, given: states(ip("2001:db8::1/64", "eth1", dad)), want: up, then: and(withUp, resource.Of(sixNet, sixOwn))},
	{name: "the same subnet as on another link", start: &Eth1Down, given: states(ip("10.98.0.3/16", "eth0", brd("10.98.255.255"))), want: up,
		then: and(up, resource.Of(behind(subnet("10.98.0.0/16", "eth1", "10.98.0.2"), 1), behind(everyone("10.98.255.255", "eth1", "10.98.0.2"), 1), metric(fromKernel(resource.Multicast, "ff00::/8", "eth1", ""), 256)))},
}

var casesAddr6 = []editCase{
	{name: "add", want: resource.Of(six), then: resource.Of(six, sixNet, sixOwn)},
	{name: "add after duplicate address detection", want: resource.Of(ip("2001:db8::1/64", "eth1", dad)), then: resource.Of(ip("2001:db8::1/64", "eth1", dad), sixNet, sixOwn)},
	{name: "add what is there", want: resource.Of(eth1Six), then: resource.State{}},
	{name: "add a second of the prefix", given: states(six), want: resource.Of(six2), then: resource.Of(six2, sixOwn2)},
	{name: "add one of another length", given: states(six), want: resource.Of(ip("2001:db8::2/96", "eth1")), then: resource.Of(ip("2001:db8::2/96", "eth1"), subnet("2001:db8::/96", "eth1", ""), sixOwn2)},
	{name: "add /128", want: resource.Of(ip("2001:db8::1/128", "eth1")), then: resource.Of(ip("2001:db8::1/128", "eth1"), subnet("2001:db8::1/128", "eth1", ""), sixOwn)},
	{name: "add without prefix route", want: resource.Of(ip("2001:db8::1/64", "eth1", alone)), then: resource.Of(ip("2001:db8::1/64", "eth1", alone), sixOwn)},
	{name: "add with metric", want: resource.Of(ip("2001:db8::1/64", "eth1", prio(7))), then: resource.Of(ip("2001:db8::1/64", "eth1", prio(7)), metric(sixNet, 7), sixOwn)},
	{name: "add a second with another metric", given: states(six), want: resource.Of(ip("2001:db8::2/64", "eth1", prio(7))), then: resource.Of(ip("2001:db8::2/64", "eth1", prio(7)), metric(sixNet, 7), sixOwn2)},
	{name: "add set by a router", want: resource.Of(ip("2001:db8::1/64", "eth1", setBy(186))), then: resource.Of(ip("2001:db8::1/64", "eth1", setBy(186)), sixNet, sixOwn)},
	{name: "add with peer", want: resource.Of(ip("2001:db8::1/64", "eth1", peer("2001:db8:1::9"))),
		then: resource.Of(ip("2001:db8::1/64", "eth1", peer("2001:db8:1::9")), sixNet, sixOwn, subnet("2001:db8:1::9/128", "eth1", ""))},
	{name: "add a link-local one", want: resource.Of(ip("fe80::9/64", "eth1")), then: resource.Of(ip("fe80::9/64", "eth1"), ownSix("fe80::9", "eth1"))},
	{name: "add a link-local one where the prefix route is", given: states(inTable(metric(dev("fe80::/96", "eth1"), 256), resource.TableMain)), want: resource.Of(ip("fe80::9/96", "eth1")), then: resource.Of(ip("fe80::9/96", "eth1"), ownSix("fe80::9", "eth1"))},
	{name: "add a site-local one", want: resource.Of(ip("fec0::1/64", "eth1", near(site))), then: resource.Of(ip("fec0::1/64", "eth1", near(site)), subnet("fec0::/64", "eth1", ""), ownSix("fec0::1", "eth1"))},
	{name: "add the prefix itself", want: resource.Of(ip("2001:db8::/64", "eth1")), then: resource.Of(ip("2001:db8::/64", "eth1"), sixNet, ownSix("2001:db8::", "eth1"))},
	{name: "add on the other link", want: resource.Of(ip("fd00:98::3/64", "eth0")), then: resource.Of(ip("fd00:98::3/64", "eth0"), behind(subnet("fd00:98::/64", "eth0", ""), 1), ownSix("fd00:98::3", "eth0"))},
	{name: "add the same on a link before", want: resource.Of(ip("fd00:98::2/64", "eth0")),
		then: resource.Of(ip("fd00:98::2/64", "eth0"), behind(subnet("fd00:98::/64", "eth0", ""), 1), ownSix("fd00:98::2", "eth0"), ownSix("fd00:98::2", "eth1"))},
	{name: "add on the loopback", want: resource.Of(ip("2001:db8::1/128", "lo")), then: resource.Of(ip("2001:db8::1/128", "lo"), subnet("2001:db8::1/128", "lo", ""), ownSix("2001:db8::1", "lo"))},
	{name: "add on a link that is down", start: &Eth1Down, want: resource.Of(six), then: resource.Of(six, sixOwn)},
	{name: "add on a link that is down, to be detected later", start: &Eth1Down, want: resource.Of(ip("2001:db8::1/64", "eth1", dad))},
	{name: "delete on a link that is down", start: &Eth1Down, given: states(six), want: keysOf(six), then: keysOf(six, sixOwn)},
	{name: "delete on a link that is down, to be detected later", start: &Eth1Down, given: states(ip("2001:db8::1/64", "eth1", dad)), want: keysOf(six)},
	{name: "add without carrier", start: &NoCarrier, want: resource.Of(six), then: resource.Of(six, sixNet, sixOwn)},
	{name: "add where a route of the prefix is", given: states(dev("2001:db8::/64", "eth1")), want: resource.Of(six), then: resource.Of(six, sixNet, sixOwn)},
	{name: "add where a nearer route of the prefix is", given: states(metric(dev("2001:db8::/64", "eth1"), 5)), want: resource.Of(six), then: resource.Of(six, sixNet, sixOwn)},
	{name: "add where the prefix route is", given: states(metric(dev("2001:db8::/64", "eth1"), 256)), want: resource.Of(six), then: resource.Of(six, sixOwn)},

	{name: "delete", given: states(six), want: keysOf(six), then: keysOf(six, sixNet, sixOwn)},
	{name: "delete after duplicate address detection", given: states(ip("2001:db8::1/64", "eth1", dad)), want: keysOf(six), then: keysOf(six, sixNet, sixOwn)},
	{name: "delete what is not there", want: keysOf(six), then: resource.State{}},
	{name: "delete one of two of a prefix", given: states(six, six2), want: keysOf(six), then: keysOf(six, sixOwn)},
	{name: "delete both of a prefix", given: states(six, six2), want: keysOf(six, six2), then: keysOf(six, six2, sixNet, sixOwn, sixOwn2)},
	{name: "delete the first of the list", given: states(six, six2), want: keysOf(eth1Six), then: keysOf(eth1Six, subnet("fd00:98::/64", "eth1", ""), ownSix("fd00:98::2", "eth1"))},
	{name: "delete the middle of the list", given: states(six, six2), want: keysOf(six), then: keysOf(six, sixOwn)},
	{name: "delete, the other has no prefix route", given: states(six, ip("2001:db8::2/64", "eth1", alone)), want: keysOf(six), then: keysOf(six, sixOwn)},
	{name: "delete what has no prefix route", given: states(dev("2001:db8::/64", "eth1"), ip("2001:db8::1/64", "eth1", alone)), want: keysOf(six), then: keysOf(six, sixOwn)},
	{name: "delete, a nearer route of the prefix goes instead", given: states(metric(dev("2001:db8::/64", "eth1"), 5), six), want: keysOf(six), then: keysOf(six, sixOwn, metric(sixNet, 5))},
	{name: "delete, a route from it stays without source", given: states(six, src(via(net6, gw6, "eth1"), "2001:db8::1")), want: keysOf(six), then: and(keysOf(six, sixNet, sixOwn), resource.Of(via(net6, gw6, "eth1")))},
	{name: "delete, a route from it in another table, too", given: states(six, inTable(src(via(net6, gw6, "eth1"), "2001:db8::1"), table100)), want: keysOf(six),
		then: and(keysOf(six, sixNet, sixOwn), resource.Of(inTable(via(net6, gw6, "eth1"), table100)))},
	{name: "delete, its address stays on another link", given: states(six, ip("2001:db8::1/128", "eth0"), src(via(net6, gw6, "eth1"), "2001:db8::1")), want: keysOf(six),
		then: and(keysOf(six, sixNet, ownSix("2001:db8::1", "eth1")), resource.State{})},
	{name: "delete, routes through its prefix stay", given: states(six, via(net6, "2001:db8::9", "eth1")), want: keysOf(six), then: keysOf(six, sixNet, sixOwn)},
	{name: "delete with peer", given: states(ip("2001:db8::1/64", "eth1", peer("2001:db8:1::9"))), want: keysOf(six), then: keysOf(six, sixNet, sixOwn, subnet("2001:db8:1::9/128", "eth1", ""))},
	{name: "delete with metric", given: states(ip("2001:db8::1/64", "eth1", prio(7))), want: keysOf(six), then: keysOf(six, metric(sixNet, 7), sixOwn)},
	{name: "delete the link-local one", want: keysOf(ip(ll1+"/64", "eth1")), then: keysOf(ip(ll1+"/64", "eth1"), subnet("fe80::/64", "eth1", ""), ownSix(ll1, "eth1"))},
	{name: "delete the link-local one of the kernel's making", start: &Lab, want: keysOf(ip("fe80::ff:fe62:2/64", "eth1")),
		then: keysOf(ip("fe80::ff:fe62:2/64", "eth1"), subnet("fe80::/64", "eth1", ""), ownSix("fe80::ff:fe62:2", "eth1"))},
	{name: "delete the loopback's own", want: keysOf(ip("::1/128", "lo")), then: keysOf(ip("::1/128", "lo"), ownSix("::1", "lo"))},
	{name: "delete without carrier", start: &NoCarrier, want: keysOf(eth1Six), then: keysOf(eth1Six, subnet("fd00:98::/64", "eth1", ""), ownSix("fd00:98::2", "eth1"))},

	{name: "refused: there otherwise", want: resource.Of(ip("fd00:98::2/64", "eth1", prio(7))), errno: "EEXIST", words: "ipv6: address already assigned"},
	{name: "refused: there with another length", want: resource.Of(ip("fd00:98::2/128", "eth1")), errno: "EEXIST", words: "ipv6: address already assigned"},
	{name: "refused: IPv6 disabled", start: &NoIPv6, want: resource.Of(six), errno: "EACCES", words: "ipv6: IPv6 is disabled on this device"},
	{name: "refused: unspecified", want: resource.Of(ip("::/128", "eth1")), errno: "EADDRNOTAVAIL", words: "ipv6: Invalid address"},
	{name: "refused: multicast", want: resource.Of(ip("ff02::9/128", "eth1")), errno: "EADDRNOTAVAIL", words: `ipv6: Cannot assign multicast address without "IFA_F_MCAUTOJOIN" flag`},
	{name: "refused: the loopback's", want: resource.Of(ip("::1/128", "eth1")), errno: "EADDRNOTAVAIL", words: "ipv6: Cannot assign loopback address on this device"},
	{name: "refused: a gateway in a subnet on the loopback", given: states(ip("2001:db8::1/64", "lo")), want: resource.Of(via(net6, "2001:db8::9", "")), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "refused: no such link", want: resource.Of(ip("2001:db8::1/64", "eth9")), errno: "ENODEV", words: "no such device"},
}

// unpredictableAddrs are changes that the model does not cover.
var unpredictableAddrs = []editCase{
	{name: "with a lifetime", want: resource.Of(ip("192.0.2.1/24", "eth1", func(a *resource.Addr) { a.Permanent = false }))},
	{name: "IPv4 with flags", want: resource.Of(ip("192.0.2.1/24", "eth1", func(a *resource.Addr) { a.Flags = nodad }))},
	{name: "IPv6 with other flags", want: resource.Of(ip("2001:db8::1/64", "eth1", func(a *resource.Addr) { a.Flags = 0x100 }))},
	{name: "IPv6 with broadcast", want: resource.Of(ip("2001:db8::1/64", "eth1", brd("192.0.2.1")))},
	{name: "IPv6 with label", want: resource.Of(ip("2001:db8::1/64", "eth1", label("eth1:1")))},
	{name: "IPv4 unspecified", want: resource.Of(ip("0.0.0.0/32", "eth1"))},
	{name: "IPv4 multicast", want: resource.Of(ip("224.0.0.5/32", "eth1"))},
	{name: "a long label", want: resource.Of(ip("192.0.2.1/24", "eth1", label("eth1:0123456789ab")))},
	{name: "a peer of another family", want: resource.Of(ip("192.0.2.1/32", "eth1", func(a *resource.Addr) { a.Peer = prefix("fd00::1/32") }))},
	{name: "a peer of another length", want: resource.Of(ip("192.0.2.1/24", "eth1", func(a *resource.Addr) { a.Peer = prefix("192.0.2.9/32") }))},
	{name: "detection without carrier", start: &NoCarrier, want: resource.Of(ip("2001:db8::1/64", "eth1", dad))},
	{name: "the last of a link, one hop of two over it", given: states(multi(net4, hop(gw4, "eth1", 1), hop("10.99.0.1", "eth0", 1))), want: keysOf(eth1First)},
	{name: "the first of two on the loopback", given: states(ip("192.0.2.1/24", "lo"), ip("192.0.2.2/24", "lo")), want: keysOf(ip("192.0.2.1/24", "lo"))},
}
