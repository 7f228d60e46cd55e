//go:build linux

package linux

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// What the headers have and x/sys lacks.
const (
	ndaProtocol   = 12 // NDA_PROTOCOL
	ndaFlagsExt   = 15 // NDA_FLAGS_EXT
	ntfExtManaged = 1  // NTF_EXT_MANAGED
)

// neighs reads the neighbours that q selects into out, and the proxies, which
// are a table of their own.
func (n *Node) neighs(ctx context.Context, q resource.Query, out resource.State) error {
	names := names{node: n}
	index, err := n.onlyLink(q)
	if errors.Is(err, unix.ENODEV) {
		return nil
	} else if err != nil {
		return err
	}
	for _, family := range families(q) {
		for _, flags := range []uint8{0, unix.NTF_PROXY} {
			req := make([]byte, unix.SizeofNdMsg)
			req[0], req[10] = family, flags
			if index != 0 && flags == 0 {
				req = putU32(req, unix.NDA_IFINDEX, index)
			}
			var found [][]byte
			err := n.dump(ctx, unix.RTM_GETNEIGH, req, unix.RTM_NEWNEIGH, func() { found = nil }, func(msg []byte) {
				if len(msg) >= unix.SizeofNdMsg && msg[0] == family {
					found = append(found, append([]byte(nil), msg...))
				}
			})
			if err != nil {
				return err
			}
			for _, msg := range found {
				e, err := decodeNeigh(msg, &names)
				if err != nil {
					return err
				}
				if q.Match(e) {
					out[e.Key()] = e
				}
			}
		}
	}
	return nil
}

// onlyLink is the index of the one link that all of q is about; 0 where there
// is no such link. The kernel sends the neighbours of that one only.
func (n *Node) onlyLink(q resource.Query) (uint32, error) {
	for _, s := range q {
		if s.Name == "" || s.Name != q[0].Name {
			return 0, nil
		}
	}
	if len(q) == 0 {
		return 0, nil
	}
	return n.linkIndex(q[0].Name)
}

// decodeNeigh turns the message of a neighbour or proxy into a Neigh.
func decodeNeigh(msg []byte, names *names) (resource.Neigh, error) {
	state, flags := native.Uint16(msg[8:]), msg[10]
	e := resource.Neigh{
		Permanent: state&unix.NUD_PERMANENT != 0,
		NoARP:     state&unix.NUD_NOARP != 0,
		Proxy:     flags&unix.NTF_PROXY != 0,
		Router:    flags&unix.NTF_ROUTER != 0,
		External:  flags&unix.NTF_EXT_LEARNED != 0,
	}
	if index := native.Uint32(msg[4:]); index != 0 {
		var err error
		if e.Dev, err = names.of(index); err != nil {
			return e, err
		}
	}
	var extra unknown
	for kind, a := range attrs(msg[unix.SizeofNdMsg:]) {
		switch kind {
		case unix.NDA_CACHEINFO, unix.NDA_PROBES: // counters
		case unix.NDA_DST:
			e.Addr = addr(a)
		case unix.NDA_LLADDR:
			e.MAC = net.HardwareAddr(value(a)).String()
		case ndaProtocol:
			e.Proto = resource.Proto(u8(a))
		case ndaFlagsExt:
			e.Managed = u32(a)&ntfExtManaged != 0
			if u32(a)&^ntfExtManaged != 0 {
				extra.add(kind, a)
			}
		default:
			extra.add(kind, a)
		}
	}
	if e.Managed {
		// what it resolved to, and whether it did, is the kernel's business
		e.MAC, e.Permanent, e.NoARP, e.Router = "", false, false, false
	}
	if e.Proxy {
		e.Permanent = false // the kernel says so of every proxy, or of none
	}
	e.Extra = extra.raw()
	return e, nil
}

// touchedNeighs selects the neighbour under k, and the proxy of the same address.
func touchedNeighs(k resource.Key) (resource.Query, error) {
	id, err := resource.ParseNeighKey(k)
	return resource.Query{{Kind: resource.KindNeigh, Name: id.Dev, Covers: id.Addr}}, err
}

// neighSteps turns the neighbours and proxies of now into those of want.
func (n *Node) neighSteps(now reading, want resource.State) ([]step, error) {
	var out []step
	for k := range want {
		id, err := resource.ParseNeighKey(k)
		if err != nil {
			return nil, err
		}
		s := step{keys: []resource.Key{k}, rank: rankNeigh, messages: neighMessages(id, now.state[k], want[k])}
		if want[k] == nil {
			s.rank = rankNeighGone
		}
		out = append(out, s)
	}
	return out, nil
}

// neighMessages turns the neighbour now, which may be one that was learned, into
// want. What was learned is not put back: it will be learned again.
func neighMessages(id resource.Neigh, now, want resource.Resource) []message {
	old, had := now.(resource.Neigh)
	e, wanted := want.(resource.Neigh)
	if !wanted || e.Volatile() {
		if !had {
			return nil
		}
		return []message{neighMessage(unix.RTM_DELNEIGH, 0, id)}
	}
	if had && reflect.DeepEqual(old, e) {
		return nil
	}
	var out []message
	// Replacing leaves who set it where nothing is said, and whether it is managed.
	if had && (old.Proto != e.Proto || old.Managed != e.Managed || old.Extra != nil) {
		out = append(out, neighMessage(unix.RTM_DELNEIGH, 0, id))
	}
	return append(out, neighMessage(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, e))
}

// neighMessage creates, replaces or deletes e.
func neighMessage(kind, flags int, e resource.Neigh) message {
	return message{
		kind: kind, flags: flags,
		payload: func(n *Node) ([]byte, error) { return n.encodeNeigh(e) },
		gone:    func(err error) bool { return kind == unix.RTM_DELNEIGH && errors.Is(err, unix.ENOENT) },
	}
}

// encodeNeigh makes the message that creates, replaces or deletes e.
func (n *Node) encodeNeigh(e resource.Neigh) ([]byte, error) {
	msg := make([]byte, unix.SizeofNdMsg, 64)
	msg[0] = unix.AF_INET
	if e.Addr.Is6() {
		msg[0] = unix.AF_INET6
	}
	if e.Dev != "" {
		index, err := n.linkIndex(e.Dev)
		if err != nil {
			return nil, refusal(err)
		}
		native.PutUint32(msg[4:], index)
	}
	var state uint16
	// a proxy that is not permanent would go with the carrier
	for bit, set := range map[uint16]bool{unix.NUD_PERMANENT: e.Permanent || e.Proxy, unix.NUD_NOARP: e.NoARP} {
		if set {
			state |= bit
		}
	}
	native.PutUint16(msg[8:], state)
	for bit, set := range map[uint8]bool{unix.NTF_PROXY: e.Proxy, unix.NTF_ROUTER: e.Router, unix.NTF_EXT_LEARNED: e.External} {
		if set {
			msg[10] |= bit
		}
	}
	msg = put(msg, unix.NDA_DST, e.Addr.AsSlice()...)
	if e.MAC != "" {
		mac, err := hex.DecodeString(strings.ReplaceAll(e.MAC, ":", ""))
		if err != nil {
			return nil, fmt.Errorf("%q is not a link address", e.MAC)
		}
		msg = put(msg, unix.NDA_LLADDR, mac...)
	}
	if e.Proto != 0 {
		msg = put(msg, ndaProtocol, uint8(e.Proto))
	}
	if e.Managed {
		msg = putU32(msg, ndaFlagsExt, ntfExtManaged)
	}
	return append(msg, e.Extra...), nil
}
