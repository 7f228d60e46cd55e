package sim

import (
	"fmt"
	"maps"
	"net/netip"

	"runbook/engine/resource"
)

// This file is whether what a change takes away could be put back. The kernel asks more of a route that
// is made than of one that is there: that its links are up, and its source is the node's own. The
// gateways of what was there before are found by a detour, unless the node's rules lead past it (see byDetour).

// canGoBack is an error where a route that w takes away or changes could not be
// made again, on the node as it was before, as far as that is known: nothing more is asked of it.
func (w *kernel) canGoBack(known func(resource.Query) bool) error {
	lost := resource.State{}
	var wanted []resource.Route
	for k, was := range w.was {
		if was == nil || len(resource.Compare(resource.State{k: was}, resource.State{k: w.state[k]})) == 0 {
			continue
		}
		lost[k] = was
		r, isRoute := was.(resource.Route)
		if _, explicit := w.want[k]; explicit && isRoute {
			wanted = append(wanted, r)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	after := make(resource.State, len(w.was))
	for k := range w.was {
		after[k] = w.state[k]
	}
	w.undo()
	defer maps.Copy(w.state, after)
	again := &kernel{state: w.state}
	err := again.comesBack(lost)
	for _, r := range wanted {
		if err == nil {
			err = again.names(r)
		}
	}
	if !known(again.footprint) {
		return nil
	}
	return err
}

// remade reports whether r, made again where it is lost, would ask for something.
func remade(r resource.Route) bool {
	asks := r.Type == resource.Unicast || rejects(r.Type) && r.PrefSrc.Is6()
	return asks && r.NHID == 0 && !r.Volatile()
}

// frame is w with what others rest on: links, addresses, the routes to these, and rules. Of many
// routes each is so held against few.
func (w *kernel) frame() *kernel {
	few := resource.State{}
	for k, r := range w.state {
		switch r := r.(type) {
		case resource.Link, resource.Addr, resource.Rule:
			few[k] = r
		case resource.Route:
			if r.Type == resource.Local || r.Type == resource.Broadcast || r.Table == resource.TableLocal {
				few[k] = r
			}
		}
	}
	return &kernel{state: few, split: true}
}

// comesBack is an error where one of lost could not be made if it were not there.
func (w *kernel) comesBack(lost resource.State) error {
	routes, few := restored(lost), w.frame()
	if len(routes) > many {
		few.look(resource.Query{{Kind: resource.KindLink}, {Kind: resource.KindAddr}, {Kind: resource.KindRoute, Table: resource.TableLocal}}...)
		for _, r := range w.rules(4) {
			if r.Table != 0 {
				few.look(resource.Selector{Kind: resource.KindRoute, Family: 4, Table: r.Table})
			}
		}
	}
	defer func() { w.look(few.footprint...) }()
	for _, r := range routes {
		if why := few.missing(r); why != "" {
			return unpredictable("the route %s could not be put back: %s", r, why)
		}
	}
	return w.waysBack(routes, lost, few)
}

// waysBack is an error where the node finds the gateway of one of routes in main neither by a
// detour nor by what is there without lost: its rules, or a route in local, lead past both. All else than few
// matters only where it has rules of its own.
func (w *kernel) waysBack(routes []resource.Route, lost resource.State, few *kernel) error {
	type way struct {
		via   netip.Addr
		dev   string
		scope resource.Scope
	}
	asked := map[way]bool{}
	splits, left := []bool{true, false}, few.state // it is not known whether main and local are one
	for _, r := range routes {
		for _, h := range r.Hops {
			to := way{h.Via, h.Dev, r.Scope}
			if r.Table != resource.TableMain || !h.Via.Is4() || h.Onlink || asked[to] {
				continue
			}
			if len(asked) == 0 && w.ownRules(4) {
				splits, left = splits[:1], without(w.state, lost)
			}
			asked[to] = true
			for _, split := range splits {
				found := &kernel{state: left, footprint: few.footprint, back: true, split: split}
				_, err := found.byDetour(r, h, found.gateway4)
				few.footprint = found.footprint
				if err != nil {
					return unpredictable("the route %s could not be put back: its gateway %s would not be found: %v", r, h.Via, err)
				}
			}
		}
	}
	return nil
}

// without is s without the routes of lost. It is made anew, for a map stays as large as it was.
func without(s, lost resource.State) resource.State {
	left := resource.State{}
	for k, r := range s {
		if lost[k] == nil || k.Kind() != resource.KindRoute {
			left[k] = r
		}
	}
	return left
}

// missing is why r, which is there, could not be made, or "".
func (w *kernel) missing(r resource.Route) string {
	six := r.Family() == 6
	hops := r.Hops
	if six {
		hops = hops6(r)
	}
	for _, h := range hops {
		own := false
		switch {
		case r.Scope == resource.ScopeHost, rejects(r.Type): // asks for nothing
		case !w.up(h.Dev):
			return fmt.Sprintf("%s is down", h.Dev)
		case h.Via.Is6() && six:
			own = w.own6(h.Via, h.Dev, !h.Via.IsLinkLocalUnicast())
		case h.Via.Is4() && h.Onlink:
			own = w.addrType4(h.Via, resource.TableLocal) != resource.Unicast
		}
		if own {
			return fmt.Sprintf("its gateway %s is an address of the node by now", h.Via)
		}
		if r.PrefSrc.Is6() && !w.own6(r.PrefSrc, h.Dev, false) {
			return fmt.Sprintf("%s is no address of the node any more", r.PrefSrc)
		}
	}
	if r.PrefSrc.Is4() && !w.local4(r.PrefSrc, r.Table) {
		return fmt.Sprintf("%s is no address of the node any more", r.PrefSrc)
	}
	return ""
}

// restored returns what of lost has to be made again, and rests on something: routes,
// and nexthop objects as routes over their hops, of which the kernel asks the same.
func restored(lost resource.State) (out []resource.Route) {
	for _, k := range lost.Keys() {
		switch r := lost[k].(type) {
		case resource.Route:
			if remade(r) {
				out = append(out, r)
			}
		case resource.Nexthop:
			if single(r) {
				out = append(out, throughNexthop(r))
			}
		}
	}
	return out
}
