package resource

import (
	"fmt"
	"net/netip"
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
}

// AddrKey is the key of the address p on dev.
func AddrKey(dev string, p netip.Prefix) Key { return Key("addr " + dev + " " + p.String()) }

// Key implements [Resource].
func (a Addr) Key() Key { return AddrKey(a.Dev, a.Prefix) }

// Match implements [Resource].
func (a Addr) Match(s Selector) bool {
	return (s.Name == "" || s.Name == a.Dev) &&
		(!s.Dst.IsValid() || s.Dst == a.Prefix) &&
		(!s.Covers.IsValid() || a.Prefix.Masked().Contains(s.Covers)) &&
		(s.Family == 0 || s.Family == family(a.Prefix.Addr()))
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
