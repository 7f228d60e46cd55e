//go:build linux

package linux

import (
	"context"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// This file asks the kernel which way the packets of a session take: which
// route its look-up ends at, rules and all, and which link that leads to.

// flow is what the kernel chooses a route by, for packets of TCP that the node sends.
type flow struct {
	local, peer netip.AddrPort
	bound       uint32
}

func (s tcpSocket) flow() flow { return flow{s.local, s.peer, s.bound} }

// common is the flow without the client's port, by which nobody chooses a
// route, but perhaps among several hops of one.
func (s tcpSocket) common() flow {
	f := s.flow()
	if s.server {
		f.peer = netip.AddrPortFrom(f.peer.Addr(), 0)
	} else {
		f.local = netip.AddrPortFrom(f.local.Addr(), 0)
	}
	return f
}

// way is where packets go. Without a dev they go nowhere.
type way struct {
	dev   string
	route resource.Key
}

// ways returns the way of each session. Those that differ in the client's port
// only are looked up once, but for those that take a route of several hops.
func (n *Node) ways(ctx context.Context, sockets []tcpSocket) (map[flow]way, error) {
	flows := map[flow][]flow{} // by what they have in common
	for _, s := range sockets {
		flows[s.common()] = append(flows[s.common()], s.flow())
	}
	routes, err := n.lookUp(ctx, slices.Collect(maps.Keys(flows)), true)
	if err != nil {
		return nil, err
	}
	names := names{node: n}
	out := make(map[flow]way, len(sockets))
	var several []flow
	for common, msg := range routes {
		w, choice, err := wayBy(msg, &names)
		if err != nil {
			return nil, err
		}
		if choice {
			several = append(several, flows[common]...)
		}
		for _, f := range flows[common] {
			out[f] = w
		}
	}
	hops, err := n.lookUp(ctx, several, false)
	if err != nil {
		return nil, err
	}
	for f, msg := range hops {
		w := out[f]
		if w.dev, err = oif(msg, &names); err != nil {
			return nil, err
		}
		out[f] = w
	}
	return out, nil
}

// wayBy is the way by the route in msg. Where that leaves a choice of several
// hops, there is no dev yet.
func wayBy(msg []byte, names *names) (w way, choice bool, err error) {
	r, err := decodeRoute(msg, names)
	if err != nil {
		return w, false, err
	}
	if r.Type == resource.Local && r.Table == resource.TableMain { // as long as a node has no rules of its own, the two are one to the kernel
		r.Table = resource.TableLocal
	}
	w.route = r.Key()
	switch {
	case r.Type == resource.Local: // whatever link the address is on
		w.dev = "lo"
	case r.Type == resource.Unicast && len(r.Hops) == 1:
		w.dev = r.Hops[0].Dev
	case r.Type == resource.Unicast:
		choice = true
	}
	return w, choice, nil
}

// oif is the link that the route in msg leads over.
func oif(msg []byte, names *names) (string, error) {
	for kind, a := range attrs(msg[unix.SizeofRtMsg:]) {
		if kind == unix.RTA_OIF {
			return names.of(u32(a))
		}
	}
	return "", nil
}

// maxAsked is how many requests are sent at once. Their answers must fit into
// the socket's buffer, in which each takes some 2 KB.
const maxAsked = 32

// lookUp asks for the route of each flow: with whole for the entry of the
// table, otherwise for the one hop that is chosen. A flow without a route has no answer.
func (n *Node) lookUp(ctx context.Context, flows []flow, whole bool) (map[flow][]byte, error) {
	if len(flows) == 0 {
		return nil, nil
	}
	s, err := n.openSocket(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	out := make(map[flow][]byte, len(flows))
	for some := range slices.Chunk(flows, maxAsked) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := ask(s.GetFd(), some, whole, s.in, out); err != nil {
			return nil, unreadable(err)
		}
	}
	return out, nil
}

// ask sends a request for each flow, in one system call. The kernel has answered
// all of them when it returns from that, so that no answer is waited for.
func ask(fd int, flows []flow, whole bool, buf []byte, out map[flow][]byte) error {
	var requests []byte
	for i, f := range flows {
		body := f.request(whole)
		requests = native.AppendUint32(requests, uint32(unix.SizeofNlMsghdr+len(body)))
		requests = native.AppendUint16(requests, unix.RTM_GETROUTE)
		requests = native.AppendUint16(requests, unix.NLM_F_REQUEST)
		requests = native.AppendUint32(requests, uint32(i))
		requests = native.AppendUint32(requests, 0)
		requests = append(requests, body...)
	}
	if err := unix.Sendto(fd, requests, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for range flows {
		size, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if err != nil {
			return err
		}
		if size < unix.SizeofNlMsghdr || int(native.Uint32(buf)) > size {
			return unix.EBADMSG
		}
		i, kind := native.Uint32(buf[8:]), native.Uint16(buf[4:])
		if kind == unix.RTM_NEWROUTE && int(i) < len(flows) && size >= unix.SizeofNlMsghdr+unix.SizeofRtMsg { // else an error: there is no route
			out[flows[i]] = append([]byte(nil), buf[unix.SizeofNlMsghdr:native.Uint32(buf)]...)
		}
	}
	return nil
}

// request is the body of an RTM_GETROUTE.
func (f flow) request(whole bool) []byte {
	b := make([]byte, unix.SizeofRtMsg)
	local, peer := f.local.Addr(), f.peer.Addr()
	b[0] = unix.AF_INET
	if peer.Is6() {
		b[0] = unix.AF_INET6
	}
	b[1], b[2] = uint8(peer.BitLen()), uint8(local.BitLen())
	if whole {
		flags := uint32(unix.RTM_F_FIB_MATCH)
		if b[0] == unix.AF_INET { // IPv6 always says which table
			flags |= unix.RTM_F_LOOKUP_TABLE
		}
		native.PutUint32(b[8:], flags)
	}
	b = put(b, unix.RTA_DST, peer.AsSlice()...)
	b = put(b, unix.RTA_SRC, local.AsSlice()...)
	if f.bound != 0 {
		b = putU32(b, unix.RTA_OIF, f.bound)
	}
	b = put(b, unix.RTA_IP_PROTO, unix.IPPROTO_TCP)
	if port := f.local.Port(); port != 0 {
		b = put(b, unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, port)...)
	}
	if port := f.peer.Port(); port != 0 {
		b = put(b, unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, port)...)
	}
	return b
}
