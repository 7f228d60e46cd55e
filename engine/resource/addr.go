package resource

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// KindAddr is the kind of an [Addr].
const KindAddr Kind = "addr"

// Addr is an address of a link. Remaining lifetimes and the state of duplicate
// address detection are not part of it: they change by themselves.
type Addr struct {
	Dev           string       `json:"dev"`
	Prefix        netip.Prefix `json:"prefix"`             // the address with its length, host bits kept: 10.98.0.2/16
	Peer          netip.Prefix `json:"peer,omitzero"`      // the other end, where it differs from the address
	Broadcast     netip.Addr   `json:"broadcast,omitzero"` // IPv4
	Label         string       `json:"label,omitempty"`    // IPv4, where it differs from Dev
	Scope         Scope        `json:"scope"`
	Secondary     bool         `json:"secondary,omitempty"` // IPv4: not the first of its subnet; IPv6: a temporary address
	Permanent     bool         `json:"permanent"`           // has no lifetime
	NoPrefixRoute bool         `json:"noprefixroute,omitempty"`
	Metric        uint32       `json:"metric,omitempty"` // of the prefix route
	Proto         uint8        `json:"proto,omitempty"`  // who set it: IFAPROT_*
	Flags         uint32       `json:"flags,omitempty"`  // other lasting IFA_F_* flags: nodad, home, mngtmpaddr, optimistic
	// Place is where the address stands among those of its link and family, and
	// for IPv6 scope, from 1 on; 0 is wherever the kernel puts it. The order decides which IPv4 address of a subnet is
	// the primary one, and which source the kernel prefers. It is no difference:
	// it moves when another address comes or goes.
	Place int `json:"place,omitempty"`
}

// AddrKey is the key of the address p on dev.
func AddrKey(dev string, p netip.Prefix) Key { return Key("addr " + dev + " " + p.String()) }

// Key implements [Resource]. The kernel tells IPv4 addresses apart by the subnet of their peer, too.
func (a Addr) Key() Key {
	k := AddrKey(a.Dev, a.Prefix)
	if a.Prefix.Addr().Is4() && a.Peer.IsValid() && a.Peer.Masked() != a.Prefix.Masked() {
		k += Key(" peer " + a.Peer.Masked().String())
	}
	return k
}

// ParseAddrKey returns the link and the address that k names: the reverse of [Addr.Key].
func ParseAddrKey(k Key) (dev string, p netip.Prefix, err error) {
	words := strings.Fields(string(k))
	if len(words) != 3 && (len(words) != 5 || words[3] != "peer") || Kind(words[0]) != KindAddr {
		return "", p, fmt.Errorf("%q is not the key of an address", k)
	}
	p, err = netip.ParsePrefix(words[2])
	return words[1], p, err
}

// Family is 4 or 6.
func (a Addr) Family() int { return family(a.Prefix.Addr()) }

// Far is the address that says which subnet a is in: the peer's, where there is
// one, or for IPv6 always its own.
func (a Addr) Far() netip.Prefix {
	if a.Peer.IsValid() && a.Family() == 4 {
		return a.Peer
	}
	return a.Prefix
}

// Match implements [Resource].
func (a Addr) Match(s Selector) bool {
	return (s.Name == "" || s.Name == a.Dev) &&
		(!s.Dst.IsValid() || s.Dst == a.Prefix) &&
		(!s.Covers.IsValid() || a.Prefix.Masked().Contains(s.Covers)) &&
		(s.Family == 0 || s.Family == family(a.Prefix.Addr()))
}

// SameSubnet reports whether a and b, of one link, are in the same subnet:
// the same length, and for IPv4 that of the peers.
func (a Addr) SameSubnet(b Addr) bool { return a.Far().Masked() == b.Far().Masked() }

// OneOrder reports whether a and b are in one list that has an order: of one
// link, family and, for IPv6, scope. IPv6 addresses of a wider scope come first.
func (a Addr) OneOrder(b Addr) bool {
	return a.Dev == b.Dev && a.Family() == b.Family() && (a.Family() == 4 || a.Scope == b.Scope)
}

// InsertAddr puts a into list, the addresses of its link and family, where the
// kernel does, and tells whether it is a secondary one. An IPv4 address comes
// behind the primary ones that are not of a nearer scope or, being a secondary, last. An IPv6
// address comes before those of its scope.
func InsertAddr(list []Addr, a Addr) []Addr {
	at := 0
	if a.Family() == 6 {
		for at < len(list) && list[at].Scope < a.Scope {
			at++
		}
		return slices.Insert(slices.Clone(list), at, a)
	}
	a.Secondary = false
	for i, o := range list {
		if !o.Secondary && a.Scope <= o.Scope {
			at = i + 1
		}
		a.Secondary = a.Secondary || a.SameSubnet(o)
	}
	if a.Secondary {
		at = len(list)
	}
	return slices.Insert(slices.Clone(list), at, a)
}

// Volatile implements [Resource]. An IPv6 address with a lifetime was made
// from a router advertisement or a lease and follows those.
func (a Addr) Volatile() bool { return !a.Permanent && a.Prefix.Addr().Is6() }

func (a Addr) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s dev %s", a.Prefix, a.Dev)
	if a.Peer.IsValid() {
		fmt.Fprintf(&b, " peer %s", a.Peer)
	}
	if a.Broadcast.IsValid() {
		fmt.Fprintf(&b, " brd %s", a.Broadcast)
	}
	if a.Scope != ScopeGlobal {
		fmt.Fprintf(&b, " scope %s", a.Scope)
	}
	if a.Label != "" {
		fmt.Fprintf(&b, " label %s", a.Label)
	}
	if a.Secondary {
		b.WriteString(" secondary")
	}
	if !a.Permanent {
		b.WriteString(" dynamic")
	}
	if a.NoPrefixRoute {
		b.WriteString(" noprefixroute")
	}
	if a.Metric != 0 {
		fmt.Fprintf(&b, " metric %d", a.Metric)
	}
	if a.Proto != 0 {
		fmt.Fprintf(&b, " proto %d", a.Proto)
	}
	if a.Flags != 0 {
		fmt.Fprintf(&b, " flags %#x", a.Flags)
	}
	return b.String()
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}
