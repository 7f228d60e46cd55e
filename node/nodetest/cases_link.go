package nodetest

import (
	"runbook/engine/resource"
)

// This file is cases of links: down, up, another MTU, a restart.

// withLink is a state in which the link eth1 of s is changed by f.
func withLink(s Start, name string, f func(*resource.Link)) resource.State {
	l, _ := resource.Get[resource.Link](s.State, resource.LinkKey(name))
	f(&l)
	return resource.Of(l)
}

func downOf(s Start, name string) resource.State {
	return withLink(s, name, func(l *resource.Link) { l.Up, l.Carrier = false, false })
}

// lostWith is what goes when eth1 of s goes down: the link as it is then, and others as absent.
func lostWith(s Start, then resource.State) resource.State {
	out := resource.State{}
	for k := range s.State {
		if then[k] == nil {
			out[k] = nil
		}
	}
	out[resource.LinkKey("eth1")] = then[resource.LinkKey("eth1")]
	return out
}

func mtu(s Start, n int) resource.State {
	return withLink(s, "eth1", func(l *resource.Link) { l.MTU = n })
}

var (
	link4     = via("10.20.0.0/16", gw4, "eth1")
	link100   = inTable(via("10.20.0.0/16", gw4, "eth1"), 100)
	linkScope = scope(dev("10.20.0.0/16", "eth1"), resource.ScopeHost)
	linkTwo   = multi("10.30.0.0/16", hop(gw4, "eth1", 1), hop("10.99.0.1", "eth0", 3))
	linkHole  = typed(resource.Blackhole, "10.40.0.0/16")
	link6     = via(net6, gw6, "eth1")
)

var casesLink = []editCase{
	{name: "down", want: downOf(Usual, "eth1"), then: lostWith(Usual, Eth1Down.State)},
	{name: "down with routes", given: []resource.State{resource.Of(link4, link100, linkTwo, linkHole, link6)}, want: downOf(Usual, "eth1"),
		then: and(lostWith(Usual, Eth1Down.State), gone(link4.Key(), link100.Key(), link6.Key()))},
	{name: "down with a route of host scope", given: []resource.State{resource.Of(linkScope)}, want: downOf(Usual, "eth1"),
		then: lostWith(Usual, Eth1Down.State)},
	{name: "down without IPv6", start: &NoIPv6, given: []resource.State{resource.Of(link4, linkTwo)}, want: downOf(NoIPv6, "eth1"),
		then: and(lostWith(NoIPv6, Eth1Down.State), gone(link4.Key()), downOf(NoIPv6, "eth1"))},
	{name: "down already", start: &Eth1Down, want: downOf(Usual, "eth1"), then: resource.State{}},
	{name: "mtu", want: mtu(Usual, 9000)},
	{name: "mtu of a link that is down", start: &Eth1Down, want: mtu(Eth1Down, 1400)},
	{name: "mtu too large", want: mtu(Usual, 65536), errno: "EINVAL", words: "mtu greater than device maximum"},
	// what random sequences have found
	{name: "down with a subnet that another link has too", given: []resource.State{resource.Of(ip("10.98.0.4/16", "eth0"))}, want: downOf(Usual, "eth1"),
		then: and(lostWith(Usual, Eth1Down.State), gone(behind(subnet("10.98.0.0/16", "eth0", "10.98.0.4"), 1).Key(), behind(everyone("10.98.255.255", "eth0", "10.98.0.4"), 1).Key()),
			resource.Of(subnet("10.98.0.0/16", "eth0", "10.98.0.4"), everyone("10.98.255.255", "eth0", "10.98.0.4")))},
	{name: "down of the link before, with its link-local subnet", want: downOf(Usual, "eth0"), then: and(lostOf(Usual, "eth0"), downOf(Usual, "eth0"))},
	{name: "restart without the route to its subnet", given: []resource.State{gone(subnet("10.98.0.0/16", "eth1", "10.98.0.2").Key())}, restart: "eth1", then: resource.State{}},
	{name: "restart", restart: "eth1", then: resource.State{}},
	{name: "restart without IPv6", start: &NoIPv6, given: []resource.State{resource.Of(link4, link100, linkTwo, linkHole)}, restart: "eth1", then: resource.State{}},
	{name: "restart with routes", given: []resource.State{resource.Of(link4, link100, linkTwo, linkHole, link6)}, restart: "eth1", then: resource.State{}},
}

// lostOf is what of s is on a link, but for its IPv4 addresses and their own routes, as absent.
func lostOf(s Start, name string) resource.State {
	out := resource.State{}
	for k, r := range s.State {
		switch r := r.(type) {
		case resource.Addr:
			if r.Dev == name && r.Family() == 6 {
				out[k] = nil
			}
		case resource.Route:
			if len(r.Hops) > 0 && r.Hops[0].Dev == name && r.Scope != resource.ScopeHost {
				out[k] = nil
			}
		}
	}
	return out
}
