//go:build linux

package linux

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// maxSessions is how many groups of sessions are told apart. Beyond it only the
// largest are, so that neither a server with 10,000 clients nor its controller
// is burdened with a list that nobody reads.
const maxSessions = 64

// readSessions reads the sessions that q selects into out.
func (n *Node) readSessions(ctx context.Context, q resource.Query, out resource.State) error {
	if len(q) == 0 {
		return nil
	}
	all, err := n.sessions(ctx)
	for _, s := range all {
		if q.Match(s) {
			out[s.Key()] = s
		}
	}
	return err
}

// sessions reads the established TCP sessions: the sockets, then the ways that
// they take, each once, and puts together what agrees.
func (n *Node) sessions(ctx context.Context) ([]resource.Sessions, error) {
	sockets, err := n.tcpSockets(ctx)
	if errors.Is(err, unix.ENOENT) { // a kernel without inet_diag: there may be any
		return []resource.Sessions{resource.HiddenOwn}, nil
	} else if err != nil {
		return nil, err
	}
	own := ownAmong(sockets)
	ways, err := n.ways(ctx, sockets)
	if err != nil {
		return nil, err
	}
	groups := map[resource.Sessions]int{}
	out := len(own) > 0
	for _, s := range sockets {
		way := ways[s.flow()]
		if own[s.inode] && out {
			if out, err = n.getsOut(ctx, way.dev); err != nil {
				return nil, err
			}
		}
		if way.dev == "" { // no packet of it leaves the node any more: nothing can cut it
			continue
		}
		g := resource.Sessions{Local: s.local.Addr(), Peer: s.peer, Dev: way.dev, Route: way.route, Own: own[s.inode]}
		if s.server {
			g.Port, g.Peer = s.local.Port(), netip.AddrPortFrom(s.peer.Addr(), 0)
		}
		groups[g]++
	}
	if !out {
		groups[resource.HiddenOwn] = 0
	}
	return largest(groups, maxSessions), nil
}

// getsOut reports whether what leaves by dev is on the wire then. It is not on
// lo, where a proxy of the node may take it up, and not on a link over others.
func (n *Node) getsOut(ctx context.Context, dev string) (bool, error) {
	found := resource.State{}
	err := n.links(ctx, resource.Query{{Kind: resource.KindLink, Name: dev}}, found)
	l, ok := resource.Get[resource.Link](found, resource.LinkKey(dev))
	return ok && dev != "" && (l.Type == "ether" || l.Type == "veth"), err
}

// ownAmong finds the sockets that runbook itself works through, by their inodes.
func ownAmong(sockets []tcpSocket) map[uint32]bool {
	known := make(map[uint32]bool, len(sockets))
	for _, s := range sockets {
		known[s.inode] = s.inode != 0
	}
	out := map[uint32]bool{}
	if len(sockets) == 0 {
		return out
	}
	for _, inode := range ownSockets(func(i uint32) bool { return known[i] }) {
		out[inode] = true
	}
	return out
}

// largest returns the groups, the largest first. Beyond max they are summed:
// without the peers, and where these are still too many, by their links alone.
func largest(groups map[resource.Sessions]int, max int) []resource.Sessions {
	out := inOrder(groups)
	for _, blur := range []func(*resource.Sessions){
		func(s *resource.Sessions) { s.Peer, s.Port = netip.AddrPort{}, 0 },
		func(s *resource.Sessions) { s.Local, s.Route = netip.Addr{}, "" },
	} {
		if len(out) <= max {
			break
		}
		rest := map[resource.Sessions]int{}
		for _, s := range out[max/2:] {
			count := s.Count
			s.Count = 0
			if blur(&s); s.Own { // so many own ones are hardly all it
				s = resource.HiddenOwn
			}
			rest[s] += count
		}
		out = append(out[:max/2:max/2], inOrder(rest)...)
	}
	return out
}

// inOrder returns groups with their counts: runbook's own first, then the largest.
func inOrder(groups map[resource.Sessions]int) []resource.Sessions {
	var out []resource.Sessions
	for s, count := range groups {
		s.Count = count
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b resource.Sessions) int {
		if a.Own != b.Own {
			return map[bool]int{true: -1, false: 1}[a.Own]
		}
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Peer.Compare(b.Peer), cmp.Compare(a.Port, b.Port),
			a.Local.Compare(b.Local), cmp.Compare(a.Dev, b.Dev), cmp.Compare(a.Route, b.Route))
	})
	return out
}

// tcpSocket is an established TCP session of this node.
type tcpSocket struct {
	local, peer netip.AddrPort
	bound       uint32 // index of the link that it is bound to, or 0
	inode       uint32 // 0: the server has not taken it yet
	server      bool   // something listens on its local port
}

// Of linux/inet_diag.h. This older request of the two is for both families at
// once: the kernel looks through its table, which is large on large machines, once.
const (
	tcpDiagGetSock = 18
	sizeofDiagReq  = 60
	diagReqStates  = 52 // where in struct inet_diag_req the states are
	sizeofDiagMsg  = 72
	stEstablished  = 1
	stListen       = 10
)

// tcpSockets returns the established sessions of both families.
func (n *Node) tcpSockets(ctx context.Context) ([]tcpSocket, error) {
	req := make([]byte, sizeofDiagReq)
	native.PutUint32(req[diagReqStates:], 1<<stEstablished|1<<stListen)
	var out []tcpSocket
	listening := map[uint16]bool{}
	err := n.diag(ctx, req, func(msg []byte) {
		if len(msg) < sizeofDiagMsg {
			return
		}
		s := decodeSocket(msg)
		if msg[1] == stListen {
			listening[s.local.Port()] = true
		} else {
			out = append(out, s)
		}
	})
	for i := range out {
		out[i].server = listening[out[i].local.Port()]
	}
	return out, err
}

// decodeSocket reads a struct inet_diag_msg.
func decodeSocket(msg []byte) tcpSocket {
	addr := func(b []byte) netip.Addr {
		if msg[0] == unix.AF_INET {
			b = b[:4]
		}
		a, _ := netip.AddrFromSlice(b[:min(len(b), 16)])
		return a.Unmap() // an IPv6 socket that speaks IPv4
	}
	return tcpSocket{
		local: netip.AddrPortFrom(addr(msg[8:]), binary.BigEndian.Uint16(msg[4:])),
		peer:  netip.AddrPortFrom(addr(msg[24:]), binary.BigEndian.Uint16(msg[6:])),
		bound: native.Uint32(msg[40:]),
		inode: native.Uint32(msg[68:]),
	}
}

// diag asks for a dump of sockets. One that changes meanwhile is taken as it
// comes, for busy nodes always do.
func (n *Node) diag(ctx context.Context, payload []byte, each func([]byte)) error {
	s, err := n.openSocket(unix.NETLINK_INET_DIAG)
	if err != nil {
		return err
	}
	defer s.Close()
	err = s.ask(ctx, tcpDiagGetSock, unix.NLM_F_DUMP, payload, tcpDiagGetSock, each)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil, errors.Is(err, errInterrupted):
		return nil
	case errors.Is(err, unix.ENOENT):
		return err
	default:
		return unreadable(err)
	}
}

// openSocket opens a netlink socket in the namespace of the node.
func (n *Node) openSocket(protocol int) (*socket, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, os.ErrClosed
	}
	return openNetlink(n.ns, protocol)
}
