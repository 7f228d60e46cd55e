package sim

import (
	"net/netip"
	"slices"
	"strings"

	"runbook/engine/resource"
)

// This file is which way the packets of a session take: the look-up of the
// kernel for what the node itself sends, through rules, tables and routes.

// way is where the packets of a session go.
type way struct {
	ok    bool           // false: nowhere
	route resource.Route // that they take
	hop   resource.Hop   // where that sends them; within the node its Dev is lo
	hops  []resource.Hop // from which hop was chosen
}

func (a way) same(b way) bool {
	return a.ok == b.ok && a.hop.Via == b.hop.Via && a.hop.Dev == b.hop.Dev
}

// sameChoice reports whether a and b have the same hops to choose from.
func (a way) sameChoice(b way) bool {
	return slices.EqualFunc(a.hops, b.hops, func(x, y resource.Hop) bool {
		return x.Via == y.Via && x.Dev == y.Dev && x.Weight == y.Weight
	})
}

// String is the way in the words of iproute2: "via 10.98.0.1 dev eth1", or
// several where there is a choice.
func (a way) String() string {
	hops := a.hops
	if len(hops) == 0 {
		hops = []resource.Hop{a.hop}
	}
	var out []string
	for _, h := range hops {
		one := "dev " + h.Dev
		if h.Via.IsValid() {
			one = "via " + h.Via.String() + " " + one
		}
		out = append(out, one)
	}
	return strings.Join(out, " or ")
}

// way is the way of s, whose peer is known. Of several hops it takes the one
// over the link that the kernel chose, while there is that and it is known.
func (w *kernel) way(s resource.Sessions) way { return w.wayFrom("lo", s) }

// takes reports whether the node takes what the peer of s sends for its own.
func (w *kernel) takes(s resource.Sessions) bool {
	in := resource.Sessions{Local: s.Peer.Addr(), Port: s.Peer.Port(), Peer: netip.AddrPortFrom(s.Local, s.Port)}
	iif := "lo"
	if s.Dev != iif {
		iif = home(w.state, s.Local)
	}
	return w.wayFrom(iif, in).route.Type == resource.Local
}

// wayFrom is the way of what comes in by the link iif, or from the node itself by lo.
func (w *kernel) wayFrom(iif string, s resource.Sessions) way {
	for _, l := range w.lookUps(iif, s) {
		var all []resource.Route
		for _, t := range l.tables {
			all = append(all, w.covering(s.Peer.Addr(), t)...)
		}
		slices.SortStableFunc(all, func(a, b resource.Route) int { // fib_table_lookup; fib6_node_lookup
			if a.Dst.Bits() != b.Dst.Bits() {
				return b.Dst.Bits() - a.Dst.Bits()
			}
			return srcBits(b) - srcBits(a)
		})
		if found, ok := w.first(all, s); ok && (!found.ok || found.route.Dst.Bits() > l.suppress) {
			return found
		}
	}
	return way{}
}

// first is the way of s by the first of routes that is for it and has one.
func (w *kernel) first(routes []resource.Route, s resource.Sessions) (way, bool) {
	for _, r := range routes {
		if r.TOS != 0 || r.Src.IsValid() && !r.Src.Contains(s.Local) {
			continue
		}
		if r.Type == resource.Throw {
			break // to the next table
		}
		if found, ok := w.through(r, s.Dev); ok {
			return found, true
		}
	}
	return way{}, false
}

func srcBits(r resource.Route) int { return max(r.Src.Bits(), 0) }

// through is where r sends packets, preferably over dev. Where all its links are down it does not count.
func (w *kernel) through(r resource.Route, dev string) (way, bool) {
	switch {
	case r.Type == resource.Local:
		return way{ok: w.up("lo"), route: r, hop: resource.Hop{Dev: "lo"}}, true
	case r.Type != resource.Unicast:
		return way{route: r}, true
	}
	found := way{ok: true, route: r}
	for _, h := range r.Hops {
		if w.up(h.Dev) {
			found.hops = append(found.hops, h)
		}
	}
	if len(found.hops) == 0 {
		return way{}, false
	}
	found.hop = found.hops[0]
	for _, h := range found.hops {
		if h.Dev == dev {
			found.hop = h
			break
		}
	}
	return found, true
}

// lookUp is a look into tables that are one to the kernel.
type lookUp struct {
	tables   []resource.Table
	suppress int // a route whose prefix is no longer than this is left out, if it leads anywhere
}

func in(tables ...resource.Table) lookUp { return lookUp{tables, -1} }

// lookUps are the look-ups for s, one after the other. Rules that look at what
// is not known of a session (marks, users, some ports) count as if they were not for it.
func (w *kernel) lookUps(iif string, s resource.Sessions) []lookUp {
	family := 4
	if s.Peer.Addr().Is6() {
		family = 6
	}
	rules := w.knownRules(family)
	own := !slices.EqualFunc(rules, resource.DefaultRulesOf(family), resource.Rule.Same) // some of these may be gone
	switch {
	case len(rules) > 0 && (own || family == 6):
		return byRules(rules, iif, s)
	case family == 6:
		return []lookUp{in(resource.TableLocal), in(tableOf(s)...), in(resource.TableMain)}
	case len(rules) > 0 || len(tableOf(s)) == 0: // fib_lookup: without rules of the node's own local and main are one
		return []lookUp{in(resource.TableLocal, resource.TableMain), in(resource.TableDefault)}
	default:
		return []lookUp{in(resource.TableLocal), in(tableOf(s)...), in(resource.TableMain), in(resource.TableDefault)}
	}
}

// tableOf is the table that the kernel found the route of s in, where that is none of those that every node has.
func tableOf(s resource.Sessions) []resource.Table {
	id, err := parseRouteKey(s.Route)
	if err != nil || slices.Contains([]resource.Table{resource.TableLocal, resource.TableMain, resource.TableDefault}, id.Table) {
		return nil
	}
	return []resource.Table{id.Table}
}

// byRules follows the rules for s (fib_rules_lookup).
func byRules(rules []resource.Rule, iif string, s resource.Sessions) []lookUp {
	var out []lookUp
	for i := 0; i < len(rules); i++ {
		r := rules[i]
		if !isFor(r, iif, s) {
			continue
		}
		switch r.Action {
		case resource.RuleLookup:
			l := in(r.Table)
			if r.Suppress != nil {
				l.suppress = int(*r.Suppress)
			}
			out = append(out, l)
		case resource.RuleGoto:
			to := slices.IndexFunc(rules, func(o resource.Rule) bool { return o.Priority == r.Goto })
			if to > i { // else there is no such rule, and the next is tried
				i = to - 1
			}
		case resource.RuleBlackhole, resource.RuleUnreachable, resource.RuleProhibit:
			return out
		}
	}
	return out
}

// isFor reports whether r is for packets of s (fib_rule_match).
func isFor(r resource.Rule, iif string, s resource.Sessions) bool {
	within := func(p netip.Prefix, a netip.Addr) bool { return !p.IsValid() || p.Masked().Contains(a) }
	port := func(ports *resource.Range, p uint16) bool {
		return ports == nil || p != 0 && ports.First <= uint32(p) && uint32(p) <= ports.Last
	}
	matches := within(r.Src, s.Local) && within(r.Dst, s.Peer.Addr()) &&
		(r.IPProto == 0 || r.IPProto == protoTCP) && port(r.SPorts, s.Port) && port(r.DPorts, s.Peer.Port()) &&
		(r.IIF == "" || r.IIF == iif) && r.OIF == "" && r.Mark&r.Mask == 0 && r.TOS == 0 &&
		!r.L3MDev && r.UIDs == nil && len(r.Extra) == 0
	return matches != r.Not
}

// protoTCP is IPPROTO_TCP.
const protoTCP = 6
