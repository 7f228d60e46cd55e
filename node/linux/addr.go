//go:build linux

package linux

import (
	"context"
	"net/netip"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// ifaProto is IFA_PROTO, who set an address; from Linux 5.18 on.
const ifaProto = 11

// lastingFlags are the flags of an address that stay as they were set. The
// others follow duplicate address detection and lifetimes, or have a field.
const lastingFlags = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR |
	unix.IFA_F_MCAUTOJOIN | unix.IFA_F_STABLE_PRIVACY

// addrs reads the addresses that q selects into out.
func (n *Node) addrs(ctx context.Context, q resource.Query, out resource.State) error {
	if len(q) == 0 {
		return nil
	}
	names := names{node: n}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := make([]byte, unix.SizeofIfAddrmsg)
		req[0] = family
		var found [][]byte
		err := n.dump(ctx, unix.RTM_GETADDR, req, unix.RTM_NEWADDR, func() { found = nil }, func(msg []byte) {
			if len(msg) >= unix.SizeofIfAddrmsg && msg[0] == family {
				found = append(found, append([]byte(nil), msg...))
			}
		})
		if err != nil {
			return err
		}
		place := map[addrList]int{}
		for _, msg := range found {
			a, err := decodeAddr(msg, &names)
			if err != nil {
				return err
			}
			place[listOf(a)]++
			a.Place = place[listOf(a)]
			if q.Match(a) {
				out[a.Key()] = a
			}
		}
	}
	return nil
}

// decodeAddr turns the message of an address into an Addr.
func decodeAddr(msg []byte, names *names) (resource.Addr, error) {
	bits := int(msg[1])
	flags := uint32(msg[2])
	a := resource.Addr{Scope: resource.Scope(msg[3])}
	var err error
	if a.Dev, err = names.of(native.Uint32(msg[4:])); err != nil {
		return a, err
	}
	var local, far netip.Addr
	for kind, at := range attrs(msg[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_LOCAL:
			local = addr(at)
		case unix.IFA_ADDRESS:
			far = addr(at)
		case unix.IFA_BROADCAST:
			a.Broadcast = addr(at)
		case unix.IFA_LABEL:
			a.Label = text(at)
		case unix.IFA_FLAGS:
			flags = u32(at)
		case unix.IFA_RT_PRIORITY:
			a.Metric = u32(at)
		case ifaProto:
			a.Proto = u8(at)
		}
	}
	if !local.IsValid() { // IPv6 without a peer
		local = far
	}
	a.Prefix = netip.PrefixFrom(local, bits)
	if far.IsValid() && far != local {
		a.Peer = netip.PrefixFrom(far, bits)
	}
	if a.Label == a.Dev {
		a.Label = ""
	}
	a.Secondary = flags&unix.IFA_F_SECONDARY != 0
	a.Permanent = flags&unix.IFA_F_PERMANENT != 0
	a.NoPrefixRoute = flags&unix.IFA_F_NOPREFIXROUTE != 0
	a.Flags = flags & lastingFlags
	if a.Permanent { // and still not preferred: so it was set, and so it stays
		a.Flags |= flags & unix.IFA_F_DEPRECATED
	}
	return a, nil
}
