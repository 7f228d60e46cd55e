package builtins

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() {
	Operations["addr.add"] = AddrAdd{}
	Operations["addr.delete"] = AddrDelete{}
	Operations["addr.get"] = AddrGet{}
	Operations["addr.list"] = AddrList{}
}

// HostPrefix is an address with the length of its subnet, such as 10.98.0.9/16:
// other than in a destination, the bits beyond that length count.
type HostPrefix struct{ netip.Prefix }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *HostPrefix) UnmarshalText(b []byte) error {
	const want = "want an address with the length of its subnet, such as 10.98.0.9/16"
	v, err := netip.ParsePrefix(string(b))
	switch _, single := netip.ParseAddr(string(b)); {
	case err == nil && v.Addr().Is4In6():
		return fmt.Errorf("%s is an IPv4 address written as IPv6", v)
	case err == nil:
		p.Prefix = v
		return nil
	case single == nil:
		return fmt.Errorf("%s: %s has no length", want, b)
	default:
		return fmt.Errorf("%s, got %q", want, b)
	}
}

// AddrAdd gives a link an address.
//
// If the link has it already and all that the arguments mention is so, it
// changes nothing. The kernel adds the routes that go with an address by itself, and the plan
// shows them. An IPv6 address is usable, and the change done, once duplicate address
// detection has ended, which takes up to two seconds. It is lost at reboot.
//
// It returns changed (a bool) and addr.
//
//	node.addr.add("10.98.0.9/16", dev = "eth1")
//	node.addr.add("192.0.2.1/32", dev = "lo")
//	node.addr.add("fd00:98::9/64", dev = "eth1", noprefixroute = True)
type AddrAdd struct {
	Prefix        HostPrefix      `json:"prefix"`                  // the address with the length of its subnet, such as 10.98.0.9/16
	Dev           string          `json:"dev"`                     // link, such as "eth1"
	Peer          netip.Addr      `json:"peer,omitzero"`           // the other end of a point-to-point link
	Broadcast     netip.Addr      `json:"broadcast,omitzero"`      // IPv4; without it the last address of the subnet is answered to all the same
	Label         string          `json:"label,omitempty"`         // IPv4; begins with Dev, such as "eth1:1"
	Scope         *resource.Scope `json:"scope,omitempty"`         // IPv4; global where left out, but host for 127.0.0.0/8
	Metric        uint32          `json:"metric,omitempty"`        // of the route to its subnet
	NoPrefixRoute bool            `json:"noprefixroute,omitempty"` // make no route to its subnet
	NoDAD         bool            `json:"nodad,omitempty"`         // IPv6: without duplicate address detection
}

func (o AddrAdd) String() string { return o.Prefix.String() + " dev " + o.Dev }

// Validate checks what no node needs to be asked for.
func (o AddrAdd) Validate() error {
	if err := named("dev", o.Dev); err != nil {
		return err
	}
	ip, four := o.Prefix.Addr(), o.Prefix.Addr().Is4()
	switch {
	case ip.IsUnspecified() || ip.IsMulticast():
		return fmt.Errorf("prefix %s is not the address of one link", o.Prefix)
	case o.Prefix.Masked() == o.Prefix.Prefix && o.Prefix.Bits() < ip.BitLen()-1:
		return fmt.Errorf("prefix %s is a subnet: want an address in it, with its length, such as %s", o.Prefix, netip.PrefixFrom(ip.Next(), o.Prefix.Bits()))
	case o.Peer.IsValid() && (o.Peer.Is4() != four || o.Peer.Is4In6()):
		return fmt.Errorf("prefix %s and peer %s are of different families", o.Prefix, o.Peer)
	case o.Peer.IsValid() && (o.Peer == ip || o.Peer.IsUnspecified()):
		return fmt.Errorf("peer is %s: want another address than %s", o.Peer, ip)
	case o.Broadcast.IsValid() && !o.Broadcast.Is4(), !four && (o.Broadcast.IsValid() || o.Label != "" || o.Scope != nil):
		return fmt.Errorf("broadcast, label and scope are for IPv4")
	case four && o.NoDAD:
		return fmt.Errorf("nodad is for IPv6")
	case o.Label != "" && (!strings.HasPrefix(o.Label, o.Dev) || len(o.Label) > 15):
		return fmt.Errorf("label is %q: want one that begins with %s and has 15 characters at most", o.Label, o.Dev)
	}
	return nil
}

// flagNoDAD is IFA_F_NODAD.
const flagNoDAD = 0x02

// addr is what is asked for, with the kernel's defaults where nothing is said.
func (o AddrAdd) addr() resource.Addr {
	a := resource.Addr{
		Dev: o.Dev, Prefix: o.Prefix.Prefix, Broadcast: o.Broadcast, Label: o.Label, Permanent: true,
		NoPrefixRoute: o.NoPrefixRoute, Metric: o.Metric,
	}
	if o.Peer.IsValid() {
		a.Peer = netip.PrefixFrom(o.Peer, o.Prefix.Bits())
	}
	if a.Label == a.Dev {
		a.Label = ""
	}
	if o.NoDAD {
		a.Flags = flagNoDAD
	}
	switch ip := o.Prefix.Addr(); {
	case o.Scope != nil:
		a.Scope = *o.Scope
	case ip.IsLoopback():
		a.Scope = resource.ScopeHost
	case ip.Is6() && ip.IsLinkLocalUnicast():
		a.Scope = resource.ScopeLink
	}
	return a
}

// Plan implements [engine.Change].
func (o AddrAdd) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	want := o.addr()
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindAddr, Name: o.Dev, Dst: o.Prefix.Prefix}})
	if err != nil {
		return nil, err
	}
	if have, ok := resource.Get[resource.Addr](s, want.Key()); ok && len(o.otherwise(have)) == 0 {
		return resource.Of(have), nil
	}
	return resource.Of(want), nil
}

// otherwise says what of have is not as the arguments say, in their words.
func (o AddrAdd) otherwise(have resource.Addr) (out []string) {
	want := o.addr()
	differs := func(mentioned, differ bool, what string, h, w any) {
		if mentioned && differ {
			out = append(out, fmt.Sprintf("%s is %v, not %v", what, h, w))
		}
	}
	differs(true, have.Peer != want.Peer, "peer", none(have.Peer), none(want.Peer))
	differs(true, !have.Permanent, "permanent", false, true)
	differs(o.Broadcast.IsValid(), have.Broadcast != want.Broadcast, "broadcast", none(have.Broadcast), want.Broadcast)
	differs(o.Label != "", have.Label != want.Label, "label", cmp.Or(have.Label, have.Dev), cmp.Or(want.Label, want.Dev))
	differs(o.Scope != nil, have.Scope != want.Scope, "scope", have.Scope, want.Scope)
	differs(o.Metric != 0, have.Metric != want.Metric, "metric", have.Metric, want.Metric)
	differs(o.NoPrefixRoute, !have.NoPrefixRoute, "noprefixroute", false, true)
	return out
}

// none is v, or the word where it is not set.
func none[V interface {
	IsValid() bool
	String() string
}](v V) string {
	if !v.IsValid() {
		return "none"
	}
	return v.String()
}

// Result implements [engine.Change].
func (o AddrAdd) Result(changed bool, s resource.State) any {
	a, _ := resource.Get[resource.Addr](s, o.addr().Key())
	return map[string]any{"changed": changed, "addr": fields(a)}
}

// Explain implements [engine.Explainer]: it looks what stands in the way of the address.
func (o AddrAdd) Explain(ctx context.Context, n engine.Reader, refused *engine.NodeError) (cause, hint string) {
	links, err := list[resource.Link](ctx, n, resource.Selector{Kind: resource.KindLink})
	if err != nil {
		return "", ""
	}
	if !slices.ContainsFunc(links, func(l resource.Link) bool { return l.Name == o.Dev }) {
		return noLink(o.Dev, links), ""
	}
	addrs, err := list[resource.Addr](ctx, n, resource.Selector{Kind: resource.KindAddr, Name: o.Dev})
	if err != nil {
		return "", ""
	}
	want := o.addr()
	for _, a := range addrs {
		switch {
		case refused.Errno == "EEXIST" && a.Key() == want.Key():
			return fmt.Sprintf("%s has %s already, but its %s", o.Dev, a.Prefix, strings.Join(o.otherwise(a), "; its ")),
				"the kernel cannot change that: node.addr.delete it first, with which its routes go"
		case refused.Errno == "EEXIST" && a.Prefix.Addr() == o.Prefix.Addr():
			return fmt.Sprintf("%s has %s already, as %s", o.Dev, o.Prefix.Addr(), a.Prefix), "give it with that length, or node.addr.delete that one first"
		case refused.Errno == "EINVAL" && a.SameSubnet(want) && a.Scope != want.Scope:
			return fmt.Sprintf("%s, of the same subnet, has scope %s, not %s", a.Prefix, a.Scope, want.Scope), "all addresses of a subnet have one scope"
		}
	}
	switch {
	case refused.Errno == "EACCES" && o.Prefix.Addr().Is6():
		return "IPv6 is disabled on " + o.Dev, fmt.Sprintf("sysctl net.ipv6.conf.%s.disable_ipv6 says so", o.Dev)
	case refused.Errno == "EADDRNOTAVAIL" && o.Prefix.Addr().IsLoopback():
		return fmt.Sprintf("%s can only be on a loopback link, and %s is none", o.Prefix.Addr(), o.Dev), ""
	}
	return "", ""
}

// AddrDelete makes sure that a link does not have an address.
//
// The kernel takes more along, which the plan shows: the routes that came with
// the address; routes that have it for their source; with the first address of an IPv4 subnet
// the others of that subnet, unless promote_secondaries is set; and with the last IPv4
// address of a link all its routes.
//
// It returns changed (a bool).
//
//	node.addr.delete("10.98.0.9/16", dev = "eth1")
type AddrDelete struct {
	Prefix HostPrefix `json:"prefix"` // the address with the length of its subnet, exactly
	Dev    string     `json:"dev"`    // link, such as "eth1"
}

func (o AddrDelete) String() string { return o.Prefix.String() + " dev " + o.Dev }

// Validate checks what no node needs to be asked for.
func (o AddrDelete) Validate() error { return named("dev", o.Dev) }

// Plan implements [engine.Change].
func (o AddrDelete) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	if err := needLink(ctx, n, o.Dev); err != nil {
		return nil, err
	}
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindAddr, Name: o.Dev, Dst: o.Prefix.Prefix}})
	if err != nil {
		return nil, err
	}
	want := resource.State{}
	for k := range s {
		want[k] = nil
	}
	return want, nil
}

// Result implements [engine.Change].
func (o AddrDelete) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed}
}

// AddrGet returns the address Prefix, or None where the node does not have it.
//
//	node.addr.get("10.98.0.2/16").dev
type AddrGet struct {
	Prefix HostPrefix `json:"prefix"`        // the address with the length of its subnet, exactly
	Dev    string     `json:"dev,omitempty"` // only on this link
}

func (o AddrGet) String() string { return o.Prefix.String() }

// Look implements [engine.Probe].
func (o AddrGet) Look(ctx context.Context, n engine.Reader) (any, error) {
	if err := needLink(ctx, n, o.Dev); err != nil {
		return nil, err
	}
	addrs, err := list[resource.Addr](ctx, n, resource.Selector{Kind: resource.KindAddr, Name: o.Dev, Dst: o.Prefix.Prefix})
	if err != nil || len(addrs) == 0 {
		return nil, err
	}
	return fields(addrs[0]), nil
}

// AddrList returns the node's addresses, by link.
//
//	[a.prefix for a in node.addr.list(dev = "eth1", family = 4)]
type AddrList struct {
	Dev    string `json:"dev,omitempty"`    // only those of this link
	Family int    `json:"family,omitempty"` // only 4 or 6
}

func (o AddrList) String() string { return o.Dev }

// Validate checks the arguments.
func (o AddrList) Validate() error { return checkFamily(o.Family) }

// Look implements [engine.Probe].
func (o AddrList) Look(ctx context.Context, n engine.Reader) (any, error) {
	if err := needLink(ctx, n, o.Dev); err != nil {
		return nil, err
	}
	return views[resource.Addr](ctx, n, resource.Selector{Kind: resource.KindAddr, Name: o.Dev, Family: o.Family})
}

func checkFamily(f int) error {
	if f != 0 && f != 4 && f != 6 {
		return fmt.Errorf("family is %d: want 4 or 6", f)
	}
	return nil
}
