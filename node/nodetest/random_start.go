package nodetest

import (
	"slices"
	"strings"

	"runbook/engine/resource"
)

// This file is what random sequences start from, beside the starts of the suite.

// keeping is Usual where permanent IPv6 addresses stay when their link goes down.
var keeping = Start{
	Name:  "keeping",
	State: usualState(),
	commands: append(slices.Clone(Usual.commands),
		"netns exec NODE sysctl -q -w net.ipv6.conf.eth0.keep_addr_on_down=1", "netns exec NODE sysctl -q -w net.ipv6.conf.eth1.keep_addr_on_down=1"),
}

// linkLocal is Usual but that the links make themselves link-local addresses, usable at once.
var linkLocal = Start{
	Name:  "link-local",
	State: usualState(),
	commands: append([]string{"netns exec NODE sysctl -q -w net.ipv6.conf.default.accept_dad=0"},
		slices.DeleteFunc(slices.Clone(Usual.commands), func(c string) bool { return strings.Contains(c, "addrgenmode") || strings.Contains(c, "fe80::") })...),
}

// besides is what there may be beside what a node starts with: what no operation makes.
var besides = [][]resource.State{nexthops4, nexthops6, strange}

func nexthopOf(id uint32, family int, via, dev string) resource.Nexthop {
	return resource.Nexthop{ID: id, Family: family, Hop: resource.Hop{Via: addr(via), Dev: dev}, Proto: resource.ProtoStatic}
}

func using(dst string, id uint32, hops ...resource.Hop) resource.Route {
	r := typed(resource.Unicast, dst)
	r.NHID, r.Hops = id, hops
	return r
}

// nexthops4 is nexthop objects, a group of two, and routes that use them.
var nexthops4 = []resource.State{
	resource.Of(nexthopOf(11, 4, gw4, "eth1"), nexthopOf(12, 4, "10.99.0.1", "eth0")),
	resource.Of(resource.Nexthop{ID: 13, Group: []resource.GroupMember{{ID: 11, Weight: 1}, {ID: 12, Weight: 3}}, Proto: resource.ProtoStatic}),
	resource.Of(using("10.50.0.0/16", 11, hop(gw4, "eth1", 0)), using("10.51.0.0/16", 13, hop(gw4, "eth1", 1), hop("10.99.0.1", "eth0", 3))),
}

// nexthops6 is the same for IPv6, where it is spoken on one link only.
var nexthops6 = []resource.State{
	resource.Of(nexthopOf(21, 6, "fe80::99", "eth0")),
	resource.Of(using("fd00:50::/64", 21, hop("fe80::99", "eth0", 0))),
}

// strange is routes that no field describes whole, and several of one identity.
var strange = func() []resource.State {
	limited := with(via("10.52.0.0/16", gw4, "eth1"), func(r *resource.Route) { // mtu 1400
		r.Extra = resource.Raw{12, 0, 8, 0, 8, 0, 2, 0, 0x78, 5, 0, 0}
	})
	first, second := via("10.53.0.0/16", gw4, "eth1"), via("10.53.0.0/16", "10.99.0.1", "eth0")
	second.Nth = 1
	third := with(first, func(r *resource.Route) { r.Nth, r.Hops[0].Via = 2, addr("10.98.0.9") })
	return []resource.State{resource.Of(limited, first), resource.Of(second), resource.Of(third)}
}()
