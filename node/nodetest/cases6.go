package nodetest

import "runbook/engine/resource"

const (
	net6  = "fd00:20::/64"    // what the cases are about: nothing covers it
	gw6   = "fd00:98::1"      // a neighbour on eth1
	far6  = "2001:db8::1"     // nothing covers it either
	near6 = "fe80::1"         // a neighbour on any link
	own6  = "fd00:98::2"      // the node's own, on eth1
	ll0   = "fe80::ff:fe00:1" // too, on eth0
	ll1   = "fe80::ff:fe00:101"
)

var (
	existing6 = via(net6, gw6, "eth1")
	two6      = multi(net6, hop(gw6, "eth1", 1), hop("fd00:98::9", "eth1", 2))
)

// pref gives r a router preference.
func pref(r resource.Route, p uint8) resource.Route {
	return with(r, func(r *resource.Route) { r.Pref = p })
}

var cases6 = []changeCase{
	{name: "add via", want: via(net6, gw6, "eth1")},
	{name: "add via without dev", want: via(net6, gw6, ""), holds: over(existing6, "eth1")},
	{name: "add via link-local", want: via(net6, near6, "eth0")},
	{name: "add via another link's link-local address", want: via(net6, ll0, "eth1")},
	{name: "add via the subnet's first address", want: via(net6, "fd00:98::", "eth1")},
	{name: "add dev", want: dev(net6, "eth1")},
	{name: "add default", want: via("::/0", gw6, "eth1")},
	{name: "add a host route", want: via("fd00:20::1/128", gw6, "eth1")},
	{name: "add with metric", want: metric(via(net6, gw6, "eth1"), 77)},
	{name: "add beside another metric", given: []resource.Route{existing6}, want: metric(existing6, 5)},
	{name: "add in a new table", want: inTable(existing6, table100)},
	{name: "add in a table above 255", want: inTable(existing6, table70000)},
	{name: "add in the local table", want: inTable(existing6, local)},
	{name: "add with proto boot", want: proto(existing6, resource.ProtoBoot)},
	{name: "add with proto kernel", want: proto(dev(net6, "eth1"), resource.ProtoKernel)},
	{name: "add with high preference", want: pref(existing6, 1)},
	{name: "add with low preference", want: pref(existing6, 3)},
	{name: "scope is ignored", want: scope(dev(net6, "eth1"), link), holds: ptr(dev(net6, "eth1"))},
	{name: "without carrier", start: &NoCarrier, want: dev(net6, "eth1")},

	{name: "onlink", want: onlink(via(net6, far6, "eth1"))},
	{name: "onlink that need not be", want: onlink(via(net6, gw6, "eth1"))},
	{name: "onlink link-local", want: onlink(via(net6, near6, "eth1"))},
	{name: "onlink without gateway", want: onlink(dev(net6, "eth1"))},
	{name: "onlink beside a default route", given: []resource.Route{via("::/0", gw6, "eth1")}, want: onlink(via(net6, far6, "eth0"))},
	{name: "onlink into a blackhole", given: []resource.Route{typed(resource.Blackhole, "2001:db8::/64")}, want: onlink(via(net6, far6, "eth0"))},

	{name: "prefsrc of the link", want: src(existing6, own6)},
	{name: "prefsrc of another link", want: src(dev(net6, "eth0"), own6)},
	{name: "prefsrc link-local", want: src(dev(net6, "eth1"), ll1)},

	{name: "blackhole", want: typed(resource.Blackhole, net6)},
	{name: "unreachable", want: typed(resource.Unreachable, net6)},
	{name: "prohibit", want: typed(resource.Prohibit, net6)},
	{name: "throw", want: typed(resource.Throw, net6)},
	{name: "blackhole with metric in another table", want: inTable(metric(typed(resource.Blackhole, "::/0"), 4000), table100)},
	{name: "blackhole with prefsrc of lo", want: src(typed(resource.Blackhole, net6), "::1")},
	{name: "blackhole with prefsrc", want: src(typed(resource.Blackhole, net6), own6)},
	{
		name: "blackhole with a gateway that is ignored", holds: ptr(typed(resource.Blackhole, net6)),
		want: with(typed(resource.Blackhole, net6), func(r *resource.Route) { r.Hops = via(net6, far6, "eth1").Hops }),
	},

	{name: "multipath", want: multi(net6, hop(gw6, "eth1", 1), hop("fd00:98::9", "eth1", 1))},
	{name: "multipath in any order", want: multi(net6, hop("fd00:98::9", "eth1", 2), hop("fd00:98::8", "eth1", 1), hop("fd00:98::7", "eth1", 256))},
	{name: "multipath over links", want: multi(net6, hop(near6, "eth1", 1), hop(near6, "eth0", 1))},
	{name: "multipath without dev", want: multi(net6, hop(gw6, "", 1), hop(near6, "eth0", 3)), holds: ptr(multi(net6, hop(gw6, "eth1", 1), hop(near6, "eth0", 3)))},
	{name: "multipath onlink", want: onlink(multi(net6, hop(far6, "eth1", 1), hop("2001:db8::2", "eth0", 1)))},
	{name: "multipath in another table", want: inTable(metric(two6, 9), table100)},
	{name: "multipath with prefsrc", want: src(two6, own6)},

	{name: "replace the gateway", given: []resource.Route{existing6}, want: via(net6, "fd00:98::9", "eth1")},
	{name: "replace by the same", given: []resource.Route{existing6}, want: existing6},
	{name: "replace by what it becomes", given: []resource.Route{existing6}, want: via(net6, gw6, ""), holds: ptr(existing6)},
	{name: "replace the link", given: []resource.Route{existing6}, want: dev(net6, "eth0")},
	{name: "replace a link route", given: []resource.Route{dev(net6, "eth0")}, want: existing6},
	{name: "replace the protocol", given: []resource.Route{existing6}, want: proto(existing6, resource.ProtoBoot)},
	{name: "replace by a blackhole", given: []resource.Route{existing6}, want: typed(resource.Blackhole, net6)},
	{name: "replace a blackhole", given: []resource.Route{typed(resource.Blackhole, net6)}, want: existing6},
	{name: "replace a blackhole by multipath", given: []resource.Route{typed(resource.Blackhole, net6)}, want: two6},
	{name: "replace by multipath", given: []resource.Route{existing6}, want: two6},
	{name: "replace a link route by multipath", given: []resource.Route{dev(net6, "eth0")}, want: two6},
	{name: "replace multipath", given: []resource.Route{two6}, want: existing6},
	{name: "replace multipath by a blackhole", given: []resource.Route{two6}, want: typed(resource.Blackhole, net6)},
	{name: "replace multipath by a link route", given: []resource.Route{two6}, want: dev(net6, "eth1")},
	{name: "replace the order", given: []resource.Route{two6}, want: multi(net6, hop("fd00:98::9", "eth1", 2), hop(gw6, "eth1", 1))},
	{name: "replace a weight", given: []resource.Route{two6}, want: multi(net6, hop(gw6, "eth1", 1), hop("fd00:98::9", "eth1", 7))},
	{name: "replace beside another metric", given: []resource.Route{existing6, metric(two6, 9)}, want: metric(existing6, 9)},

	{name: "delete", given: []resource.Route{existing6}, want: existing6, gone: true},
	{name: "delete what is not there", want: existing6, gone: true},
	{name: "delete one of two metrics", given: []resource.Route{existing6, metric(two6, 9)}, want: existing6, gone: true},
	{name: "delete one of two tables", given: []resource.Route{existing6, inTable(existing6, table100)}, want: inTable(existing6, table100), gone: true},
	{name: "delete multipath", given: []resource.Route{two6}, want: existing6, gone: true},
	{name: "delete a blackhole", given: []resource.Route{typed(resource.Blackhole, net6)}, want: existing6, gone: true},
	{name: "delete the link's own", want: metric(dev("fd00:98::/64", "eth1"), 256), gone: true},

	{name: "gateway in the same table", given: []resource.Route{inTable(dev("2001:db8::/64", "eth1"), table100)}, want: inTable(via(net6, far6, "eth1"), table100)},
	{
		name: "the table's own gateway route first", given: []resource.Route{inTable(dev("fd00:98::/96", "eth0"), table100)},
		want: inTable(via(net6, gw6, ""), table100), holds: over(inTable(existing6, table100), "eth0"),
	},
	{name: "past the table's own gateway route", given: []resource.Route{inTable(dev("fd00:98::/96", "eth0"), table100)}, want: inTable(existing6, table100)},
	{name: "past the table's blackhole", given: []resource.Route{inTable(typed(resource.Blackhole, "::/0"), table100)}, want: inTable(existing6, table100)},
	{name: "past a blackhole, for the link is given", given: []resource.Route{typed(resource.Blackhole, "fd00:98::1/128")}, want: existing6},
	{
		name: "the lower metric", given: []resource.Route{metric(dev("2001:db8::/64", "eth1"), 20), metric(dev("2001:db8::/64", "eth0"), 10)},
		want: via(net6, far6, ""), holds: over(via(net6, far6, ""), "eth0"),
	},
	{name: "the higher metric, for the link is given", given: []resource.Route{metric(dev("2001:db8::/64", "eth1"), 20), metric(dev("2001:db8::/64", "eth0"), 10)}, want: via(net6, far6, "eth1")},
}

const ownGateway = "Gateway can not be a local address"

var refused6 = []changeCase{
	{name: "gateway that nothing covers", want: via(net6, far6, "eth1"), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "gateway that nothing covers, without dev", want: via(net6, far6, ""), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "gateway that is behind a gateway", given: []resource.Route{via("2001:db8::/64", gw6, "eth1")}, want: via(net6, far6, ""), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "gateway on another link", want: via(net6, gw6, "eth0"), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "gateway in a blackhole", given: []resource.Route{typed(resource.Blackhole, "fd00:98::1/128")}, want: via(net6, gw6, ""), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "gateway over a link that is down", start: &Eth1Down, want: via(net6, gw6, "eth1"), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "IPv4-mapped gateway", want: via(net6, "::ffff:10.98.0.1", "eth1"), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "its own address", want: via(net6, own6, "eth1"), errno: "EINVAL", words: ownGateway},
	{name: "its own address, without dev", want: via(net6, own6, ""), errno: "EINVAL", words: ownGateway},
	{name: "its own address of another link", want: via(net6, own6, "eth0"), errno: "EINVAL", words: ownGateway},
	{name: "its own link-local address", want: via(net6, ll0, "eth0"), errno: "EINVAL", words: ownGateway},
	{name: "loopback as gateway", want: via(net6, "::1", "eth1"), errno: "EINVAL", words: ownGateway},
	{name: "loopback as gateway, without dev", want: via(net6, "::1", ""), errno: "EINVAL", words: "Egress device can not be loopback device for this route"},
	{name: "link-local gateway without dev", want: via(net6, near6, ""), errno: "EINVAL", words: "Egress device not specified"},
	{name: "link-local gateway, link down", start: &Eth1Down, want: via(net6, near6, "eth1"), errno: "ENETDOWN", words: "Nexthop device is not up"},
	{name: "multicast gateway", want: via(net6, "ff02::1", "eth1"), errno: "EINVAL", words: "Invalid gateway address"},
	{name: "no gateway's address", want: via(net6, "::", "eth1"), errno: "EINVAL", words: "Invalid gateway address"},
	{name: "no such link", want: via(net6, gw6, "eth9"), errno: "ENODEV", words: "no such device"},
	{name: "no hops", want: typed(resource.Unicast, net6), errno: "ENODEV", words: "no such device"},
	{name: "link down", start: &Eth1Down, want: dev(net6, "eth1"), errno: "ENETDOWN", words: "Nexthop device is not up"},
	{name: "IPv6 disabled", start: &NoIPv6, want: dev(net6, "eth1"), errno: "EACCES", words: "IPv6 is disabled on nexthop device"},
	{name: "IPv6 disabled, link-local gateway", start: &NoIPv6, want: via(net6, near6, "eth1"), errno: "EACCES", words: "IPv6 is disabled on nexthop device"},
	{name: "IPv6 disabled, another gateway", start: &NoIPv6, want: via(net6, gw6, "eth1"), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "tos", want: with(existing6, func(r *resource.Route) { r.TOS = 0x10 }), errno: "EINVAL", words: "Invalid dsfield (tos): option not available for IPv6"},

	{name: "onlink without dev", want: onlink(via(net6, far6, "")), errno: "ENODEV", words: "Nexthop device required for onlink"},
	{name: "onlink, link down", start: &Eth1Down, want: onlink(via(net6, far6, "eth1")), errno: "ENETDOWN", words: "Nexthop device is not up"},
	{name: "onlink where another link leads", want: onlink(via(net6, gw6, "eth0")), errno: "EINVAL", words: "Nexthop has invalid gateway or device mismatch"},
	{name: "onlink to its own address", want: onlink(via(net6, own6, "eth0")), errno: "EINVAL", words: ownGateway},

	{name: "prefsrc of nobody", want: src(existing6, "fd00:98::3"), errno: "EINVAL", words: "Invalid source address"},
	{name: "prefsrc link-local of another link", want: src(dev(net6, "eth0"), ll1), errno: "EINVAL", words: "Invalid source address"},
	{name: "prefsrc of lo", want: src(dev(net6, "eth1"), "::1"), errno: "EINVAL", words: "Invalid source address"},
	{name: "blackhole with prefsrc of nobody", want: src(typed(resource.Blackhole, net6), far6), errno: "EINVAL", words: "Invalid source address"},

	{name: "multipath of a gateway and a link", want: multi(net6, hop(gw6, "eth1", 1), hop("", "eth0", 1)), errno: "EINVAL", words: "Device only routes can not be added for IPv6 using the multipath API."},
	{name: "multipath of equals", want: multi(net6, hop(gw6, "eth1", 1), hop(gw6, "eth1", 2)), errno: "EEXIST", words: "file exists"},
	{name: "multipath, the second hop", want: multi(net6, hop(gw6, "eth1", 1), hop(far6, "eth1", 2)), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "multipath, a link before a bad gateway", want: multi(net6, hop("", "eth1", 1), hop(far6, "eth1", 2)), errno: "EINVAL", words: "Device only routes can not be added for IPv6 using the multipath API."},
	{name: "multipath, a bad gateway before a link", want: multi(net6, hop(far6, "eth1", 1), hop("", "eth1", 2)), errno: "EINVAL", words: "Device only routes can not be added for IPv6 using the multipath API."},
	{name: "multipath, equals before a bad gateway", want: multi(net6, hop(gw6, "eth1", 1), hop(gw6, "eth1", 1), hop(far6, "eth1", 2)), errno: "EEXIST", words: "file exists"},
	{name: "multipath, equals before a bad source", want: src(multi(net6, hop(gw6, "eth1", 1), hop(gw6, "eth1", 1)), far6), errno: "EINVAL", words: "Invalid source address"},

	{name: "replace, refused", given: []resource.Route{existing6}, want: via(net6, far6, "eth1"), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "replace multipath, refused", given: []resource.Route{two6}, want: multi(net6, hop("fd00:98::9", "eth1", 1), hop(far6, "eth1", 2)), errno: "EHOSTUNREACH", words: "no route to host"},
	{name: "replace multipath by equals, refused", given: []resource.Route{two6}, want: multi(net6, hop(gw6, "eth1", 1), hop(gw6, "eth1", 2)), errno: "EEXIST", words: "file exists"},
}
