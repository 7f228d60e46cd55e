//go:build linux

package linux

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// This file answers which TCP ends the node still holds.

// Of the states of a TCP socket, those in which nothing is left of a session, or nothing was yet: one that listens,
// or that waits for old packets to die out.
const noSession = 1<<stListen | 1<<stClose | 1<<stTimeWait

const (
	stTimeWait = 6
	stClose    = 7
	anyState   = 1<<13 - 1
)

// readSockets answers the questions of q.
func (n *Node) readSockets(ctx context.Context, q resource.Query, out resource.State) error {
	for _, sel := range q {
		asked, err := resource.ParseSockets(sel.Ask)
		if err != nil {
			return err
		}
		s := resource.Sockets{Ask: sel.Ask, Forwards: n.forwards()}
		addrs := resource.State{}
		if err := n.addrs(ctx, resource.Query{{Kind: resource.KindAddr}}, addrs); err != nil {
			return err
		}
		for _, a := range resource.All[resource.Addr](addrs) {
			if ip := a.Prefix.Addr(); !ip.IsLoopback() && !slices.Contains(s.Addrs, ip) {
				s.Addrs = append(s.Addrs, ip)
			}
		}
		if s.Open, err = n.held(ctx, asked); err != nil {
			return err
		}
		out[s.Key()] = s
	}
	return nil
}

// held are those of ends that a socket of the node has.
func (n *Node) held(ctx context.Context, ends []netip.AddrPort) ([]netip.AddrPort, error) {
	asked := make(map[netip.AddrPort]bool, len(ends))
	for _, e := range ends {
		asked[e] = true
	}
	req := make([]byte, sizeofDiagReq)
	native.PutUint32(req[diagReqStates:], anyState&^noSession)
	var out []netip.AddrPort
	err := n.diag(ctx, req, func(msg []byte) {
		if len(msg) < sizeofDiagMsg {
			return
		}
		if end := decodeSocket(msg).local; asked[end] {
			asked[end] = false
			out = append(out, end)
		}
	})
	return out, err
}

// forwards reports whether the node sends packets of others on.
func (n *Node) forwards() bool {
	var text [16]byte
	if f := n.sysctls.file(n.ns, "/proc/sys/net/ipv4/ip_forward"); f != nil {
		if size, _ := unix.Pread(int(f.Fd()), text[:], 0); size > 0 && strings.TrimSpace(string(text[:size])) != "0" {
			return true
		}
	}
	return n.forAll("ipv6", "forwarding") > 0
}
