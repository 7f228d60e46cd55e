//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// What the headers have and x/sys lacks.
const (
	nhaFDB      = 11 // NHA_FDB
	nhaResGroup = 12 // NHA_RES_GROUP
	nhaOpFlags  = 14 // NHA_OP_FLAGS, of a request
	// resUnbalancedTime is NHA_RES_GROUP_UNBALANCED_TIME: how long ago, which never stands still.
	resUnbalancedTime = 4
)

// nexthops reads the nexthop objects that q selects into out.
func (n *Node) nexthops(ctx context.Context, q resource.Query, out resource.State) error {
	if len(q) == 0 {
		return nil
	}
	names := names{node: n}
	var found [][]byte
	err := n.dump(ctx, unix.RTM_GETNEXTHOP, make([]byte, unix.SizeofNhmsg), unix.RTM_NEWNEXTHOP, func() { found = nil }, func(msg []byte) {
		if len(msg) >= unix.SizeofNhmsg {
			found = append(found, append([]byte(nil), msg...))
		}
	})
	if err != nil {
		return err
	}
	for _, msg := range found {
		h, err := decodeNexthop(msg, &names)
		if err != nil {
			return err
		}
		if q.Match(h) {
			out[h.Key()] = h
		}
	}
	return nil
}

// decodeNexthop turns the message of a nexthop object into a Nexthop.
func decodeNexthop(msg []byte, names *names) (resource.Nexthop, error) {
	h := resource.Nexthop{Scope: resource.Scope(msg[1]), Proto: resource.Proto(msg[2])}
	switch msg[0] {
	case unix.AF_INET:
		h.Family = 4
	case unix.AF_INET6:
		h.Family = 6
	}
	h.Hop.Onlink = native.Uint32(msg[4:])&unix.RTNH_F_ONLINK != 0
	var extra unknown
	var err error
	for kind, a := range attrs(msg[unix.SizeofNhmsg:]) {
		switch kind {
		case unix.NHA_ID:
			h.ID = u32(a)
		case unix.NHA_OIF:
			h.Hop.Dev, err = names.of(u32(a))
		case unix.NHA_GATEWAY:
			h.Hop.Via = addr(a)
		case unix.NHA_BLACKHOLE:
			h.Blackhole = true
		case nhaFDB:
			h.FDB = true
		case unix.NHA_GROUP:
			h.Group = members(value(a))
		case unix.NHA_GROUP_TYPE:
			if native.Uint16(value(a)) != 0 { // 0, multipath, is what it is unless something is said
				extra.add(kind, a)
			}
		case nhaResGroup:
			extra.add(kind, put(nil, kind, without(value(a), 0, resUnbalancedTime)...))
		case nhaOpFlags:
		default:
			extra.add(kind, a)
		}
		if err != nil {
			return h, err
		}
	}
	h.Extra = extra.raw()
	return h, nil
}

// members reads an array of struct nexthop_grp: u32 id, u8 weight less one,
// the high byte of that, two reserved.
func members(b []byte) []resource.GroupMember {
	var out []resource.GroupMember
	for ; len(b) >= 8; b = b[8:] {
		weight := int(b[4]) | int(b[5])<<8
		out = append(out, resource.GroupMember{ID: native.Uint32(b), Weight: weight + 1})
	}
	return out
}

// resilient reports whether h is a resilient group, which keeps flows in
// buckets that cannot be put back.
func resilient(h resource.Nexthop) bool {
	for kind := range attrs(h.Extra) {
		if kind == unix.NHA_GROUP_TYPE || kind == nhaResGroup {
			return true
		}
	}
	return false
}

// touchedNexthops selects all nexthop objects: one is in groups of others.
func touchedNexthops(k resource.Key) (resource.Query, error) {
	_, err := resource.ParseNexthopKey(k)
	return resource.Query{{Kind: resource.KindNexthop}}, err
}

// nexthopSteps turns the nexthop objects of now into those of want: a group is
// made after those that are in it, and goes before them.
func (n *Node) nexthopSteps(now reading, want resource.State) ([]step, error) {
	var out []step
	for k := range want {
		id, err := resource.ParseNexthopKey(k)
		if err != nil {
			return nil, err
		}
		old, _ := now.state[k].(resource.Nexthop)
		h, wanted := want[k].(resource.Nexthop)
		if resilient(h) && !reflect.DeepEqual(h, old) {
			return nil, fmt.Errorf("nexthop %d: it is a resilient group, whose flows nothing can put back", id)
		}
		s := step{keys: []resource.Key{k}, messages: nexthopMessages(id, now.state[k], want[k])}
		switch {
		case wanted && len(h.Group) == 0:
			s.rank = rankNexthop
		case wanted:
			s.rank = rankGroup
		case len(old.Group) > 0:
			s.rank = rankGroupGone
		default:
			s.rank = rankNexthopGone
		}
		out = append(out, s)
	}
	return out, nil
}

// nexthopMessages turns the nexthop object now into want.
func nexthopMessages(id uint32, now, want resource.Resource) []message {
	h, wanted := want.(resource.Nexthop)
	switch {
	case reflect.DeepEqual(now, want):
		return nil
	case !wanted:
		return []message{{
			kind:    unix.RTM_DELNEXTHOP,
			payload: func(*Node) ([]byte, error) { return putU32(make([]byte, unix.SizeofNhmsg), unix.NHA_ID, id), nil },
			gone:    func(err error) bool { return errors.Is(err, unix.ENOENT) },
		}}
	}
	flags := unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	if now == nil {
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	return []message{{
		kind: unix.RTM_NEWNEXTHOP, flags: flags,
		payload: func(n *Node) ([]byte, error) { return n.encodeNexthop(h) },
		detour: func() []route { // its own scope is that of the way
			return waysTo(resource.Route{Table: resource.TableMain, Scope: h.Scope - 1, Hops: []resource.Hop{h.Hop}})
		},
	}}
}

// encodeNexthop makes the message that creates h.
func (n *Node) encodeNexthop(h resource.Nexthop) ([]byte, error) {
	msg := make([]byte, unix.SizeofNhmsg, 64)
	msg[2] = uint8(h.Proto) // its scope follows from the rest, and is refused
	switch h.Family {
	case 4:
		msg[0] = unix.AF_INET
	case 6:
		msg[0] = unix.AF_INET6
	}
	if h.Hop.Onlink {
		native.PutUint32(msg[4:], unix.RTNH_F_ONLINK)
	}
	msg = putU32(msg, unix.NHA_ID, h.ID)
	if h.Hop.Dev != "" && !h.Blackhole { // a blackhole is on lo by itself
		index, err := n.linkIndex(h.Hop.Dev)
		if err != nil {
			return nil, refusal(err)
		}
		msg = putU32(msg, unix.NHA_OIF, index)
	}
	if h.Hop.Via.IsValid() {
		msg = put(msg, unix.NHA_GATEWAY, h.Hop.Via.AsSlice()...)
	}
	if h.Blackhole {
		msg = put(msg, unix.NHA_BLACKHOLE)
	}
	if h.FDB {
		msg = put(msg, nhaFDB)
	}
	var group []byte
	for _, m := range h.Group {
		group = native.AppendUint32(group, m.ID)
		group = append(group, uint8(m.Weight-1), uint8((m.Weight-1)>>8), 0, 0)
	}
	if len(group) > 0 {
		msg = put(msg, unix.NHA_GROUP, group...)
	}
	for kind, a := range attrs(h.Extra) {
		if kind == unix.NHA_ENCAP { // the kernel sends it without the flag that it wants to be sent it with
			kind |= unix.NLA_F_NESTED
		}
		msg = put(msg, kind, value(a)...)
	}
	return msg, nil
}
