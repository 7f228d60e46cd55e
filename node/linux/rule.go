//go:build linux

package linux

import (
	"context"
	"errors"
	"net/netip"
	"slices"

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
		case unix.FRA_GOTO:
			r.Goto = u32(a)
		case unix.FRA_PRIORITY:
			r.Priority = u32(a)
		case unix.FRA_TABLE:
			table = u32(a)
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
		default:
			if !decodeMatch(&r, kind, a) {
				extra.add(kind, a)
			}
		}
	}
	if r.Action == resource.RuleLookup {
		r.Table = resource.Table(table)
	}
	r.Extra = extra.raw()
	return r
}

// decodeMatch reads an attribute of a rule that says which packets it is for,
// and reports whether it is one that has a field, or says nothing.
func decodeMatch(r *resource.Rule, kind uint16, a []byte) bool {
	switch kind {
	case unix.FRA_IIFNAME:
		r.IIF = text(a)
	case unix.FRA_OIFNAME:
		r.OIF = text(a)
	case unix.FRA_FWMARK:
		r.Mark = u32(a)
	case unix.FRA_FWMASK:
		r.Mask = u32(a)
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
	case fraSPortMask, fraDPortMask:
		return native.Uint16(value(a)) == 0xffff // which it is for one port
	default:
		return false
	}
	return true
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

// touchedRules selects the rules of the family of the one under k.
func touchedRules(k resource.Key) (resource.Query, error) {
	family, _, _, err := resource.ParseRuleKey(k)
	return resource.Query{{Kind: resource.KindRule, Family: family}}, err
}

// ruleSteps turns the rules of now into those of want, priority by priority.
func (n *Node) ruleSteps(now reading, want resource.State) ([]step, error) {
	var out []step
	steps := map[resource.Key]int{} // in out, by the key of the first rule of the priority
	for _, k := range want.Keys() {
		family, priority, _, err := resource.ParseRuleKey(k)
		if err != nil {
			return nil, err
		}
		first := resource.RuleKey(family, priority, 0)
		i, again := steps[first]
		if !again {
			i = len(out)
			steps[first] = i
			old := resource.RulesAt(now.state, family, priority)
			next := resource.PlaceRules(old, family, priority, want)
			s := step{rank: rankRuleGone, messages: convergeRules(old, next)}
			for nth := range max(len(old), len(next)) {
				s.keys = append(s.keys, resource.RuleKey(family, priority, nth))
			}
			out = append(out, s)
		}
		if want[k] != nil {
			out[i].rank = rankRule
		}
	}
	return out, nil
}

// convergeRules returns the messages that turn now, the rules of one priority,
// into want. The kernel puts a new rule behind the others, and deletes the first
// that it takes for the one that is named.
func convergeRules(now, want []resource.Rule) []message {
	var out []message
	if excess, ok := lackingRules(now, want); ok {
		for _, r := range excess {
			out = append(out, ruleMessage(unix.RTM_DELRULE, 0, r))
		}
		return out
	}
	kept := 0
	for kept < min(len(now), len(want)) && now[kept].Same(want[kept]) {
		kept++
	}
	for i := kept; i < len(now); i++ { // those that would be deleted in place of another go too
		hit := func(r resource.Rule) bool { return named(now[i], r) }
		if first := slices.IndexFunc(now[:kept], hit); first >= 0 {
			kept, i = first, first
		}
	}
	for _, r := range now[kept:] {
		out = append(out, ruleMessage(unix.RTM_DELRULE, 0, r))
	}
	for _, r := range want[kept:] {
		out = append(out, ruleMessage(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, r))
	}
	return out
}

// ruleMessage creates or deletes r.
func ruleMessage(kind, flags int, r resource.Rule) message {
	return message{
		kind: kind, flags: flags,
		payload: func(*Node) ([]byte, error) { return encodeRule(r), nil },
		gone:    func(err error) bool { return kind == unix.RTM_DELRULE && errors.Is(err, unix.ENOENT) },
	}
}

// lackingRules returns the rules of now that want lacks, if want is now without
// some and each of these can be named.
func lackingRules(now, want []resource.Rule) (excess []resource.Rule, ok bool) {
	var kept []resource.Rule
	for _, r := range now {
		switch {
		case len(want) > 0 && r.Same(want[0]):
			want, kept = want[1:], append(kept, r)
		case slices.ContainsFunc(kept, func(o resource.Rule) bool { return named(r, o) }):
			return nil, false
		default:
			excess = append(excess, r)
		}
	}
	return excess, len(want) == 0
}

// named reports whether the message that deletes r would, for all that is known,
// delete old where it comes first (rule_find): the kernel does not look at what r
// lacks, nor at Not and Goto.
func named(r, old resource.Rule) bool {
	lack := func(lacks bool, forget func()) {
		if lacks {
			forget()
		}
	}
	lack(!r.Src.IsValid(), func() { old.Src = r.Src })
	lack(!r.Dst.IsValid(), func() { old.Dst = r.Dst })
	lack(r.IIF == "", func() { old.IIF = "" })
	lack(r.OIF == "", func() { old.OIF = "" })
	lack(r.Mark == 0, func() { old.Mark = 0 })
	lack(r.Mask == 0, func() { old.Mask = 0 })
	lack(r.TOS == 0, func() { old.TOS = 0 })
	lack(!r.L3MDev, func() { old.L3MDev = false })
	lack(r.UIDs == nil, func() { old.UIDs = nil })
	lack(r.IPProto == 0, func() { old.IPProto = 0 })
	lack(r.SPorts == nil, func() { old.SPorts = nil })
	lack(r.DPorts == nil, func() { old.DPorts = nil })
	lack(r.Table == 0, func() { old.Table = 0 })
	lack(r.Suppress == nil, func() { old.Suppress = nil })
	lack(r.Proto == 0, func() { old.Proto = 0 })
	old.Not, old.Goto, old.Extra = r.Not, r.Goto, r.Extra
	return old.Same(r)
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
