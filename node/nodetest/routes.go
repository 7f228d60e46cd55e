package nodetest

import (
	"net/netip"

	"runbook/engine/resource"
)

// This file is shorthand for the routes of the tables.

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func prefixOf(a string, bits int) netip.Prefix { return netip.PrefixFrom(addr(a), bits) }

// typed is a route without hops.
func typed(t resource.RouteType, dst string) resource.Route {
	r := resource.Route{Dst: prefix(dst), Table: resource.TableMain, Type: t, Proto: resource.ProtoStatic}
	r.Metric = resource.DefaultMetric(r.Dst)
	return r
}

// dev is a route straight onto a link.
func dev(dst, name string) resource.Route {
	r := typed(resource.Unicast, dst)
	r.Hops = []resource.Hop{{Dev: name}}
	r.Scope = resource.DefaultScope(r)
	return r
}

// via is a route through a gateway; the link may be "".
func via(dst, gateway, name string) resource.Route {
	r := typed(resource.Unicast, dst)
	r.Hops = []resource.Hop{{Via: addr(gateway), Dev: name}}
	return r
}

// multi is a multipath route.
func multi(dst string, hops ...resource.Hop) resource.Route {
	r := typed(resource.Unicast, dst)
	r.Hops = hops
	return r
}

// hop is a hop of a multipath route; gateway and link may be "".
func hop(gateway, name string, weight int) resource.Hop {
	h := resource.Hop{Dev: name, Weight: weight}
	if gateway != "" {
		h.Via = addr(gateway)
	}
	return h
}

// with returns r changed by f.
func with(r resource.Route, f func(*resource.Route)) resource.Route {
	r.Hops = append([]resource.Hop(nil), r.Hops...)
	f(&r)
	return r
}

func inTable(r resource.Route, t resource.Table) resource.Route {
	return with(r, func(r *resource.Route) { r.Table = t })
}

func metric(r resource.Route, m uint32) resource.Route {
	return with(r, func(r *resource.Route) { r.Metric = m })
}

func scope(r resource.Route, s resource.Scope) resource.Route {
	return with(r, func(r *resource.Route) { r.Scope = s })
}

func proto(r resource.Route, p resource.Proto) resource.Route {
	return with(r, func(r *resource.Route) { r.Proto = p })
}

func src(r resource.Route, a string) resource.Route {
	return with(r, func(r *resource.Route) { r.PrefSrc = addr(a) })
}

// onlink makes every hop with a gateway onlink.
func onlink(r resource.Route) resource.Route {
	return with(r, func(r *resource.Route) {
		for i := range r.Hops {
			r.Hops[i].Onlink = true
		}
	})
}

// over is r with its hop on another link: what the kernel finds where none was given.
func over(r resource.Route, name string) *resource.Route {
	out := with(r, func(r *resource.Route) {
		for i := range r.Hops {
			r.Hops[i].Dev = name
		}
	})
	return &out
}
