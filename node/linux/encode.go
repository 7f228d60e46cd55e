//go:build linux

package linux

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// loopback is the index of lo in every network namespace.
const loopback = 1

// encodeRoute makes the message that creates or deletes r. For deleting, it
// names all that the kernel compares, so that no other route is hit.
func (n *Node) encodeRoute(r route, deleting bool) ([]byte, error) {
	family := uint8(unix.AF_INET)
	if r.Family() == 6 {
		family = unix.AF_INET6
	}
	msg := make([]byte, unix.SizeofRtMsg, 128)
	msg[0], msg[1], msg[3] = family, uint8(r.Dst.Bits()), r.TOS
	if r.Table < 256 {
		msg[4] = uint8(r.Table)
	}
	msg[5], msg[6], msg[7] = uint8(r.Proto), uint8(r.Scope), uint8(r.Type)

	if r.Dst.Bits() > 0 {
		msg = put(msg, unix.RTA_DST, r.Dst.Addr().AsSlice()...)
	}
	if r.Src.IsValid() {
		msg[2] = uint8(r.Src.Bits())
		msg = put(msg, unix.RTA_SRC, r.Src.Addr().AsSlice()...)
	}
	msg = putU32(msg, unix.RTA_TABLE, uint32(r.Table))
	if r.Metric != 0 {
		msg = putU32(msg, unix.RTA_PRIORITY, r.Metric)
	}
	if r.PrefSrc.IsValid() {
		msg = put(msg, unix.RTA_PREFSRC, r.PrefSrc.AsSlice()...)
	}
	if r.Pref != 0 {
		msg = put(msg, unix.RTA_PREF, r.Pref)
	}
	if r.Expires && !deleting {
		msg = putU32(msg, unix.RTA_EXPIRES, uint32(max(r.left.Seconds(), 1)))
	}
	if r.NHID != 0 { // the object holds the hops; the kernel refuses to be told both
		msg = putU32(msg, rtaNHID, r.NHID)
		return append(msg, without(r.Extra, unix.RTA_ENCAP_TYPE, unix.RTA_ENCAP, unix.RTA_FLOW)...), nil
	}
	msg = append(msg, r.Extra...)
	if deleting && len(r.Hops) == 0 && family == unix.AF_INET6 {
		// IPv6 does not compare types: by its link, a blackhole is told from a route of the same identity
		msg = putU32(msg, unix.RTA_OIF, loopback)
	}
	return n.encodeHops(msg, r)
}

// encodeHops appends the hops of r.
func (n *Node) encodeHops(msg []byte, r route) ([]byte, error) {
	single := len(r.Hops) == 1 && r.Hops[0].Weight == 0
	var hops []byte
	for _, h := range r.Hops {
		var index, flags uint32
		if h.Onlink {
			flags = unix.RTNH_F_ONLINK
		}
		if h.Dev != "" {
			var err error
			if index, err = n.linkIndex(h.Dev); err != nil {
				return nil, refusal(err)
			}
		}
		if single {
			native.PutUint32(msg[8:], flags)
			if index != 0 {
				msg = putU32(msg, unix.RTA_OIF, index)
			}
			return append(putVia(msg, h.Via, r.Family()), h.Extra...), nil
		}
		hop := []byte{0, 0, uint8(flags), uint8(max(h.Weight, 1) - 1)}
		hop = native.AppendUint32(hop, index)
		hop = append(putVia(hop, h.Via, r.Family()), h.Extra...)
		native.PutUint16(hop, uint16(len(hop)))
		hops = append(hops, hop...)
	}
	if len(hops) > 0 {
		msg = put(msg, unix.RTA_MULTIPATH, hops...)
	}
	return msg, nil
}

func putVia(b []byte, via netip.Addr, family int) []byte {
	switch {
	case !via.IsValid():
		return b
	case via.Is4() == (family == 4):
		return put(b, unix.RTA_GATEWAY, via.AsSlice()...)
	case via.Is4():
		return put(b, unix.RTA_VIA, append(native.AppendUint16(nil, unix.AF_INET), via.AsSlice()...)...)
	default:
		return put(b, unix.RTA_VIA, append(native.AppendUint16(nil, unix.AF_INET6), via.AsSlice()...)...)
	}
}

// without is raw minus the attributes of these types.
func without(raw resource.Raw, kinds ...uint16) resource.Raw {
	var out unknown
	for kind, a := range attrs(raw) {
		if !slices.Contains(kinds, kind) {
			out.add(kind, a)
		}
	}
	return out.raw()
}
