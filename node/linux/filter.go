//go:build linux

package linux

import (
	"bytes"
	"context"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// scanned is what choosing a route needs to know of it: slices into the
// message, without a copy.
type scanned struct {
	identity
	oif     uint32
	hops    []byte // the value of RTA_MULTIPATH
	prefsrc []byte
}

// identity is what the kernel tells routes apart by. Several IPv4 routes may
// share one; a dump gives these one after the other, in the order in which
// they are tried.
type identity struct {
	family, dstLen, srcLen, tos uint8
	table, metric               uint32
	dst, src                    [16]byte
}

// scan reads the message of a route, or says that it is none to be looked at.
func scan(msg []byte) (s scanned, ok bool) {
	if len(msg) < unix.SizeofRtMsg || native.Uint32(msg[8:])&unix.RTM_F_CLONED != 0 {
		return s, false
	}
	s.family, s.dstLen, s.srcLen, s.tos, s.table = msg[0], msg[1], msg[2], msg[3], uint32(msg[4])
	for kind, a := range attrs(msg[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			copy(s.dst[:], value(a))
		case unix.RTA_SRC:
			copy(s.src[:], value(a))
		case unix.RTA_TABLE:
			s.table = u32(a)
		case unix.RTA_PRIORITY:
			s.metric = u32(a)
		case unix.RTA_OIF:
			s.oif = u32(a)
		case unix.RTA_MULTIPATH:
			s.hops = value(a)
		case unix.RTA_PREFSRC:
			s.prefsrc = value(a)
		}
	}
	return s, true
}

// filter is a selector of routes in the kernel's own terms.
type filter struct {
	family   uint8
	table    uint32 // 0: any
	dst      netip.Prefix
	covers   netip.Addr
	prefsrc  netip.Addr
	named    bool // only routes over the link index
	index    uint32
	selected resource.Selector
}

// filters translates the selectors of routes in q, for one family. A selector
// that nothing of that family can match has no filter.
func (n *Node) filters(q resource.Query, family uint8) ([]filter, error) {
	bits := 32
	if family == unix.AF_INET6 {
		bits = 128
	}
	var out []filter
	for _, s := range q {
		other := s.Family != 0 && (s.Family == 4) != (family == unix.AF_INET)
		if s.Kind != resource.KindRoute || other ||
			s.Dst.IsValid() && s.Dst.Addr().BitLen() != bits ||
			s.Covers.IsValid() && s.Covers.BitLen() != bits ||
			s.PrefSrc.IsValid() && s.PrefSrc.BitLen() != bits {
			continue
		}
		f := filter{family: family, table: uint32(s.Table), dst: s.Dst, covers: s.Covers, prefsrc: s.PrefSrc, selected: s}
		if s.Name != "" {
			index, err := n.linkIndex(s.Name)
			if errors.Is(err, unix.ENODEV) {
				continue
			} else if err != nil {
				return nil, err
			}
			f.named, f.index = true, index
		}
		out = append(out, f)
	}
	return out, nil
}

// match reports whether the route may be one that f selects.
func (f *filter) match(s *scanned) bool {
	if f.family != s.family || f.table != 0 && f.table != s.table {
		return false
	}
	if f.dst.IsValid() && (uint8(f.dst.Bits()) != s.dstLen || !bytes.Equal(f.dst.Addr().AsSlice(), s.addr())) {
		return false
	}
	if f.covers.IsValid() {
		a, _ := netip.AddrFromSlice(s.addr())
		if !netip.PrefixFrom(a, int(s.dstLen)).Contains(f.covers) {
			return false
		}
	}
	if f.prefsrc.IsValid() && !bytes.Equal(f.prefsrc.AsSlice(), s.prefsrc) {
		return false
	}
	return !f.named || s.oif == f.index || uses(s.hops, f.index)
}

func (s *scanned) addr() []byte {
	if s.family == unix.AF_INET {
		return s.dst[:4]
	}
	return s.dst[:]
}

// uses reports whether one of the hops of a multipath route is the link index.
func uses(hops []byte, index uint32) bool {
	for len(hops) >= unix.SizeofRtNexthop {
		size := int(native.Uint16(hops))
		if native.Uint32(hops[4:]) == index {
			return true
		}
		if size < unix.SizeofRtNexthop || size > len(hops) {
			return false
		}
		hops = hops[min(align(size), len(hops)):]
	}
	return false
}

// routes returns the routes that q selects, in the order in which the kernel
// tries those of one identity. Only these are decoded.
func (n *Node) routes(ctx context.Context, q resource.Query, max int) ([]route, error) {
	names := names{node: n}
	var out []route
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		fs, err := n.filters(q, family)
		if err != nil {
			return nil, err
		}
		if len(fs) == 0 {
			continue
		}
		found, err := n.dumpRoutes(ctx, family, fs, max-len(out))
		if err != nil {
			return nil, err
		}
		for _, c := range found {
			r, err := decodeRoute(c.msg, &names)
			if err != nil {
				return nil, err
			}
			r.Nth = c.nth
			if q.Match(r.Route) {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// candidate is the message of a route that a filter let pass.
type candidate struct {
	msg []byte
	nth int
}

// byLink is [resource.Route.ByLink].
func byLink(s *scanned, msg []byte) bool {
	if s.family != unix.AF_INET6 || s.oif == 0 || resource.Proto(msg[5]) != resource.ProtoKernel {
		return false
	}
	dst, _ := netip.AddrFromSlice(s.addr())
	r := resource.Route{Dst: netip.PrefixFrom(dst, int(s.dstLen)), Type: resource.RouteType(msg[7]), Proto: resource.ProtoKernel, Hops: make([]resource.Hop, 1)}
	return r.ByLink()
}

// errTooMany says that there are more routes than were asked for at most.
var errTooMany = errors.New("too many routes")

// dumpRoutes returns the routes that a filter lets pass. Once there are more
// than max of them it stops listening and returns errTooMany.
func (n *Node) dumpRoutes(ctx context.Context, family uint8, fs []filter, max int) ([]candidate, error) {
	table := fs[0].table
	for _, f := range fs {
		if f.table != table {
			table = 0
		}
	}
	req := make([]byte, unix.SizeofRtMsg)
	req[0] = family
	if table != 0 {
		req = putU32(req, unix.RTA_TABLE, table)
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var out []candidate
	var last identity
	var nth int // of this identity
	start := func() { out, last, nth = nil, identity{}, 0 }
	err := n.dump(ctx, unix.RTM_GETROUTE, req, unix.RTM_NEWROUTE, start, func(msg []byte) {
		s, ok := scan(msg)
		if !ok || s.family != family { // a kernel without IPv6 answers with IPv4
			return
		}
		if s.identity != last {
			last, nth = s.identity, 0
		}
		c := candidate{nth: nth}
		if byLink(&s, msg) { // it is told apart by its link, and does not count
			c.nth = 0
		} else {
			nth++
		}
		for i := range fs {
			if fs[i].match(&s) {
				if len(out) > max {
					stop()
					return
				}
				c.msg = bytes.Clone(msg)
				out = append(out, c)
				return
			}
		}
	})
	if len(out) > max {
		return nil, errTooMany
	}
	return out, err
}
