package resource

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// KindRoute is the kind of a [Route].
const KindRoute Kind = "route"

// Route is an entry of a routing table.
//
// The kernel tells routes apart by table, destination, source (IPv6), TOS
// (IPv4) and metric; it allows several IPv4 routes that agree in all of these,
// and Nth counts them in the order in which the kernel tries them, but see [Route.ByLink].
type Route struct {
	Dst     netip.Prefix `json:"dst"`              // 0.0.0.0/0 or ::/0 is the default route
	Src     netip.Prefix `json:"src,omitzero"`     // IPv6: only for packets from here
	TOS     uint8        `json:"tos,omitempty"`    // IPv4
	Metric  uint32       `json:"metric,omitempty"` // lower is tried first; an IPv6 route has 1024 where none is given
	Table   Table        `json:"table"`
	Nth     int          `json:"nth,omitempty"` // 0 is the first of its key
	Type    RouteType    `json:"type"`
	Scope   Scope        `json:"scope"` // IPv4; an IPv6 route has global
	Proto   Proto        `json:"proto"`
	PrefSrc netip.Addr   `json:"prefsrc,omitzero"`  // the source address that it suggests
	Hops    []Hop        `json:"hops,omitempty"`    // one, or several for a multipath route; none for blackhole and its like
	NHID    uint32       `json:"nhid,omitempty"`    // the nexthop object that it uses; Hops then say what that held
	Expires bool         `json:"expires,omitempty"` // has a lifetime
	Pref    uint8        `json:"pref,omitempty"`    // IPv6 router preference: 0 medium, 1 high, 3 low
	// Extra holds the netlink attributes that have no field here (metrics,
	// encapsulation), as the kernel sent them, in the order of their types: carried, compared
	// and put back, but not understood.
	Extra Raw `json:"extra,omitempty"`
}

// Hop is where a route sends packets next.
type Hop struct {
	Via    netip.Addr `json:"via,omitzero"`     // zero: the destination is on the link itself
	Dev    string     `json:"dev,omitempty"`    // the link
	Weight int        `json:"weight,omitempty"` // of a multipath route: 1 to 256; otherwise 0
	Onlink bool       `json:"onlink,omitempty"` // Via is taken to be on the link, whatever the addresses say
	Extra  Raw        `json:"extra,omitempty"`  // as in Route
}

// Raw is a run of netlink attributes: carried, not understood.
type Raw []byte

// RouteKey is the key of the first route with this identity.
func RouteKey(dst netip.Prefix, table Table, metric uint32) Key {
	return Route{Dst: dst, Table: table, Metric: metric}.Key()
}

// Key implements [Resource].
func (r Route) Key() Key {
	b := make([]byte, 0, 64) // no fmt: keys are made for every route that is read
	b = append(b, "route "...)
	b = r.Dst.AppendTo(b)
	b = append(b, " table "...)
	b = strconv.AppendUint(b, uint64(r.Table), 10)
	b = append(b, " metric "...)
	b = strconv.AppendUint(b, uint64(r.Metric), 10)
	if r.Src.IsValid() {
		b = append(b, " from "...)
		b = r.Src.AppendTo(b)
	}
	if r.TOS != 0 {
		b = fmt.Appendf(b, " tos %#x", r.TOS)
	}
	switch {
	case r.ByLink():
		b = append(b, " dev "...)
		b = append(b, r.Hops[0].Dev...)
	case r.Nth != 0:
		b = fmt.Appendf(b, " #%d", r.Nth+1)
	}
	return Key(b)
}

// equal is reflect.DeepEqual, but fast.
func (r Route) equal(o Route) bool {
	sameHop := func(a, b Hop) bool {
		return slices.Equal(a.Extra, b.Extra) && a.Via == b.Via && a.Dev == b.Dev && a.Weight == b.Weight && a.Onlink == b.Onlink
	}
	return r.Dst == o.Dst && r.Src == o.Src && r.TOS == o.TOS && r.Metric == o.Metric && r.Table == o.Table && r.Nth == o.Nth &&
		r.Type == o.Type && r.Scope == o.Scope && r.Proto == o.Proto && r.PrefSrc == o.PrefSrc && r.NHID == o.NHID &&
		r.Expires == o.Expires && r.Pref == o.Pref && slices.Equal(r.Extra, o.Extra) && slices.EqualFunc(r.Hops, o.Hops, sameHop)
}

// ByLink reports whether r is one of the IPv6 routes that the kernel makes of
// each link and its addresses: those of one identity are told apart by their links.
// The kernel tries them in an order that nothing depends on, and that cannot be put back.
func (r Route) ByLink() bool {
	if r.Proto != ProtoKernel || r.Family() != 6 || len(r.Hops) != 1 {
		return false
	}
	switch r.Type {
	case Local, Anycast, Multicast:
		return true
	case Unicast: // a link-local destination is always looked for on one link
		return r.Dst.Addr().IsLinkLocalUnicast()
	}
	return false
}

// Family is 4 or 6.
func (r Route) Family() int { return family(r.Dst.Addr()) }

// Match implements [Resource].
func (r Route) Match(s Selector) bool {
	return (!s.Dst.IsValid() || s.Dst == r.Dst) &&
		(s.Table == 0 || s.Table == r.Table) &&
		(!s.Covers.IsValid() || r.Dst.Contains(s.Covers)) &&
		(s.Family == 0 || s.Family == r.Family()) &&
		(!s.PrefSrc.IsValid() || s.PrefSrc == r.PrefSrc) &&
		(s.Name == "" || r.uses(s.Name))
}

func (r Route) uses(dev string) bool {
	for _, h := range r.Hops {
		if h.Dev == dev {
			return true
		}
	}
	return false
}

// Volatile implements [Resource]: a route from a router advertisement or a
// redirect comes and goes by itself.
func (r Route) Volatile() bool { return r.Proto == ProtoRA || r.Proto == ProtoRedirect }

func (r Route) String() string {
	var b strings.Builder
	if r.Type != Unicast {
		fmt.Fprintf(&b, "%s ", r.Type)
	}
	if r.Dst.Bits() == 0 && r.Dst.Addr().Is4() {
		b.WriteString("default")
	} else {
		b.WriteString(r.Dst.String())
	}
	if r.Src.IsValid() {
		fmt.Fprintf(&b, " from %s", r.Src)
	}
	if r.TOS != 0 {
		fmt.Fprintf(&b, " tos %#x", r.TOS)
	}
	if r.NHID != 0 {
		fmt.Fprintf(&b, " nhid %d", r.NHID)
	}
	if len(r.Hops) == 1 && r.Hops[0].Weight == 0 {
		r.Hops[0].write(&b)
	}
	if r.Table != TableMain {
		fmt.Fprintf(&b, " table %s", r.Table)
	}
	if r.Proto != ProtoStatic {
		fmt.Fprintf(&b, " proto %s", r.Proto)
	}
	if r.Scope != r.usualScope() {
		fmt.Fprintf(&b, " scope %s", r.Scope)
	}
	if r.PrefSrc.IsValid() {
		fmt.Fprintf(&b, " src %s", r.PrefSrc)
	}
	if r.Metric != r.usualMetric() {
		fmt.Fprintf(&b, " metric %d", r.Metric)
	}
	if r.Expires {
		b.WriteString(" expires")
	}
	if r.Pref != 0 {
		fmt.Fprintf(&b, " pref %d", r.Pref)
	}
	r.Extra.write(&b)
	if len(r.Hops) > 1 || len(r.Hops) == 1 && r.Hops[0].Weight != 0 {
		for _, h := range r.Hops {
			b.WriteString(" nexthop")
			h.write(&b)
		}
	}
	return b.String()
}

func (h Hop) write(b *strings.Builder) {
	if h.Via.IsValid() {
		fmt.Fprintf(b, " via %s", h.Via)
	}
	if h.Dev != "" {
		fmt.Fprintf(b, " dev %s", h.Dev)
	}
	if h.Weight != 0 {
		fmt.Fprintf(b, " weight %d", h.Weight)
	}
	if h.Onlink {
		b.WriteString(" onlink")
	}
	h.Extra.write(b)
}

func (raw Raw) write(b *strings.Builder) {
	if len(raw) > 0 {
		fmt.Fprintf(b, " raw %s", hex.EncodeToString(raw))
	}
}

func (r Route) usualScope() Scope {
	if r.Family() == 6 {
		return ScopeGlobal
	}
	return DefaultScope(r)
}

func (r Route) usualMetric() uint32 { return DefaultMetric(r.Dst) }

// DefaultMetric is the metric of a route to dst where none is given.
func DefaultMetric(dst netip.Prefix) uint32 {
	if dst.Addr().Is6() {
		return 1024 // IP6_RT_PRIO_USER
	}
	return 0
}

// DefaultScope is the scope of r where none is given, as iproute2 chooses it:
// IPv4 routes that lead straight onto a link have scope link, local ones host.
func DefaultScope(r Route) Scope {
	if r.Family() == 6 {
		return ScopeGlobal
	}
	switch r.Type {
	case Local, NAT:
		return ScopeHost
	case Broadcast, Multicast, Anycast:
		return ScopeLink
	case Unicast:
		if r.NHID != 0 {
			return ScopeGlobal
		}
		if len(r.Hops) == 1 && !r.Hops[0].Via.IsValid() {
			return ScopeLink
		}
	}
	return ScopeGlobal
}
