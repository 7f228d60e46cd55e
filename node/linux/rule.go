//go:build linux

package linux

import (
	"context"
	"net/netip"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// sizeofRuleHdr is the size of struct fib_rule_hdr: family, dst_len, src_len,
// tos, table, two reserved, action, flags.
const sizeofRuleHdr = 12

// What the headers have and x/sys lacks: which bits of a port count.
const (
	fraSPortMask = 28 // FRA_SPORT_MASK
	fraDPortMask = 29 // FRA_DPORT_MASK
)

// unset is what the kernel says in place of an attribute that is not there.
const unset = ^uint32(0)

// rules reads the policy rules that q selects into out.
func (n *Node) rules(ctx context.Context, q resource.Query, out resource.State) error {
	for _, family := range families(q) {
		var found [][]byte
		req := make([]byte, sizeofRuleHdr)
		req[0] = family
		err := n.dump(ctx, unix.RTM_GETRULE, req, unix.RTM_NEWRULE, func() { found = nil }, func(msg []byte) {
			if len(msg) >= sizeofRuleHdr && msg[0] == family { // a kernel without IPv6 answers with IPv4
				found = append(found, append([]byte(nil), msg...))
			}
		})
		if err != nil {
			return err
		}
		var last resource.Rule
		for i, msg := range found {
			r := decodeRule(msg)
			if i > 0 && r.Priority == last.Priority {
				r.Nth = last.Nth + 1
			}
			if last = r; q.Match(r) {
				out[r.Key()] = r
			}
		}
	}
	return nil
}

// families returns the address families that something of q can be of.
func families(q resource.Query) []uint8 {
	var four, six bool
	for _, s := range q {
		four, six = four || s.Family != 6, six || s.Family != 4
	}
	var out []uint8
	if four {
		out = append(out, unix.AF_INET)
	}
	if six {
		out = append(out, unix.AF_INET6)
	}
	return out
}

// decodeRule turns the message of a rule into a Rule. Nth is left to the caller.
// Of the flags, those are left out that say whether what it names is there now.
func decodeRule(msg []byte) resource.Rule {
	r := resource.Rule{
		Family: 4, TOS: msg[3], Action: resource.RuleAction(msg[7]),
		Not: native.Uint32(msg[8:])&unix.FIB_RULE_INVERT != 0,
	}
	if msg[0] == unix.AF_INET6 {
		r.Family = 6
	}
	table := uint32(msg[4])
	var extra unknown
	for kind, a := range attrs(msg[sizeofRuleHdr:]) {
		switch kind {
		case unix.FRA_PAD:
		case unix.FRA_DST:
			r.Dst = netip.PrefixFrom(addr(a), int(msg[1]))
		case unix.FRA_SRC:
			r.Src = netip.PrefixFrom(addr(a), int(msg[2]))
		case unix.FRA_IIFNAME:
			r.IIF = text(a)
		case unix.FRA_OIFNAME:
			r.OIF = text(a)
		case unix.FRA_GOTO:
			r.Goto = u32(a)
		case unix.FRA_PRIORITY:
			r.Priority = u32(a)
		case unix.FRA_FWMARK:
			r.Mark = u32(a)
		case unix.FRA_FWMASK:
			r.Mask = u32(a)
		case unix.FRA_TABLE:
			table = u32(a)
		case unix.FRA_L3MDEV:
			r.L3MDev = u8(a) != 0
		case unix.FRA_UID_RANGE:
			r.UIDs = &resource.Range{First: u32(a), Last: native.Uint32(value(a)[4:])}
		case unix.FRA_IP_PROTO:
			r.IPProto = u8(a)
		case unix.FRA_SPORT_RANGE:
			r.SPorts = ports(a)
		case unix.FRA_DPORT_RANGE:
			r.DPorts = ports(a)
		case unix.FRA_PROTOCOL:
			r.Proto = resource.Proto(u8(a))
		case unix.FRA_SUPPRESS_PREFIXLEN:
			if length := u32(a); length != unset {
				r.Suppress = &length
			}
		case unix.FRA_SUPPRESS_IFGROUP:
			if u32(a) != unset {
				extra.add(kind, a)
			}
		case fraSPortMask, fraDPortMask:
			if native.Uint16(value(a)) != 0xffff { // which it is for one port
				extra.add(kind, a)
			}
		default:
			extra.add(kind, a)
		}
	}
	if r.Action == resource.RuleLookup {
		r.Table = resource.Table(table)
	}
	r.Extra = extra.raw()
	return r
}

// ports reads a struct fib_rule_port_range.
func ports(attr []byte) *resource.Range {
	v := value(attr)
	return &resource.Range{First: uint32(native.Uint16(v)), Last: uint32(native.Uint16(v[2:]))}
}

func putPorts(b []byte, kind uint16, r *resource.Range) []byte {
	if r == nil {
		return b
	}
	return put(b, kind, native.AppendUint16(native.AppendUint16(nil, uint16(r.First)), uint16(r.Last))...)
}

// encodeRule makes the message that creates or deletes r.
func encodeRule(r resource.Rule) []byte {
	msg := make([]byte, sizeofRuleHdr, 128)
	msg[0], msg[3], msg[7] = unix.AF_INET, r.TOS, uint8(r.Action)
	if r.Family == 6 {
		msg[0] = unix.AF_INET6
	}
	if r.Not {
		native.PutUint32(msg[8:], unix.FIB_RULE_INVERT)
	}
	if r.Dst.IsValid() {
		msg[1] = uint8(r.Dst.Bits())
		msg = put(msg, unix.FRA_DST, r.Dst.Addr().AsSlice()...)
	}
	if r.Src.IsValid() {
		msg[2] = uint8(r.Src.Bits())
		msg = put(msg, unix.FRA_SRC, r.Src.Addr().AsSlice()...)
	}
	for kind, name := range map[uint16]string{unix.FRA_IIFNAME: r.IIF, unix.FRA_OIFNAME: r.OIF} {
		if name != "" {
			msg = put(msg, kind, append([]byte(name), 0)...)
		}
	}
	if r.Action == resource.RuleGoto || r.Goto != 0 {
		msg = putU32(msg, unix.FRA_GOTO, r.Goto)
	}
	msg = putU32(msg, unix.FRA_PRIORITY, r.Priority)
	if r.Mark != 0 || r.Mask != 0 {
		msg = putU32(msg, unix.FRA_FWMARK, r.Mark)
		msg = putU32(msg, unix.FRA_FWMASK, r.Mask)
	}
	if r.Table != 0 {
		msg = putU32(msg, unix.FRA_TABLE, uint32(r.Table))
	}
	if r.L3MDev {
		msg = put(msg, unix.FRA_L3MDEV, 1)
	}
	if r.UIDs != nil {
		msg = put(msg, unix.FRA_UID_RANGE, native.AppendUint32(native.AppendUint32(nil, r.UIDs.First), r.UIDs.Last)...)
	}
	if r.IPProto != 0 {
		msg = put(msg, unix.FRA_IP_PROTO, r.IPProto)
	}
	msg = putPorts(msg, unix.FRA_SPORT_RANGE, r.SPorts)
	msg = putPorts(msg, unix.FRA_DPORT_RANGE, r.DPorts)
	if r.Suppress != nil {
		msg = putU32(msg, unix.FRA_SUPPRESS_PREFIXLEN, *r.Suppress)
	}
	if r.Proto != 0 {
		msg = put(msg, unix.FRA_PROTOCOL, uint8(r.Proto))
	}
	return append(msg, r.Extra...)
}
