package nodetest

import "runbook/engine/resource"

const (
	mac1 = "02:00:00:00:00:99"
	mac2 = "02:00:00:00:00:98"
)

// permanent is a permanent neighbour on eth1.
func permanent(a string) resource.Neigh {
	return resource.Neigh{Dev: "eth1", Addr: addr(a), MAC: mac1, Permanent: true}
}

// proxied is an address that eth1 answers for.
func proxied(a string) resource.Neigh { return resource.Neigh{Dev: "eth1", Addr: addr(a), Proxy: true} }

// managed is a neighbour that eth1 keeps resolved.
func managed(a string) resource.Neigh {
	return resource.Neigh{Dev: "eth1", Addr: addr(a), Managed: true}
}

func neigh(n resource.Neigh, f func(*resource.Neigh)) resource.Neigh { f(&n); return n }

func otherMAC(n *resource.Neigh) { n.MAC = mac2 }
func byBGP(n *resource.Neigh)    { n.Proto = 186 }
func external(n *resource.Neigh) { n.External = true }
func router(n *resource.Neigh)   { n.Router = true }
func onEth9(n *resource.Neigh)   { n.Dev = "eth9" }

var casesNeigh = []editCase{
	{name: "add", want: all(permanent(gw4))},
	{name: "add of no subnet", want: all(permanent(far4))},
	{name: "add the node's own address", want: all(permanent("10.98.0.2"))},
	{name: "add multicast", want: all(permanent("224.0.0.9"))},
	{name: "add broadcast", want: all(permanent("10.98.255.255"))},
	{name: "add any", want: all(permanent("0.0.0.0"))},
	{name: "add made by bgp", want: all(neigh(permanent(gw4), byBGP))},
	{name: "add a control plane's", want: all(neigh(permanent(gw4), external))},
	{name: "add no MAC", want: all(neigh(permanent(gw4), func(n *resource.Neigh) { n.MAC = "00:00:00:00:00:00" }))},
	{name: "add on a link that is down", start: &Eth1Down, want: all(permanent(gw4))},
	{name: "add without a carrier", start: &NoCarrier, want: all(permanent(gw4))},
	{name: "add on a link without IPv6", start: &NoIPv6, want: all(permanent(gw4))},
	{name: "add on a link without ARP", start: &NoARP, want: all(permanent(gw4))},
	{name: "add beside another", given: each(permanent(gw4)), want: all(permanent("10.98.0.9"))},
	{name: "replace the MAC", given: each(permanent(gw4)), want: all(neigh(permanent(gw4), otherMAC))},
	{name: "replace who set it", given: each(permanent(gw4)), want: all(neigh(permanent(gw4), byBGP))},
	{name: "replace by one that nobody set", given: each(neigh(permanent(gw4), byBGP)), want: all(permanent(gw4))},
	{name: "replace a control plane's", given: each(neigh(permanent(gw4), external)), want: all(permanent(gw4))},
	{name: "replace by managed", given: each(permanent(gw4)), want: all(managed(gw4))},
	{name: "replace managed", given: each(managed(gw4)), want: all(permanent(gw4))},
	{name: "replace nothing", given: each(permanent(gw4)), want: all(permanent(gw4))},
	{name: "add managed", want: all(managed(gw4))},
	{name: "add managed on a link that is down", start: &Eth1Down, want: all(managed(gw4))},
	{name: "add managed on a link without ARP", start: &NoARP, want: all(managed(gw4))},
	{name: "add a proxy", want: all(proxied(far4))},
	{name: "add a proxy beside a neighbour", given: each(permanent(far4)), want: all(proxied(far4))},
	{name: "add a proxy on a link that is down", start: &Eth1Down, want: all(proxied(far4))},
	{name: "replace who set a proxy", given: each(neigh(proxied(far4), byBGP)), want: all(proxied(far4))},
	{name: "delete", given: each(permanent(gw4)), want: gone(permanent(gw4).Key())},
	{name: "delete what is not there", want: gone(permanent(gw4).Key())},
	{name: "delete managed", given: each(managed(gw4)), want: gone(managed(gw4).Key())},
	{name: "delete a proxy", given: each(proxied(far4), permanent(far4)), want: gone(proxied(far4).Key())},
	{name: "delete beside a proxy", given: each(proxied(far4), permanent(far4)), want: gone(permanent(far4).Key())},
	{name: "IPv6 add", want: all(permanent(gw6))},
	{name: "IPv6 add link-local", want: all(permanent("fe80::99"))},
	{name: "IPv6 add a router", want: all(neigh(permanent(gw6), router))},
	{name: "IPv6 add multicast", want: all(permanent("ff02::99"))},
	{name: "IPv6 add made by bgp", want: all(neigh(permanent(gw6), byBGP))},
	{name: "IPv6 add on a link that is down", start: &Eth1Down, want: all(permanent(gw6))},
	{name: "IPv6 replace a router", given: each(neigh(permanent(gw6), router)), want: all(permanent(gw6))},
	{name: "IPv6 replace by a router", given: each(permanent(gw6)), want: all(neigh(permanent(gw6), router))},
	{name: "IPv6 replace the MAC", given: each(permanent(gw6)), want: all(neigh(permanent(gw6), otherMAC))},
	{name: "IPv6 add managed", want: all(managed(gw6))},
	{name: "IPv6 add a proxy", want: all(proxied(far6))},
	{name: "IPv6 add a proxy that is a router", want: all(neigh(proxied(far6), router))},
	{name: "IPv6 add a proxy without IPv6", start: &NoIPv6, want: all(proxied(far6))},
	{name: "IPv6 delete", given: each(permanent(gw6)), want: gone(permanent(gw6).Key())},
	{name: "IPv6 delete a proxy", given: each(proxied(far6)), want: gone(proxied(far6).Key())},
	{name: "with a route", want: all(permanent(gw4), via(net4, gw4, "eth1"), rule(4, 100))},
}

var refusedNeigh = []editCase{
	{name: "no such link", want: all(neigh(permanent(gw4), onEth9)), errno: "ENODEV", words: "no such device"},
	{name: "a proxy on no such link", want: all(neigh(proxied(gw4), onEth9)), errno: "ENODEV", words: "no such device"},
	{name: "without IPv6", start: &NoIPv6, want: all(permanent(gw6)), errno: "EINVAL", words: "IPv6 is disabled on this device"},
	{name: "managed without IPv6", start: &NoIPv6, want: all(managed(gw6)), errno: "EINVAL", words: "IPv6 is disabled on this device"},
	{name: "after one that is made", want: all(permanent(gw4), neigh(permanent("10.98.0.9"), onEth9)), errno: "ENODEV", words: "no such device"},
	{name: "before a route that is refused", given: each(permanent(gw4)),
		want:  and(all(neigh(permanent(gw4), otherMAC), proxied(gw6), via(net4, far4, "eth1")), gone()),
		errno: "ENETUNREACH", words: "Nexthop has invalid gateway"},
}
