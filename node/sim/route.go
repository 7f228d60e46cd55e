package sim

import (
	"net/netip"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is what routes of both families have in common: what a change must
// look at, in which order changes are made, and which of them are not modelled.
// route4.go and route6.go hold the kernel's own rules.

// needsRoute returns what must be known to foresee that the route under k becomes want.
func needsRoute(k resource.Key, want resource.Resource) resource.Query {
	route, ok := want.(resource.Route)
	if !ok {
		if p, table, ok := slotOf(k); ok {
			return resource.Query{{Kind: resource.KindRoute, Dst: p, Table: table}}
		}
		return nil
	}
	q := resource.Query{{Kind: resource.KindRoute, Dst: route.Dst, Table: route.Table}}
	cover := func(kind resource.Kind, a netip.Addr) {
		if a.IsValid() {
			q = append(q, resource.Selector{Kind: kind, Covers: a})
		}
	}
	six, reject := route.Family() == 6, rejects(route.Type)
	for _, h := range route.Hops {
		if reject && six { // the kernel looks at its link only
			h.Via = netip.Addr{}
		}
		link := resource.Selector{Kind: resource.KindLink, Name: h.Dev}
		if h.Onlink && h.Via.IsValid() {
			link.Name = "" // routes over any link may be what the gateway is looked up in
		}
		q = append(q, link)
		cover(resource.KindRoute, h.Via)
		if h.Via.IsValid() { // they say where it is looked up
			q = append(q, rulesOf(route.Family()))
		}
		if six {
			cover(resource.KindAddr, h.Via)
		}
	}
	switch {
	case six:
		cover(resource.KindAddr, route.PrefSrc)
	case route.PrefSrc.IsValid():
		cover(resource.KindRoute, route.PrefSrc)
		q = append(q, rulesOf(4), resource.Selector{Kind: resource.KindLink})
	}
	if six && !reject {
		q = append(q, multicast6)
	}
	return q
}

// slotOf reads the destination and the table from the key of a route.
func slotOf(k resource.Key) (netip.Prefix, resource.Table, bool) {
	id, err := parseRouteKey(k)
	return id.Dst, id.Table, err == nil
}

// makeRoute makes the route under k what want says: a nil want is its absence.
func (w *kernel) makeRoute(k resource.Key, want resource.Resource) error {
	id, err := parseRouteKey(k)
	if err != nil {
		return err
	}
	w.look(resource.Selector{Kind: resource.KindRoute, Dst: id.Dst, Table: id.Table})

	have, _ := w.state[k].(resource.Route)
	exists := w.state[k] != nil
	switch {
	case w.putsBack:
		w.set(k, want)
		return nil
	case want == nil && !exists, exists && want != nil && len(resource.Compare(resource.State{k: have}, resource.State{k: want})) == 0:
		return nil
	}
	if exists {
		if have.NHID = 0; modelled(have) != nil { // whatever object it uses
			return modelled(have)
		}
	}
	second := id
	second.Nth = 1
	if id.Nth != 0 || w.state[second.Key()] != nil {
		return unpredictable("a change of one of several routes of the same identity: %s", id.Key())
	}
	if want == nil {
		w.set(k, nil)
		return nil
	}

	route, ok := want.(resource.Route)
	if !ok || route.Key() != k {
		return engine.Internal.Errorf("%s cannot become %s", k, want.Key())
	}
	if plainly := route; route.NHID != 0 {
		if plainly.NHID = 0; modelled(plainly) == nil {
			return w.usesNexthop(route)
		}
	}
	if err := modelled(route); err != nil {
		return err
	}
	if err := w.names(route); err != nil {
		return err
	}
	if route, err = w.newRoute(route); err != nil {
		return err
	}
	w.set(k, route)
	return nil
}

// newRoute returns r as the kernel would hold it, or the kernel's refusal.
func (w *kernel) newRoute(r resource.Route) (resource.Route, error) {
	if r.Family() == 4 {
		return w.newRoute4(r)
	}
	return w.newRoute6(r)
}

// byDetour resolves the gateway of h by resolve. Where r was there before, a node
// makes its gateway a neighbour meanwhile if the kernel does not find it by itself any more.
func (w *kernel) byDetour(r resource.Route, h resource.Hop, resolve func(resource.Route, resource.Hop) (resource.Hop, error)) (resource.Hop, error) {
	way := resource.Route{ // tried first
		Dst: one(h.Via), Table: r.Table, Type: resource.Unicast, Scope: max(r.Scope+1, resource.ScopeLink), Hops: []resource.Hop{{Dev: h.Dev}}, Nth: -1,
	}
	if h.Via.Is6() {
		way.Metric, way.Nth = 1, 0
	}
	k := way.Key()
	there, known := w.state[k]
	if !w.back || h.Dev == "" || there != nil {
		return resolve(r, h)
	}
	w.state[k] = way
	defer func() {
		if delete(w.state, k); known {
			w.state[k] = nil
		}
	}()
	return resolve(r, h)
}

// modelled reports what there is about r that the model does not cover.
func modelled(r resource.Route) error {
	switch {
	case r.Volatile():
		return unpredictable("a change of a route that comes and goes by itself: %s", r)
	case r.Type != resource.Unicast && !rejects(r.Type):
		return unpredictable("a change of a route of type %s: %s", r.Type, r)
	case r.NHID != 0:
		return unpredictable("a change of a route that uses a nexthop object: %s", r)
	case r.Expires:
		return unpredictable("a change of a route that has a lifetime: %s", r)
	case r.Src.IsValid():
		return unpredictable("a change of a route for a source prefix: %s", r)
	case r.Table == 0:
		return unpredictable("a route in table 0: %s", r)
	case r.Pref == 2 || r.Pref > 3:
		return unpredictable("a route with preference %d: %s", r.Pref, r)
	case len(r.Extra) > 0:
		return unpredictable("a change of a route with attributes that are not modelled: %s", r)
	case r.PrefSrc.IsValid() && (r.PrefSrc.IsUnspecified() || r.PrefSrc.Is4() != r.Dst.Addr().Is4()):
		return unpredictable("a route with the preferred source %s: %s", r.PrefSrc, r)
	}
	for _, h := range r.Hops {
		switch {
		case rejects(r.Type) && !h.Via.IsValid() && h.Dev == "":
			return unpredictable("a %s route with a hop that says nothing", r.Type)
		case len(h.Extra) > 0:
			return unpredictable("a change of a hop with attributes that are not modelled: %s", r)
		case h.Via.Zone() != "" || h.Via.IsValid() && h.Via.Is4() != r.Dst.Addr().Is4():
			return unpredictable("a gateway of another family, or with a zone: %s", r)
		case len(r.Hops) == 1 && h.Weight != 0, len(r.Hops) > 1 && (h.Weight < 1 || h.Weight > 256):
			return unpredictable("a hop with weight %d: %s", h.Weight, r)
		}
	}
	return nil
}

// names finds the links that the hops of r name: a node does so before it asks
// its kernel.
func (w *kernel) names(r resource.Route) error {
	for _, h := range r.Hops {
		if h.Dev == "" {
			continue
		}
		if _, err := w.link(h.Dev); err != nil {
			return err
		}
	}
	return nil
}

// link returns the link called name, which a route is to lead over.
func (w *kernel) link(name string) (resource.Link, error) {
	w.look(resource.Selector{Kind: resource.KindLink, Name: name})
	l, ok := resource.Get[resource.Link](w.state, resource.LinkKey(name))
	switch {
	case !ok:
		return l, refuse("ENODEV", "")
	case l.Type != "ether" && l.Type != "veth":
		return l, unpredictable("a route over a link of type %s: %s", l.Type, name)
	case l.Master != "":
		return l, unpredictable("a route over %s, which is a port of %s", name, l.Master)
	}
	return l, nil
}

// up reports whether the link called name is up, whatever its type.
func (w *kernel) up(name string) bool {
	w.look(resource.Selector{Kind: resource.KindLink, Name: name})
	l, ok := resource.Get[resource.Link](w.state, resource.LinkKey(name))
	return ok && l.Up
}

// covering returns the routes of table that cover a, in the order in which the
// kernel tries them: the longest prefix first, then the lowest metric.
func (w *kernel) covering(a netip.Addr, table resource.Table) []resource.Route {
	s := resource.Selector{Kind: resource.KindRoute, Covers: a, Table: table}
	w.look(s)
	var out []resource.Route
	for _, r := range w.state {
		if route, ok := r.(resource.Route); ok && route.Match(s) {
			out = append(out, route)
		}
	}
	slices.SortFunc(out, func(a, b resource.Route) int {
		switch {
		case a.Dst.Bits() != b.Dst.Bits():
			return b.Dst.Bits() - a.Dst.Bits()
		case a.Metric != b.Metric && a.Metric < b.Metric:
			return -1
		case a.Metric != b.Metric:
			return 1
		default:
			return a.Nth - b.Nth
		}
	})
	return out
}

func rejects(t resource.RouteType) bool {
	switch t {
	case resource.Blackhole, resource.Unreachable, resource.Prohibit, resource.Throw:
		return true
	}
	return false
}

func equal(a, b resource.Route) bool {
	return len(resource.Compare(resource.Of(a), resource.Of(b))) == 0
}

// words are Go's to the errno of a refusal for which the kernel has none of its own.
var words = map[string]string{
	"EEXIST":       "file exists",
	"EHOSTUNREACH": "no route to host",
	"ENETDOWN":     "network is down",
	"ENODEV":       "no such device",
}

// refuse is the kernel's refusal. Without text it is one that has an errno only.
func refuse(errno, text string) error {
	if text == "" {
		text = words[errno]
	}
	return &engine.NodeError{Errno: errno, Words: text}
}
