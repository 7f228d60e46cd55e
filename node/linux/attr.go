//go:build linux

package linux

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

var native = binary.NativeEndian

// typeMask leaves out the bits of an attribute's type that say how it is written.
const typeMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)

// rtaNHID is RTA_NH_ID, the nexthop object of a route.
const rtaNHID = 30

func align(n int) int { return (n + 3) &^ 3 }

// attrs walks the attributes of a message or of another attribute: type
// (without its flags) and whole attribute, header included.
func attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(native.Uint16(b))
			if size < unix.SizeofRtAttr || size > len(b) {
				return
			}
			if !yield(native.Uint16(b[2:])&typeMask, b[:size]) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

// value is what an attribute holds.
func value(attr []byte) []byte { return attr[unix.SizeofRtAttr:] }

func u32(attr []byte) uint32 {
	if len(attr) < unix.SizeofRtAttr+4 {
		return 0
	}
	return native.Uint32(value(attr))
}

func u8(attr []byte) uint8 {
	if len(attr) < unix.SizeofRtAttr+1 {
		return 0
	}
	return value(attr)[0]
}

func text(attr []byte) string {
	v := value(attr)
	if i := slices.Index(v, 0); i >= 0 {
		v = v[:i]
	}
	return string(v)
}

// addr is the address in attr, invalid where it holds none.
func addr(attr []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(value(attr))
	return a
}

// put appends an attribute to b.
func put(b []byte, kind uint16, data ...byte) []byte {
	b = native.AppendUint16(b, uint16(unix.SizeofRtAttr+len(data)))
	b = native.AppendUint16(b, kind)
	b = append(b, data...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

func putU32(b []byte, kind uint16, v uint32) []byte {
	return put(b, kind, native.AppendUint32(nil, v)...)
}

// unknown collects the attributes that no field can hold.
type unknown []rawAttr

type rawAttr struct {
	kind uint16
	attr []byte
}

func (u *unknown) add(kind uint16, attr []byte) { *u = append(*u, rawAttr{kind, attr}) }

// raw is a copy of all, in the order of their types, so that it does not
// depend on the order in which a version of the kernel writes them.
func (u unknown) raw() resource.Raw {
	slices.SortStableFunc(u, func(a, b rawAttr) int { return int(a.kind) - int(b.kind) })
	var out resource.Raw
	for _, a := range u {
		out = append(out, a.attr...)
		out = append(out, make([]byte, align(len(a.attr))-len(a.attr))...)
	}
	return out
}
