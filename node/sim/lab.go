package sim

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"

	"runbook/engine/resource"
)

// LabNode is what node number i of a lab, from 1 on, holds just after it was
// made, where it is simulated: lo; eth0 for management, 10.99.0.0/16; eth1 for
// data, 10.98.0.0/16 and fd00:98::/64; and the routes that follow from these.
// The gateways have number 0.
func LabNode(name string, i int) resource.State {
	x, y := byte((i+1)>>8), byte(i+1)
	s := Loopback()
	for j, net := range []byte{99, 98} {
		dev := fmt.Sprintf("eth%d", j)
		mac := fmt.Sprintf("02:00:00:%02x:%02x:%02x", net, x, y)
		addrs := []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, net, x, y}), 16),
			netip.PrefixFrom(linkLocal(net, x, y), 64),
		}
		if net == 98 {
			data := netip.MustParseAddr("fd00:98::").As16()
			data[14], data[15] = x, y
			addrs = append(addrs, netip.PrefixFrom(netip.AddrFrom16(data), 64))
		}
		Attach(s, resource.Link{Name: dev, Type: "veth", MAC: mac, MTU: 1500, MaxMTU: 65535, Up: true, Carrier: true}, 0, addrs...)
	}
	facts := resource.Facts{
		Hostname: name, OS: "debian", Version: "12", Kernel: "6.18.0", Arch: runtime.GOARCH, CPUs: 1, Memory: 1 << 30,
		BootID: fmt.Sprintf("00000000-0000-4000-8000-%012x", i),
	}
	s[facts.Key()] = facts
	return s
}

// linkLocal is the address that the kernel makes from the MAC 02:00:00:net:x:y.
func linkLocal(net, x, y byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 11: 0xff, 12: 0xfe, 13: net, 14: x, 15: y})
}

// Loopback is what a network namespace holds whose lo is up: the link, its
// addresses and their routes, and the rules that the kernel made.
func Loopback() resource.State { return loopback().Clone() }

// loopback is made once: thousands of simulated nodes have the same.
var loopback = sync.OnceValue(func() resource.State {
	a := func(p string, proto uint8) resource.Addr {
		return resource.Addr{Dev: "lo", Prefix: netip.MustParsePrefix(p), Scope: resource.ScopeHost, Permanent: true, Proto: proto}
	}
	local := func(p string, t resource.RouteType, scope resource.Scope, src string) resource.Route {
		r := resource.Route{Dst: netip.MustParsePrefix(p), Table: resource.TableLocal, Type: t, Scope: scope, Proto: resource.ProtoKernel}
		r.Hops = []resource.Hop{{Dev: "lo"}}
		if src != "" {
			r.PrefSrc = netip.MustParseAddr(src)
		}
		return r
	}
	s := resource.Of(
		resource.Link{Name: "lo", Type: "loopback", MTU: 65536, Up: true, Carrier: true},
		a("127.0.0.1/8", 0), a("::1/128", protoLoopback),
		local("127.0.0.0/8", resource.Local, resource.ScopeHost, "127.0.0.1"),
		local("127.0.0.1/32", resource.Local, resource.ScopeHost, "127.0.0.1"),
		local("127.255.255.255/32", resource.Broadcast, resource.ScopeLink, "127.0.0.1"),
		local("::1/128", resource.Local, resource.ScopeGlobal, ""),
	)
	for _, r := range resource.DefaultRules() {
		s[r.Key()] = r
	}
	return s
})

// Who set an address: IFAPROT_*.
const (
	protoLoopback  = 1
	protoLinkLocal = 3
)

// Attach adds to s the link l, which is up, with addresses, and the routes that
// the kernel makes of these. IPv6 addresses get flags; without any, a link-local
// one counts as the kernel's own.
func Attach(s resource.State, l resource.Link, flags uint32, addrs ...netip.Prefix) {
	s[l.Key()] = l
	hops := []resource.Hop{{Dev: l.Name}} // of all of them
	route := func(r resource.Route) {
		r.Proto, r.Hops = resource.ProtoKernel, hops
		for s[r.Key()] != nil {
			r.Nth++ // every link has the same
		}
		s[r.Key()] = r
	}
	for _, p := range addrs {
		a := resource.Addr{Dev: l.Name, Prefix: p, Permanent: true}
		host := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
		if p.Addr().Is4() {
			last := broadcast(p)
			a.Broadcast = last
			route(resource.Route{Dst: p.Masked(), Table: resource.TableMain, Type: resource.Unicast, Scope: resource.ScopeLink, PrefSrc: p.Addr()})
			route(resource.Route{Dst: host, Table: resource.TableLocal, Type: resource.Local, Scope: resource.ScopeHost, PrefSrc: p.Addr()})
			route(resource.Route{Dst: netip.PrefixFrom(last, 32), Table: resource.TableLocal, Type: resource.Broadcast, Scope: resource.ScopeLink, PrefSrc: p.Addr()})
		} else {
			a.Flags = flags
			if p.Addr().IsLinkLocalUnicast() {
				a.Scope = resource.ScopeLink
				if flags == 0 {
					a.Proto = protoLinkLocal
				}
			}
			route(resource.Route{Dst: p.Masked(), Table: resource.TableMain, Type: resource.Unicast, Metric: 256})
			route(resource.Route{Dst: host, Table: resource.TableLocal, Type: resource.Local})
		}
		s[a.Key()] = a
	}
	route(resource.Route{Dst: multicast6.Dst, Table: resource.TableLocal, Type: resource.Multicast, Metric: 256})
}

// broadcast is the last address of the IPv4 subnet p.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
