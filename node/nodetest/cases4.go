package nodetest

import "runbook/engine/resource"

const (
	global  = resource.ScopeGlobal
	site    = resource.ScopeSite
	link    = resource.ScopeLink
	host    = resource.ScopeHost
	nowhere = resource.ScopeNowhere

	local      = resource.TableLocal
	table100   = resource.Table(100)
	table70000 = resource.Table(70000)

	net4 = "10.20.0.0/16" // what the cases are about: nothing covers it
	gw4  = "10.98.0.1"    // a neighbour on eth1
	far4 = "192.0.2.1"    // nothing covers it either
)

// existing is the route that replacing cases start with.
var existing = via(net4, gw4, "eth1")

var cases4 = []changeCase{
	{name: "add via", want: via(net4, gw4, "eth1")},
	{name: "add via without dev", want: via(net4, gw4, ""), holds: over(via(net4, gw4, ""), "eth1")},
	{name: "add via its own address", want: via(net4, "10.98.0.2", ""), holds: over(via(net4, "10.98.0.2", ""), "eth1")},
	{name: "add dev", want: dev(net4, "eth1")},
	{name: "add default", want: via("0.0.0.0/0", gw4, "eth1")},
	{name: "add a host route", want: via("10.20.0.1/32", gw4, "eth1")},
	{name: "add below the link's subnet", want: via("10.98.7.0/24", "10.98.0.7", "eth1")},
	{name: "add with metric", want: metric(via(net4, gw4, "eth1"), 77)},
	{name: "add with the highest metric", want: metric(via(net4, gw4, "eth1"), 1<<32-1)},
	{name: "add beside another metric", given: []resource.Route{existing}, want: metric(via(net4, "10.98.0.9", "eth1"), 5)},
	{name: "add in a new table", want: inTable(via(net4, gw4, "eth1"), table100)},
	{name: "add in a table above 255", want: inTable(via(net4, gw4, "eth1"), table70000)},
	{name: "add beside another table", given: []resource.Route{existing}, want: inTable(via(net4, gw4, "eth1"), table100)},
	{name: "add in the local table", want: inTable(via(net4, gw4, "eth1"), local)},
	{name: "add with proto boot", want: proto(via(net4, gw4, "eth1"), resource.ProtoBoot)},
	{name: "add with proto kernel", want: proto(dev(net4, "eth1"), resource.ProtoKernel)},
	{name: "add with proto bgp", want: proto(via(net4, gw4, "eth1"), 186)},
	{name: "add with tos", want: with(via(net4, gw4, "eth1"), func(r *resource.Route) { r.TOS = 0x10 })},
	{name: "add beside another tos", given: []resource.Route{existing}, want: with(existing, func(r *resource.Route) { r.TOS = 0x10 })},

	{name: "scope global dev", want: scope(dev(net4, "eth1"), global)},
	{name: "scope host dev", want: scope(dev(net4, "eth1"), host)},
	{name: "scope host dev down", start: &Eth1Down, want: scope(dev(net4, "eth1"), host)},
	{name: "scope site via", want: scope(via(net4, gw4, "eth1"), site)},
	{name: "scope link via its own address", want: scope(via(net4, "10.98.0.2", "eth1"), link)},

	{name: "onlink", want: onlink(via(net4, far4, "eth1"))},
	{name: "onlink that need not be", want: onlink(via(net4, gw4, "eth1"))},
	{name: "onlink in another table", want: inTable(onlink(via(net4, far4, "eth1")), table100)},
	{name: "onlink where another link leads", want: onlink(via(net4, gw4, "eth0"))},

	{name: "prefsrc of the link", want: src(via(net4, gw4, "eth1"), "10.98.0.2")},
	{name: "prefsrc of another link", want: src(via(net4, gw4, "eth1"), "10.99.0.2")},
	{name: "prefsrc in 127/8", want: src(via(net4, gw4, "eth1"), "127.0.0.9")},
	{name: "prefsrc in another table", want: inTable(src(via(net4, gw4, "eth1"), "10.98.0.2"), table100)},
	{name: "prefsrc of a link that is down", start: &Eth1Down, want: src(via(net4, "10.99.0.1", "eth0"), "10.98.0.2")},

	{name: "blackhole", want: typed(resource.Blackhole, net4)},
	{name: "unreachable", want: typed(resource.Unreachable, net4)},
	{name: "prohibit", want: typed(resource.Prohibit, net4)},
	{name: "throw", want: typed(resource.Throw, net4)},
	{name: "blackhole default in another table", want: inTable(metric(typed(resource.Blackhole, "0.0.0.0/0"), 4000), table100)},
	{name: "blackhole of scope link", want: scope(typed(resource.Blackhole, net4), link)},
	{name: "blackhole of scope nowhere", want: scope(typed(resource.Blackhole, net4), nowhere)},
	{name: "blackhole with a source that is none", want: src(typed(resource.Blackhole, net4), far4)},

	{name: "multipath", want: multi(net4, hop(gw4, "eth1", 1), hop("10.99.0.1", "eth0", 1))},
	{name: "multipath with weights", want: multi(net4, hop(gw4, "eth1", 256), hop("10.98.0.9", "eth1", 3), hop("10.99.0.1", "eth0", 2))},
	{
		name: "multipath without dev", want: multi(net4, hop(gw4, "", 1), hop("10.99.0.1", "eth0", 2)),
		holds: ptr(multi(net4, hop(gw4, "eth1", 1), hop("10.99.0.1", "eth0", 2))),
	},
	{name: "multipath of links", want: scope(multi(net4, hop("", "eth1", 1), hop("", "eth0", 1)), link)},
	{name: "multipath of a gateway and a link", want: multi(net4, hop(gw4, "eth1", 1), hop("", "eth0", 1))},
	{name: "multipath of equals", want: multi(net4, hop(gw4, "eth1", 3), hop(gw4, "eth1", 1))},
	{name: "multipath onlink", want: onlink(multi(net4, hop(far4, "eth1", 1), hop("192.0.2.2", "eth0", 1)))},
	{name: "multipath without carrier", start: &NoCarrier, want: multi(net4, hop(gw4, "eth1", 1), hop("10.99.0.1", "eth0", 1))},

	{name: "replace the gateway", given: []resource.Route{existing}, want: via(net4, "10.98.0.9", "eth1")},
	{name: "replace by the same", given: []resource.Route{existing}, want: existing},
	{name: "replace by what it becomes", given: []resource.Route{existing}, want: via(net4, gw4, ""), holds: ptr(existing)},
	{name: "replace the link", given: []resource.Route{existing}, want: dev(net4, "eth0")},
	{name: "replace the protocol", given: []resource.Route{existing}, want: proto(existing, resource.ProtoBoot)},
	{name: "replace the scope", given: []resource.Route{dev(net4, "eth1")}, want: scope(dev(net4, "eth1"), global)},
	{name: "replace by a blackhole", given: []resource.Route{existing}, want: typed(resource.Blackhole, net4)},
	{name: "replace a blackhole", given: []resource.Route{typed(resource.Blackhole, net4)}, want: existing},
	{name: "replace by multipath", given: []resource.Route{existing}, want: multi(net4, hop(gw4, "eth1", 1), hop("10.98.0.9", "eth1", 2))},
	{name: "replace multipath", given: []resource.Route{multi(net4, hop(gw4, "eth1", 1), hop("10.98.0.9", "eth1", 2))}, want: existing},
	{
		name:  "replace a weight",
		given: []resource.Route{multi(net4, hop(gw4, "eth1", 1), hop("10.98.0.9", "eth1", 2))},
		want:  multi(net4, hop(gw4, "eth1", 1), hop("10.98.0.9", "eth1", 3)),
	},
	{name: "replace a route of a higher metric's slot only", given: []resource.Route{existing, metric(existing, 9)}, want: metric(via(net4, "10.98.0.9", "eth1"), 9)},

	{name: "delete", given: []resource.Route{existing}, want: existing, gone: true},
	{name: "delete what is not there", want: existing, gone: true},
	{name: "delete one of two metrics", given: []resource.Route{existing, metric(existing, 9)}, want: existing, gone: true},
	{name: "delete one of two tables", given: []resource.Route{existing, inTable(existing, table100)}, want: inTable(existing, table100), gone: true},
	{name: "delete one of two tos", given: []resource.Route{existing, with(existing, func(r *resource.Route) { r.TOS = 0x10 })}, want: existing, gone: true},
	{name: "delete multipath", given: []resource.Route{multi(net4, hop(gw4, "eth1", 1), hop("10.98.0.9", "eth1", 2))}, want: existing, gone: true},
	{name: "delete a blackhole", given: []resource.Route{typed(resource.Blackhole, net4)}, want: existing, gone: true},
	{name: "delete the link's own", want: src(proto(dev("10.98.0.0/16", "eth1"), resource.ProtoKernel), "10.98.0.2"), gone: true},

	{name: "gateway in the same table", given: []resource.Route{inTable(dev("192.0.2.0/24", "eth1"), table100)}, want: inTable(via(net4, far4, "eth1"), table100)},
	{name: "gateway in the default table", given: []resource.Route{inTable(dev("192.0.2.0/24", "eth1"), resource.TableDefault)}, want: via(net4, far4, "eth1")},
	{
		name: "the table's own gateway route first", given: []resource.Route{inTable(dev("10.98.0.0/24", "eth0"), table100)},
		want: inTable(via(net4, gw4, ""), table100), holds: over(inTable(via(net4, gw4, ""), table100), "eth0"),
	},
	{
		name: "the table's throw leads on", given: []resource.Route{inTable(scope(typed(resource.Throw, "10.98.0.0/24"), link), table100)},
		want: inTable(via(net4, gw4, ""), table100), holds: over(inTable(via(net4, gw4, ""), table100), "eth1"),
	},
	{
		name: "the longest prefix that is near enough", given: []resource.Route{via("10.98.0.0/24", "10.99.0.9", "eth0")},
		want: via(net4, gw4, ""), holds: over(via(net4, gw4, ""), "eth1"),
	},
	{name: "a blackhole of scope global is looked past", given: []resource.Route{typed(resource.Blackhole, "10.98.0.1/32")}, want: via(net4, gw4, "eth1")},
	{name: "a gateway that is itself a link route", given: []resource.Route{dev("192.0.2.1/32", "eth0")}, want: via(net4, far4, ""), holds: over(via(net4, far4, ""), "eth0")},
	{
		name: "a gateway over one of several hops", given: []resource.Route{scope(multi("192.0.2.0/24", hop("", "eth0", 1), hop("", "eth1", 1)), link)},
		want: via(net4, far4, "eth1"),
	},
}

const (
	badGateway = "Nexthop has invalid gateway"
	badScope   = "Invalid scope"
	badSource  = "Invalid prefsrc address"
	noHops     = "Gateway, device and multipath can not be specified for this route type"
)

var refused4 = []changeCase{
	{name: "gateway that nothing covers", want: via(net4, far4, "eth1"), errno: "ENETUNREACH", words: badGateway},
	{name: "gateway that nothing covers, without dev", want: via(net4, far4, ""), errno: "ENETUNREACH", words: badGateway},
	{name: "gateway that is behind a gateway", given: []resource.Route{via("192.0.2.0/24", gw4, "eth1")}, want: via(net4, far4, ""), errno: "ENETUNREACH", words: badGateway},
	{name: "gateway on another link", want: via(net4, gw4, "eth0"), errno: "ENETUNREACH", words: badGateway},
	{name: "its own address on another link", want: via(net4, "10.98.0.2", "eth0"), errno: "ENETUNREACH", words: badGateway},
	{name: "gateway that is a broadcast address", want: via(net4, "10.98.255.255", "eth1"), errno: "EINVAL", words: badGateway},
	{name: "gateway in a blackhole", given: []resource.Route{scope(typed(resource.Blackhole, "10.98.0.1/32"), link)}, want: via(net4, gw4, "eth1"), errno: "EINVAL", words: badGateway},
	{name: "gateway that is unreachable", given: []resource.Route{scope(typed(resource.Unreachable, "10.98.0.1/32"), link)}, want: via(net4, gw4, "eth1"), errno: "EHOSTUNREACH", words: badGateway},
	{name: "gateway that is prohibited", given: []resource.Route{scope(typed(resource.Prohibit, "10.98.0.1/32"), link)}, want: via(net4, gw4, "eth1"), errno: "EACCES", words: badGateway},
	{name: "gateway that is thrown", given: []resource.Route{scope(typed(resource.Throw, "10.98.0.1/32"), link)}, want: via(net4, gw4, "eth1"), errno: "ENETUNREACH", words: badGateway},
	{name: "gateway over a link that is down", start: &Eth1Down, want: via(net4, gw4, "eth1"), errno: "ENETUNREACH", words: badGateway},
	{name: "its own address on a link that is down", start: &Eth1Down, want: via(net4, "10.98.0.2", "eth1"), errno: "ENETDOWN", words: "network is down"},
	{name: "no such link", want: via(net4, gw4, "eth9"), errno: "ENODEV", words: "no such device"},
	{name: "no such link, dev only", want: dev(net4, "eth9"), errno: "ENODEV", words: "no such device"},
	{name: "no hops", want: typed(resource.Unicast, net4), errno: "ENODEV", words: "no such device"},
	{name: "host bits", want: via("10.20.1.0/16", gw4, "eth1"), errno: "EINVAL", words: "Invalid prefix for given prefix length"},
	{name: "tos with ECN bits", want: with(existing, func(r *resource.Route) { r.TOS = 0x11 }), errno: "EINVAL", words: "Invalid dsfield (tos): ECN bits must be 0"},

	{name: "link down", start: &Eth1Down, want: dev(net4, "eth1"), errno: "ENETDOWN", words: "Device for nexthop is not up"},
	{name: "onlink, link down", start: &Eth1Down, want: onlink(via(net4, far4, "eth1")), errno: "ENETDOWN", words: "Nexthop device is not up"},
	{name: "onlink without dev", want: onlink(via(net4, far4, "")), errno: "ENODEV", words: "Nexthop device required for onlink"},
	{name: "onlink without gateway", want: onlink(dev(net4, "eth1")), errno: "EINVAL", words: "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set"},
	{name: "onlink of scope link", want: scope(onlink(via(net4, far4, "eth1")), link), errno: "EINVAL", words: "Nexthop has invalid scope"},
	{name: "onlink to its own address", want: onlink(via(net4, "10.98.0.2", "eth1")), errno: "EINVAL", words: badGateway},
	{name: "onlink to its own address of another link", want: onlink(via(net4, "10.98.0.2", "eth0")), errno: "EINVAL", words: badGateway},
	{name: "onlink to a multicast address", want: onlink(via(net4, "224.0.0.9", "eth1")), errno: "EINVAL", words: badGateway},

	{name: "scope nowhere", want: scope(dev(net4, "eth1"), nowhere), errno: "EINVAL", words: badScope},
	{name: "scope link via", want: scope(via(net4, gw4, "eth1"), link), errno: "ENETUNREACH", words: badGateway},
	{name: "scope host via", want: scope(via(net4, gw4, "eth1"), host), errno: "EINVAL", words: "Route with host scope can not have a gateway"},
	{name: "scope host multipath", want: scope(multi(net4, hop("", "eth1", 1), hop("", "eth0", 1)), host), errno: "EINVAL", words: "Route with host scope can not have multiple nexthops"},

	{name: "prefsrc of nobody", want: src(via(net4, gw4, "eth1"), "10.98.0.3"), errno: "EINVAL", words: badSource},
	{name: "prefsrc of nobody, covered by nothing", want: src(via(net4, gw4, "eth1"), far4), errno: "EINVAL", words: badSource},
	{name: "prefsrc of nobody in another table", want: inTable(src(via(net4, gw4, "eth1"), "10.98.0.3"), table100), errno: "EINVAL", words: badSource},
	{name: "prefsrc that is a broadcast address", want: src(via(net4, gw4, "eth1"), "10.98.255.255"), errno: "EINVAL", words: badSource},
	{name: "prefsrc after the gateway", want: src(via(net4, far4, "eth1"), far4), errno: "ENETUNREACH", words: badGateway},

	{name: "blackhole with dev", want: with(typed(resource.Blackhole, net4), func(r *resource.Route) { r.Hops = dev(net4, "eth1").Hops }), errno: "EINVAL", words: noHops},
	{name: "throw with gateway", want: with(typed(resource.Throw, net4), func(r *resource.Route) { r.Hops = via(net4, gw4, "").Hops }), errno: "EINVAL", words: noHops},
	{name: "prohibit with multipath", want: with(typed(resource.Prohibit, net4), func(r *resource.Route) { r.Hops = multi(net4, hop(gw4, "", 1), hop(gw4, "", 1)).Hops }), errno: "EINVAL", words: noHops},

	{name: "multipath, the second hop", want: multi(net4, hop(gw4, "eth1", 1), hop(far4, "eth1", 1)), errno: "ENETUNREACH", words: badGateway},
	{name: "multipath, link down", start: &Eth1Down, want: scope(multi(net4, hop("", "eth0", 1), hop("", "eth1", 1)), link), errno: "ENETDOWN", words: "Device for nexthop is not up"},

	{name: "replace, refused", given: []resource.Route{existing}, want: via(net4, far4, "eth1"), errno: "ENETUNREACH", words: badGateway},
	{
		name: "replace multipath, refused", given: []resource.Route{multi(net4, hop(gw4, "eth1", 1), hop("10.98.0.9", "eth1", 2))},
		want: multi(net4, hop(gw4, "eth1", 1), hop(far4, "eth1", 2)), errno: "ENETUNREACH", words: badGateway,
	},
}

func ptr[T any](v T) *T { return &v }
