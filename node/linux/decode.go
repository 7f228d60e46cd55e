//go:build linux

package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// userHz is the unit of the times in RTA_CACHEINFO, the same on every
// architecture that agents are built for.
const userHz = 100

// route is a resource.Route, and what putting it back needs besides.
type route struct {
	resource.Route
	left time.Duration // until it expires, where Expires
}

// names gives the links their names, asking once for each in a read.
type names struct {
	node  *Node
	known map[uint32]string
}

func (n *names) of(index uint32) (string, error) {
	if name, ok := n.known[index]; ok {
		return name, nil
	}
	name, err := n.node.linkName(index)
	if errors.Is(err, unix.ENODEV) { // gone since the dump: the next read will not see the route
		name, err = fmt.Sprintf("if%d", index), nil
	}
	if err != nil {
		return "", err
	}
	if n.known == nil {
		n.known = map[uint32]string{}
	}
	n.known[index] = name
	return name, nil
}

// decodeRoute turns the message of a route into a Route. Nth is left to the caller.
func decodeRoute(msg []byte, names *names) (route, error) {
	s, _ := scan(msg)
	dst, _ := netip.AddrFromSlice(s.addr())
	r := route{Route: resource.Route{
		Dst:    netip.PrefixFrom(dst, int(s.dstLen)),
		TOS:    s.tos,
		Metric: s.metric,
		Table:  resource.Table(s.table),
		Proto:  resource.Proto(msg[5]),
		Scope:  resource.Scope(msg[6]),
		Type:   resource.RouteType(msg[7]),
	}}
	hop := resource.Hop{Onlink: native.Uint32(msg[8:])&unix.RTNH_F_ONLINK != 0}
	var extra unknown
	var err error
	for kind, a := range attrs(msg[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST, unix.RTA_TABLE, unix.RTA_PRIORITY, unix.RTA_PAD: // scanned
		case unix.RTA_SRC:
			r.Src = netip.PrefixFrom(addr(a), int(s.srcLen))
		case unix.RTA_PREFSRC:
			r.PrefSrc = addr(a)
		case unix.RTA_OIF:
			hop.Dev, err = names.of(s.oif)
		case unix.RTA_GATEWAY:
			hop.Via = addr(a)
		case unix.RTA_VIA:
			if hop.Via = via(a); !hop.Via.IsValid() {
				extra.add(kind, a)
			}
		case unix.RTA_MULTIPATH:
			r.Hops, err = decodeHops(value(a), names)
		case rtaNHID:
			r.NHID = u32(a)
		case unix.RTA_PREF:
			r.Pref = u8(a)
		case unix.RTA_CACHEINFO:
			r.Expires, r.left = lifetime(value(a))
		default:
			extra.add(kind, a)
		}
		if err != nil {
			return r, err
		}
	}
	r.Extra = extra.raw()
	if s.family == unix.AF_INET6 && rejects(r.Type) && !hop.Via.IsValid() {
		hop = resource.Hop{} // the kernel puts them on lo; nobody else does
	}
	if hop.Dev != "" || hop.Via.IsValid() {
		r.Hops = []resource.Hop{hop}
	}
	return r, nil
}

// rejects reports whether a route of this type leads nowhere.
func rejects(t resource.RouteType) bool {
	return t == resource.Blackhole || t == resource.Unreachable || t == resource.Prohibit || t == resource.Throw
}

// via is the gateway in an RTA_VIA, which is of another family than the route.
func via(attr []byte) netip.Addr {
	v := value(attr)
	if len(v) < 2 {
		return netip.Addr{}
	}
	if f := native.Uint16(v); f != unix.AF_INET && f != unix.AF_INET6 {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(v[2:])
	return a
}

// lifetime reads whether a route expires from struct rta_cacheinfo, and when.
// All else in there are counters.
func lifetime(cacheinfo []byte) (bool, time.Duration) {
	if len(cacheinfo) < 12 {
		return false, 0
	}
	expires := int32(native.Uint32(cacheinfo[8:]))
	return expires != 0, time.Duration(expires) * time.Second / userHz
}

// decodeHops reads the hops of a multipath route.
func decodeHops(b []byte, names *names) ([]resource.Hop, error) {
	var out []resource.Hop
	for len(b) >= unix.SizeofRtNexthop {
		size := int(native.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		h := resource.Hop{Weight: int(b[3]) + 1, Onlink: b[2]&unix.RTNH_F_ONLINK != 0}
		if index := native.Uint32(b[4:]); index != 0 {
			var err error
			if h.Dev, err = names.of(index); err != nil {
				return nil, err
			}
		}
		var extra unknown
		for kind, a := range attrs(b[unix.SizeofRtNexthop:size]) {
			switch kind {
			case unix.RTA_PAD:
			case unix.RTA_GATEWAY:
				h.Via = addr(a)
			case unix.RTA_VIA:
				if h.Via = via(a); !h.Via.IsValid() {
					extra.add(kind, a)
				}
			default:
				extra.add(kind, a)
			}
		}
		h.Extra = extra.raw()
		out = append(out, h)
		b = b[min(align(size), len(b)):]
	}
	return out, nil
}
