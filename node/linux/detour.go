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

// This file puts back what the kernel would not make anew. It looks a gateway up
// when a route is made, and not again: a route stays when the one by which its gateway was found goes.
// To put such a route back, its gateway is made a neighbour for as long as the request takes.

// noWay is what the kernel says where the look-up of a gateway has ended: at nothing, or at a
// route that rejects packets.
var noWay = []unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL}

// sendByDetour has the kernel carry out m, which it refused, with ways to the
// gateways of m, where their absence can be why. The error is what it answers then.
func (n *Node) sendByDetour(ctx context.Context, m message, payload []byte, refused error) error {
	if m.detour == nil || !slices.ContainsFunc(noWay, func(e unix.Errno) bool { return errors.Is(refused, e) }) {
		return refused
	}
	made := false
	for _, way := range m.detour() {
		comes, err := n.encodeRoute(way, false)
		if err != nil {
			return err
		}
		goes, err := n.encodeRoute(way, true)
		if err != nil {
			return err
		}
		switch err := n.exchange(ctx, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_ACK, comes, 0, nil); {
		case errors.Is(err, unix.EEXIST): // it is there already
		case err != nil:
			return refused
		default:
			made = true
			defer n.exchange(ctx, unix.RTM_DELROUTE, unix.NLM_F_ACK, goes, 0, nil) //nolint:errcheck // what is read back tells
		}
	}
	if !made {
		return refused
	}
	return n.exchange(ctx, m.kind, m.flags|unix.NLM_F_ACK, payload, 0, nil)
}

// waysTo are routes that make the gateways of r neighbours to whoever looks them up in
// its table. They are tried first. Their scope stays with what is made: by it the kernel
// knows a gateway from an address of the node.
func waysTo(r resource.Route) []route {
	var out []route
	for _, h := range r.Hops {
		if !h.Via.IsValid() || h.Onlink || h.Dev == "" {
			continue
		}
		way := resource.Route{
			Dst: netip.PrefixFrom(h.Via, h.Via.BitLen()), Table: r.Table, Type: resource.Unicast, Proto: resource.ProtoStatic,
			Scope: max(r.Scope+1, resource.ScopeLink), Hops: []resource.Hop{{Dev: h.Dev}},
		}
		if h.Via.Is6() {
			way.Scope, way.Metric = resource.ScopeGlobal, 1
		}
		if way.Dst == r.Dst && way.Metric == r.Metric { // r leads to its own gateway
			way.Metric++
		}
		out = append(out, route{Route: way})
	}
	return out
}
