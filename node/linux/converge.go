//go:build linux

package linux

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"runbook/engine/resource"
)

// routeGroup is all routes of one identity: those that are there, and those
// that should be, each in the order in which the kernel tries them.
type routeGroup struct {
	key       resource.Key   // of the first
	keys      []resource.Key // that are wanted, and those that are there
	now, want []route
}

// touchedRoutes selects the routes that share an identity with the one under k.
func touchedRoutes(k resource.Key) (resource.Query, error) {
	id, err := parseKey(k)
	return resource.Query{{Kind: resource.KindRoute, Dst: id.dst, Table: id.table}}, err
}

// routeSteps turns the routes of now into those of want, identity by identity.
func (n *Node) routeSteps(now reading, want resource.State) ([]step, error) {
	var touched resource.Query
	for k := range want {
		q, err := touchedRoutes(k)
		if err != nil {
			return nil, err
		}
		touched = append(touched, q...)
	}
	routes := slices.DeleteFunc(slices.Clone(now.routes), func(r route) bool { return !touched.Match(r.Route) })
	want = withoutKernelMade(now, want)
	groups, err := group(want, routes, now.left)
	if err != nil {
		return nil, err
	}
	var out []step
	for _, g := range groups {
		out = append(out, step{keys: g.keys, rank: g.rank(), messages: converge(g.now, g.want)})
	}
	return out, nil
}

// withoutKernelMade is want without the routes that the kernel makes and takes
// away with what they belong to. Those of IPv4 that are there may still have to change places.
func withoutKernelMade(now reading, want resource.State) resource.State {
	places := map[resource.Key]bool{} // by the first of an identity
	first := func(k resource.Key) resource.Key {
		before, _, _ := strings.Cut(string(k), " #")
		return resource.Key(before)
	}
	for k, r := range want {
		w, _ := r.(resource.Route)
		have, _ := now.state[k].(resource.Route)
		is := func(o route) bool { return o.Dst == w.Dst && same(o, route{Route: w}) }
		if kernelMade(w) && w.Family() == 4 && (kernelMade(have) || slices.ContainsFunc(now.routes, is)) {
			places[first(k)] = true
		}
	}
	want = maps.Clone(want)
	maps.DeleteFunc(want, func(k resource.Key, r resource.Resource) bool {
		w, _ := r.(resource.Route)
		have, _ := now.state[k].(resource.Route)
		goes := kernelMade(have) && r == nil && !(now.exact && have.Family() == 4)
		return (kernelMade(w) || goes) && !places[first(k)]
	})
	return want
}

// kernelMade reports whether r is one of those routes that the kernel makes for
// an address or a link, and takes away with it.
func kernelMade(r resource.Route) bool {
	switch r.Type {
	case resource.Local, resource.Broadcast, resource.Anycast, resource.Multicast:
		return r.Proto == resource.ProtoKernel
	}
	return false
}

// routeMessage creates or deletes r.
func routeMessage(kind, flags int, r route) message {
	deleting := kind == unix.RTM_DELROUTE
	return message{
		kind: kind, flags: flags,
		payload: func(n *Node) ([]byte, error) { return n.encodeRoute(r, deleting) },
		detour:  func() []route { return waysTo(r.Route) },
		gone: func(err error) bool {
			return deleting && errors.Is(err, unix.ESRCH) ||
				!deleting && r.Proto == resource.ProtoKernel && errors.Is(err, unix.EEXIST) // the kernel was faster
		},
	}
}

// group puts together what want says of each identity and what is there. What
// is left of a lifetime that the node no longer knows is in left.
func group(want resource.State, routes, left []route) ([]routeGroup, error) {
	slots := map[resource.Key]map[int]*route{}
	for _, k := range want.Keys() {
		id, err := parseKey(k)
		if err != nil {
			return nil, err
		}
		if slots[id.first] == nil {
			slots[id.first] = map[int]*route{}
			for i, r := range ofIdentity(routes, id.first) {
				slots[id.first][i] = &r
			}
		}
		slot := slots[id.first]
		r, present := want[k].(resource.Route)
		if !present {
			delete(slot, id.nth)
			continue
		}
		now := slot[id.nth]
		if i := slices.IndexFunc(left, func(l route) bool { return l.Key() == k }); i >= 0 && (now == nil || !now.Expires) {
			now = &left[i]
		}
		if r.Expires && (now == nil || !now.Expires) {
			return nil, fmt.Errorf("route %s: it has a lifetime, and nothing says how much is left of it", r)
		}
		for i, o := range slot { // it is there in another place: it moves, and those between with it
			other := r
			if other.Nth = i; i != id.nth && same(*o, route{Route: r}) {
				if _, named := want[other.Key()]; !named {
					shift(slot, i, id.nth)
				}
				break
			}
		}
		next := &route{Route: r}
		if r.Expires {
			next.left = now.left
		}
		slot[id.nth] = next
	}
	var out []routeGroup
	for key, slot := range slots {
		g := routeGroup{key: key, now: ofIdentity(routes, key)}
		for _, i := range sortedKeys(slot) {
			g.want = append(g.want, *slot[i])
		}
		for _, r := range append(slices.Clone(g.now), g.want...) {
			g.keys = append(g.keys, r.Key())
		}
		slices.Sort(g.keys)
		g.keys = slices.Compact(g.keys)
		out = append(out, g)
	}
	return out, nil
}

// shift takes the route in one place to another. Those between the two close up.
func shift(slot map[int]*route, from, to int) {
	r, step := slot[from], 1
	if to < from {
		step = -1
	}
	for i := from; i != to; i += step {
		if next := slot[i+step]; next != nil {
			slot[i] = next
		} else {
			delete(slot, i)
		}
	}
	slot[to] = r
}

func sortedKeys(m map[int]*route) []int {
	var out []int
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// rank orders groups. New routes come before deleted ones, so that a node is
// never without a path in between. A gateway must be reached by a link route:
// that is made first, and deleted last.
func (g routeGroup) rank() int {
	switch {
	case len(g.want) > 0 && onLink(g.want):
		return rankLinkRoute
	case len(g.want) > 0:
		return rankGatewayRoute
	case !onLink(g.now):
		return rankGatewayRouteGone
	default:
		return rankLinkRouteGone
	}
}

// onLink reports whether no route of rs needs another to reach its next hop.
func onLink(rs []route) bool {
	for _, r := range rs {
		if r.NHID != 0 {
			return false
		}
		for _, h := range r.Hops {
			if h.Via.IsValid() {
				return false
			}
		}
	}
	return true
}

// ofIdentity returns the routes whose identity is that of the route with the key first.
func ofIdentity(routes []route, first resource.Key) []route {
	var out []route
	for _, r := range routes {
		nth := r.Nth
		r.Nth = 0
		if r.Key() == first {
			r.Nth = nth
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b route) int { return a.Nth - b.Nth })
	return out
}

// converge returns the messages that turn now into want. Usually there is one
// route at most of an identity, and it is created, replaced in one step, or deleted.
func converge(now, want []route) []message {
	const create = unix.NLM_F_CREATE
	if excess, ok := minus(now, want); ok {
		var out []message
		for _, r := range slices.Backward(excess) {
			out = append(out, routeMessage(unix.RTM_DELROUTE, 0, r))
		}
		return out
	}
	if len(now) == 0 && len(want) == 1 && want[0].ByLink() { // beside those of other links
		return []message{routeMessage(unix.RTM_NEWROUTE, create|unix.NLM_F_APPEND, want[0])}
	}
	kept := 0
	for kept < min(len(now), len(want)) && same(now[kept], want[kept]) {
		kept++
	}
	var out []message
	first := min(max(kept, 1), len(now)) // now[0] is not deleted but replaced
	for _, r := range slices.Backward(now[first:]) {
		out = append(out, routeMessage(unix.RTM_DELROUTE, 0, r))
	}
	for i, r := range want[kept:] {
		flags := create | unix.NLM_F_APPEND
		switch {
		case kept+i == 0 && len(now) == 0:
			flags = create | unix.NLM_F_EXCL
		case kept+i == 0: // the kernel replaces the first of an identity
			flags = create | unix.NLM_F_REPLACE
		}
		out = append(out, routeMessage(unix.RTM_NEWROUTE, flags, r))
	}
	return out
}

// minus returns the routes of now that want lacks, if want is now without some.
func minus(now, want []route) (excess []route, ok bool) {
	for _, r := range now {
		if len(want) > 0 && same(r, want[0]) {
			want = want[1:]
		} else {
			excess = append(excess, r)
		}
	}
	return excess, len(want) == 0
}

// same reports whether a and b are equal but for their place.
func same(a, b route) bool {
	a.Nth, b.Nth = 0, 0
	return reflect.DeepEqual(a.Route, b.Route)
}

// routeID is what the key of a route says.
type routeID struct {
	first resource.Key // of the first route of this identity
	nth   int
	dst   netip.Prefix
	table resource.Table
}

// parseKey reads the key of a route: "route DST table N metric N … #NTH".
func parseKey(k resource.Key) (routeID, error) {
	bad := fmt.Errorf("%q is not the key of a route", k)
	words := strings.Fields(string(k))
	if len(words) < 6 || words[2] != "table" {
		return routeID{}, bad
	}
	id := routeID{first: k}
	var err error
	if id.dst, err = netip.ParsePrefix(words[1]); err != nil {
		return routeID{}, bad
	}
	table, err := strconv.ParseUint(words[3], 10, 32)
	if err != nil {
		return routeID{}, bad
	}
	id.table = resource.Table(table)
	if first, nth, ok := strings.Cut(string(k), " #"); ok {
		id.first = resource.Key(first)
		n, err := strconv.Atoi(nth)
		if err != nil || n < 2 {
			return routeID{}, bad
		}
		id.nth = n - 1
	}
	return id, nil
}
