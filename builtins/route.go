package builtins

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() {
	Operations["route.add"] = RouteAdd{}
	Operations["route.delete"] = RouteDelete{}
	Operations["route.get"] = RouteGet{}
	Operations["route.list"] = RouteList{}
}

// RouteAdd gives a node exactly one route to Dst at Metric in Table.
//
// If that route already is as the arguments say, it changes nothing; who made
// it, its scope and its source may be anything where they are not mentioned. If it differs, it is replaced in one step,
// so the node is never without a path in between. Other routes are untouched.
// It is lost at reboot.
//
// It returns changed (a bool) and route.
//
//	node.route.add(dst = "10.20.0.0/16", via = "192.0.2.1", dev = "eth1")
//	node.route.add(dst = "10.21.0.0/16", type = "blackhole")
//	node.route.add(dst = "10.22.0.0/16", hops = [{"via": "192.0.2.1", "weight": 2}, {"via": "192.0.2.2"}])
type RouteAdd struct {
	Dst    netip.Prefix       `json:"dst"`              // destination, such as 10.20.0.0/16; 0.0.0.0/0 is the default route
	Via    netip.Addr         `json:"via,omitzero"`     // next hop, of Dst's family
	Dev    string             `json:"dev,omitempty"`    // link; may be left out where Via tells it
	Metric uint32             `json:"metric,omitempty"` // lower is preferred; 0 is the default, which is 1024 for IPv6
	Table  resource.Table     `json:"table,omitempty"`  // main where left out
	Onlink bool               `json:"onlink,omitempty"` // take Via to be on the link, whatever the addresses say
	Scope  *resource.Scope    `json:"scope,omitempty"`  // IPv4; link where there is no Via, else global
	Proto  resource.Proto     `json:"proto,omitempty"`  // who made it; static where left out
	Type   resource.RouteType `json:"type,omitempty"`   // unicast where left out; or blackhole, unreachable, prohibit, throw
	Src    netip.Addr         `json:"src,omitzero"`     // the source address that it suggests
	Hops   []RouteHop         `json:"hops,omitempty"`   // several next hops, in place of Via, Dev and Onlink
}

// RouteHop is one of several next hops.
type RouteHop struct {
	Via    netip.Addr `json:"via,omitzero"`
	Dev    string     `json:"dev,omitempty"`
	Weight int        `json:"weight,omitempty"` // 1 to 256; 1 where left out
	Onlink bool       `json:"onlink,omitempty"`
}

func (o RouteAdd) String() string { return o.Dst.String() }

// Validate checks what no node needs to be asked for.
func (o RouteAdd) Validate() error {
	if err := checkDst(o.Dst); err != nil {
		return err
	}
	hops := o.hops()
	switch unicast := o.Type == 0 || o.Type == resource.Unicast; {
	case len(o.Hops) > 0 && (o.Via.IsValid() || o.Dev != "" || o.Onlink):
		return fmt.Errorf("hops stand in place of via, dev and onlink: give one or the other")
	case len(o.Hops) > 256:
		return fmt.Errorf("%d hops: the kernel takes more, but cannot list them; want at most 256", len(o.Hops))
	case len(o.Hops) == 1:
		return fmt.Errorf("hops is for two next hops or more: use via and dev")
	case !unicast && !slices.Contains([]resource.RouteType{resource.Blackhole, resource.Unreachable, resource.Prohibit, resource.Throw}, o.Type):
		return fmt.Errorf("type is %s: want unicast, blackhole, unreachable, prohibit or throw", o.Type)
	case !unicast && len(hops) > 0:
		return fmt.Errorf("a %s route leads nowhere: leave out via, dev and hops", o.Type)
	case unicast && len(hops) == 0:
		return fmt.Errorf("needs via, dev or hops")
	case o.Onlink && !(o.Via.IsValid() && o.Dev != ""):
		return fmt.Errorf("onlink needs via and dev")
	case o.Src.IsValid() && o.Src.Is4() != o.Dst.Addr().Is4():
		return fmt.Errorf("src %s and dst %s are of different families", o.Src, o.Dst)
	}
	for _, h := range hops {
		switch {
		case h.Via.IsValid() && h.Via.Is4() != o.Dst.Addr().Is4():
			return fmt.Errorf("via %s and dst %s are of different families", h.Via, o.Dst)
		case len(o.Hops) > 0 && (h.Weight < 1 || h.Weight > 256):
			return fmt.Errorf("weight is %d: want 1 to 256", h.Weight)
		case !h.Via.IsValid() && h.Dev == "":
			return fmt.Errorf("a next hop needs via or dev")
		}
	}
	return nil
}

func checkDst(dst netip.Prefix) error {
	if m := dst.Masked(); m != dst {
		return fmt.Errorf("dst %s has host bits set: did you mean %s", dst, m)
	}
	if dst.Addr().Is4In6() {
		return fmt.Errorf("dst %s is an IPv4 address written as IPv6", dst)
	}
	return nil
}

func (o RouteAdd) hops() []resource.Hop {
	if len(o.Hops) == 0 {
		if !o.Via.IsValid() && o.Dev == "" {
			return nil
		}
		return []resource.Hop{{Via: o.Via, Dev: o.Dev, Onlink: o.Onlink}}
	}
	var out []resource.Hop
	for _, h := range o.Hops {
		if h.Weight == 0 {
			h.Weight = 1
		}
		out = append(out, resource.Hop{Via: h.Via, Dev: h.Dev, Weight: h.Weight, Onlink: h.Onlink})
	}
	return out
}

// route is what is asked for, with the kernel's defaults where nothing is said.
func (o RouteAdd) route() resource.Route {
	r := resource.Route{Dst: o.Dst, Metric: o.Metric, Table: o.Table, Type: o.Type, Proto: o.Proto, PrefSrc: o.Src, Hops: o.hops()}
	if r.Metric == 0 {
		r.Metric = resource.DefaultMetric(o.Dst)
	}
	if r.Table == 0 {
		r.Table = resource.TableMain
	}
	if r.Type == 0 {
		r.Type = resource.Unicast
	}
	if r.Proto == 0 {
		r.Proto = resource.ProtoStatic
	}
	r.Scope = resource.DefaultScope(r)
	if o.Scope != nil {
		r.Scope = *o.Scope
	}
	return r
}

// Plan implements [engine.Change].
func (o RouteAdd) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	want := o.route()
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindRoute, Dst: o.Dst, Table: want.Table}})
	if err != nil {
		return nil, err
	}
	if have, ok := resource.Get[resource.Route](s, want.Key()); ok && o.matches(have, want) {
		return resource.Of(have), nil
	}
	return resource.Of(want), nil
}

// matches reports whether have is as the arguments say.
func (o RouteAdd) matches(have, want resource.Route) bool {
	odd := func(h resource.Hop) bool { return len(h.Extra) > 0 }
	return have.Type == want.Type &&
		// What runbook does not understand of a route may send it elsewhere.
		have.NHID == 0 && !have.Expires && len(have.Extra) == 0 && !slices.ContainsFunc(have.Hops, odd) &&
		(o.Proto == 0 || have.Proto == want.Proto) &&
		(o.Scope == nil || have.Scope == want.Scope) &&
		(!o.Src.IsValid() || have.PrefSrc == want.PrefSrc) &&
		(want.Type != resource.Unicast || sameHops(have.Hops, want.Hops))
}

// sameHops reports whether have is as want says, where want may leave out the link.
func sameHops(have, want []resource.Hop) bool {
	return slices.EqualFunc(have, want, func(h, w resource.Hop) bool {
		return h.Via == w.Via && (w.Dev == "" || h.Dev == w.Dev) && h.Weight == w.Weight && h.Onlink == w.Onlink
	})
}

// Result implements [engine.Change].
func (o RouteAdd) Result(changed bool, s resource.State) any {
	r, _ := resource.Get[resource.Route](s, o.route().Key())
	return map[string]any{"changed": changed, "route": viewRoute(r)}
}

// Explain implements [engine.Explainer]: it looks which of the arguments the
// kernel cannot have liked.
func (o RouteAdd) Explain(ctx context.Context, n engine.Reader, refused *engine.NodeError) (cause, hint string) {
	links, err := list[resource.Link](ctx, n, resource.Selector{Kind: resource.KindLink})
	if err != nil {
		return "", ""
	}
	addrs, err := list[resource.Addr](ctx, n, resource.Selector{Kind: resource.KindAddr})
	if err != nil {
		return "", ""
	}
	for _, h := range o.hops() {
		i := slices.IndexFunc(links, func(l resource.Link) bool { return l.Name == h.Dev })
		switch {
		case h.Dev != "" && i < 0:
			return noLink(h.Dev, links), ""
		case h.Dev != "" && !links[i].Up:
			return fmt.Sprintf("link %s is down", h.Dev), "bring the link up first"
		case h.Via.IsValid() && slices.ContainsFunc(addrs, func(a resource.Addr) bool { return a.Prefix.Addr() == h.Via }):
			return fmt.Sprintf("next hop %s is the node's own address", h.Via), ""
		case h.Via.IsValid() && slices.Contains([]string{"ENETUNREACH", "EHOSTUNREACH", "EINVAL"}, refused.Errno) && !reaches(addrs, h):
			return notOnLink(addrs, h)
		case h.Via.IsValid() && !strings.Contains(refused.Words, "prefsrc") && ownRules(ctx, n, o.route().Family()):
			return fmt.Sprintf("the policy rules of the node do not lead to next hop %s", h.Via),
				fmt.Sprintf("node.rule.list(family = %d) has them, in the order in which they are tried", o.route().Family())
		}
	}
	if o.Src.IsValid() && !slices.ContainsFunc(addrs, func(a resource.Addr) bool { return a.Prefix.Addr() == o.Src }) {
		return fmt.Sprintf("src %s is not an address of the node", o.Src), ""
	}
	return "", ""
}

// noLink says that name is none of links.
func noLink(name string, links []resource.Link) string {
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	return fmt.Sprintf("there is no link %s (the node has %s)", name, strings.Join(names, ", "))
}

func reaches(addrs []resource.Addr, h resource.Hop) bool {
	return slices.ContainsFunc(addrs, func(a resource.Addr) bool {
		return (h.Dev == "" || a.Dev == h.Dev) && a.Prefix.Masked().Contains(h.Via)
	})
}

// notOnLink says what the hop's link has, and which link has a neighbour like it.
func notOnLink(addrs []resource.Addr, h resource.Hop) (cause, hint string) {
	var here []string
	for _, a := range addrs {
		if a.Prefix.Addr().Is4() != h.Via.Is4() {
			continue
		}
		if a.Dev == h.Dev {
			here = append(here, a.Prefix.String())
		}
		if a.Prefix.Masked().Contains(h.Via) && hint == "" {
			hint = fmt.Sprintf("use dev=%q, which has %s, or set onlink=True", a.Dev, a.Prefix)
		}
	}
	switch {
	case h.Dev == "":
		return fmt.Sprintf("next hop %s is not on-link at any link", h.Via), "give a next hop that the node has a neighbour address for, or dev with onlink=True"
	case len(here) == 0:
		here = []string{"no address of its family"}
	}
	if hint == "" {
		hint = fmt.Sprintf("no link of the node has a subnet with %s; set onlink=True if it is there all the same", h.Via)
	}
	return fmt.Sprintf("next hop %s is not on-link at %s (%s has %s)", h.Via, h.Dev, h.Dev, strings.Join(here, ", ")), hint
}

// RouteDelete makes sure that a node has no route to Dst in Table: all that
// the other arguments select are deleted, and where there is none nothing is
// changed. Routes to other destinations are untouched, also those within Dst.
//
// Routes that come from router advertisements are left alone: they would come again.
//
// It returns changed (a bool).
//
//	node.route.delete(dst = "10.20.0.0/16")
//	node.route.delete(dst = "10.20.0.0/16", dev = "eth1", metric = 100)
type RouteDelete struct {
	Dst    netip.Prefix   `json:"dst"`              // destination, exactly
	Via    netip.Addr     `json:"via,omitzero"`     // only with this next hop and no other
	Dev    string         `json:"dev,omitempty"`    // only over this link and no other
	Metric *uint32        `json:"metric,omitempty"` // only with this metric
	Table  resource.Table `json:"table,omitempty"`  // main where left out
}

func (o RouteDelete) String() string { return o.Dst.String() }

// Validate checks what no node needs to be asked for.
func (o RouteDelete) Validate() error { return checkDst(o.Dst) }

// Plan implements [engine.Change].
func (o RouteDelete) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	table := o.Table
	if table == 0 {
		table = resource.TableMain
	}
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindRoute, Dst: o.Dst, Table: table}})
	if err != nil {
		return nil, err
	}
	want := resource.State{}
	for _, r := range resource.All[resource.Route](s) {
		if !r.Volatile() && o.selects(r) {
			want[r.Key()] = nil
		}
	}
	return want, nil
}

func (o RouteDelete) selects(r resource.Route) bool {
	other := func(h resource.Hop) bool {
		return o.Via.IsValid() && h.Via != o.Via || o.Dev != "" && h.Dev != o.Dev
	}
	filtered := o.Via.IsValid() || o.Dev != ""
	return (o.Metric == nil || r.Metric == *o.Metric) &&
		(!filtered || len(r.Hops) > 0 && !slices.ContainsFunc(r.Hops, other))
}

// Result implements [engine.Change].
func (o RouteDelete) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed}
}

// RouteGet returns the route to exactly Dst in Table, or None. Of several it
// returns the one with the lowest metric.
//
//	node.route.get("10.20.0.0/16").via
type RouteGet struct {
	Dst   netip.Prefix   `json:"dst"`             // destination, exactly
	Table resource.Table `json:"table,omitempty"` // main where left out
}

func (o RouteGet) String() string { return o.Dst.String() }

// Validate checks what no node needs to be asked for.
func (o RouteGet) Validate() error { return checkDst(o.Dst) }

// Look implements [engine.Probe].
func (o RouteGet) Look(ctx context.Context, n engine.Reader) (any, error) {
	s := resource.Selector{Kind: resource.KindRoute, Dst: o.Dst, Table: o.Table}
	if s.Table == 0 {
		s.Table = resource.TableMain
	}
	routes, err := list[resource.Route](ctx, n, s)
	if err != nil || len(routes) == 0 {
		return nil, err
	}
	return viewRoute(slices.MinFunc(routes, func(a, b resource.Route) int { return int(int64(a.Metric) - int64(b.Metric)) })), nil
}

// RouteList returns the routes of a table that the arguments select.
//
//	[r.dst for r in node.route.list(dev = "eth1", family = 4)]
type RouteList struct {
	Dev       string         `json:"dev,omitempty"`        // only with a next hop over this link
	Family    int            `json:"family,omitempty"`     // only 4 or 6
	Covers    netip.Addr     `json:"covers,omitzero"`      // only those whose destination contains this address
	Table     resource.Table `json:"table,omitempty"`      // main where left out
	AllTables bool           `json:"all_tables,omitempty"` // of every table
}

func (o RouteList) String() string { return o.Dev }

// Validate checks the arguments.
func (o RouteList) Validate() error {
	if o.AllTables && o.Table != 0 {
		return fmt.Errorf("give table or all_tables, not both")
	}
	return checkFamily(o.Family)
}

// Look implements [engine.Probe].
func (o RouteList) Look(ctx context.Context, n engine.Reader) (any, error) {
	s := resource.Selector{Kind: resource.KindRoute, Name: o.Dev, Family: o.Family, Covers: o.Covers, Table: o.Table}
	if s.Table == 0 && !o.AllTables {
		s.Table = resource.TableMain
	}
	if err := needLink(ctx, n, o.Dev); err != nil {
		return nil, err
	}
	routes, err := list[resource.Route](ctx, n, s)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(routes))
	for i, r := range routes {
		out[i] = viewRoute(r)
	}
	return out, nil
}

// viewRoute is r as scripts see it: its via and dev are those of its first next
// hop, for nearly every route has one.
func viewRoute(r resource.Route) any {
	var first resource.Hop
	if len(r.Hops) > 0 {
		first = r.Hops[0]
	}
	v := fields(r)
	v["via"], v["dev"] = value(first.Via), value(first.Dev)
	return v
}
