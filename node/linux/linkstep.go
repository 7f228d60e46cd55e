//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// This file changes links: up, down, MTU. What a link that goes down loses, and
// a restart puts back, stands in restart.go.

// touchedLink selects a link, and what comes and goes with it.
func touchedLink(k resource.Key) (resource.Query, error) {
	name, ok := strings.CutPrefix(string(k), "link ")
	if !ok || name == "" {
		return nil, fmt.Errorf("%q is not the key of a link", k)
	}
	return onLinkOf(name), nil
}

// onLinkOf selects a link and all that is on it.
func onLinkOf(name string) resource.Query {
	return resource.Query{
		{Kind: resource.KindLink, Name: name}, {Kind: resource.KindAddr, Name: name}, {Kind: resource.KindRoute, Name: name},
		{Kind: resource.KindNeigh, Name: name}, {Kind: resource.KindNexthop},
	}
}

// linkSteps turns links into those of want.
func (n *Node) linkSteps(now reading, want resource.State) ([]step, error) {
	var out []step
	for k, r := range want {
		have, exists := resource.Get[resource.Link](now.state, k)
		link, ok := r.(resource.Link)
		if !ok || !exists {
			return nil, refusal(unix.ENODEV)
		}
		if link.MTU != have.MTU {
			out = append(out, step{keys: []resource.Key{k}, rank: rankLink, messages: []message{linkMessage(link.Name, func(msg []byte) []byte {
				return putU32(msg, unix.IFLA_MTU, uint32(link.MTU))
			})}})
		}
		if link.Up == have.Up {
			continue
		}
		s := step{keys: []resource.Key{k}, rank: rankLinkDown, spreads: true, messages: []message{upMessage(link.Name, link.Up)}}
		if link.Up {
			s.rank = rankLinkUp
			s.then = func(ctx context.Context) error { return n.awaitReady(ctx, link.Name) }
		}
		out = append(out, s)
	}
	return out, nil
}

// linkMessage changes the link called name by what f adds.
func linkMessage(name string, f func(msg []byte) []byte) message {
	return message{kind: unix.RTM_NEWLINK, payload: func(n *Node) ([]byte, error) {
		index, err := n.linkIndex(name)
		if err != nil {
			return nil, refusal(err)
		}
		msg := make([]byte, unix.SizeofIfInfomsg)
		native.PutUint32(msg[4:], index)
		return f(msg), nil
	}}
}

// upMessage takes the link called name up or down.
func upMessage(name string, up bool) message {
	return linkMessage(name, func(msg []byte) []byte {
		if up {
			native.PutUint32(msg[8:], unix.IFF_UP)
		}
		native.PutUint32(msg[12:], unix.IFF_UP)
		return msg
	})
}

// The wait for a link that has been taken up to be ready: until then the kernel has not
// begun to speak IPv6 on it. Without a carrier it never is.
const (
	readyWithin = 2 * time.Second
	readyEvery  = 2 * time.Millisecond
)

// awaitReady waits until the kernel has done what it does by itself for a link that came up.
func (n *Node) awaitReady(ctx context.Context, name string) error {
	for end := time.Now().Add(readyWithin); time.Now().Before(end); {
		state := resource.State{}
		if err := n.links(ctx, resource.Query{{Kind: resource.KindLink, Name: name}}, state); err != nil {
			return err
		}
		l, ok := resource.Get[resource.Link](state, resource.LinkKey(name))
		if !ok {
			return refusal(unix.ENODEV)
		}
		if l.Carrier {
			ready, err := n.speaksIPv6(ctx, l)
			if err != nil || ready || l.Conf.DisableIPv6 {
				return err
			}
		}
		select {
		case <-time.After(readyEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil // there may be no carrier: what is read back tells
}

// noAddrGen is IN6_ADDR_GEN_MODE_NONE: the kernel makes no link-local address.
const noAddrGen = 1

// speaksIPv6 reports whether l has what the kernel gives it: its route for
// multicast, and a link-local address. What need not be detected first has its route, too: until then it is no source.
func (n *Node) speaksIPv6(ctx context.Context, l resource.Link) (bool, error) {
	name, local := l.Name, l.Conf.AddrGenMode == noAddrGen
	addrs := resource.State{}
	if err := n.addrs(ctx, resource.Query{{Kind: resource.KindAddr, Name: name, Family: 6}}, addrs); err != nil {
		return false, err
	}
	pending := map[netip.Addr]bool{}
	for _, a := range resource.All[resource.Addr](addrs) {
		local = local || a.Prefix.Addr().IsLinkLocalUnicast()
		if l.Conf.NoDAD || l.NoARP || a.Flags&unix.IFA_F_NODAD != 0 {
			pending[a.Prefix.Addr()] = true
		}
	}
	if !local {
		return false, nil
	}
	routes, err := n.routes(ctx, resource.Query{{Kind: resource.KindRoute, Name: name, Family: 6, Table: resource.TableLocal}}, 1<<20)
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return false, err
	}
	multicast := false
	for _, r := range routes {
		multicast = multicast || r.Type == resource.Multicast
		if r.Type == resource.Local {
			delete(pending, r.Dst.Addr())
		}
	}
	return multicast && len(pending) == 0, nil
}
