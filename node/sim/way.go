package sim

import (
	"net/netip"
	"slices"

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

// String is the way in the words of iproute2: "via 10.98.0.1 dev eth1".
func (a way) String() string {
	if a.hop.Via.IsValid() {
		return "via " + a.hop.Via.String() + " dev " + a.hop.Dev
	}
	return "dev " + a.hop.Dev
}

// way is the way of s, whose peer is known. Of several hops it takes the one
// over the link that the kernel chose, while there is that.
func (w *kernel) way(s resource.Sessions) way {
	for _, tables := range w.tables(s) {
		var all []resource.Route
		for _, t := range tables {
			all = append(all, w.covering(s.Peer.Addr(), t)...)
		}
		slices.SortStableFunc(all, func(a, b resource.Route) int { // fib_table_lookup; fib6_node_lookup
			if a.Dst.Bits() != b.Dst.Bits() {
				return b.Dst.Bits() - a.Dst.Bits()
			}
			return srcBits(b) - srcBits(a)
		})
		for _, r := range all {
			if r.TOS != 0 || r.Src.IsValid() && !r.Src.Contains(s.Local) {
				continue
			}
			if r.Type == resource.Throw {
				break // to the next table
			}
			if found, ok := w.through(r, s.Dev); ok {
				return found
			}
		}
	}
	return way{}
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

// tables are the tables that s is looked up in, one after the other; those
// that stand together are one to the kernel. Rules that look at what is not
// known of a session (marks, ports, users) count as if they were not for it.
func (w *kernel) tables(s resource.Sessions) [][]resource.Table {
	family := 4
	if s.Peer.Addr().Is6() {
		family = 6
	}
	rules := w.knownRules(family)
	own := slices.ContainsFunc(rules, func(r resource.Rule) bool { return r.Proto != resource.ProtoKernel })
	switch {
	case len(rules) > 0 && (own || family == 6):
		return lookUps(rules, s)
	case family == 6:
		return [][]resource.Table{{resource.TableLocal}, tableOf(s), {resource.TableMain}}
	case len(rules) > 0 || len(tableOf(s)) == 0: // fib_lookup: without rules of the node's own local and main are one
		return [][]resource.Table{{resource.TableLocal, resource.TableMain}, {resource.TableDefault}}
	default:
		return [][]resource.Table{{resource.TableLocal}, tableOf(s), {resource.TableMain}, {resource.TableDefault}}
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

// lookUps follows the rules for s (fib_rules_lookup).
func lookUps(rules []resource.Rule, s resource.Sessions) [][]resource.Table {
	var out [][]resource.Table
	for i := 0; i < len(rules); i++ {
		r := rules[i]
		if !isFor(r, s) {
			continue
		}
		switch r.Action {
		case resource.RuleLookup:
			out = append(out, []resource.Table{r.Table})
		case resource.RuleGoto:
			to := slices.IndexFunc(rules, func(o resource.Rule) bool { return o.Priority >= r.Goto })
			if to <= i {
				return out
			}
			i = to - 1
		case resource.RuleBlackhole, resource.RuleUnreachable, resource.RuleProhibit:
			return out
		}
	}
	return out
}

const tcp = 6 // IPPROTO_TCP

// isFor reports whether r is for packets of s (fib_rule_match).
func isFor(r resource.Rule, s resource.Sessions) bool {
	in := func(p netip.Prefix, a netip.Addr) bool { return !p.IsValid() || p.Contains(a) }
	matches := in(r.Src, s.Local) && in(r.Dst, s.Peer.Addr()) && r.TOS == 0 && r.OIF == "" &&
		(r.IIF == "" || r.IIF == "lo") && r.Mark&r.Mask == 0 && len(r.Extra) == 0 &&
		(r.IPProto == 0 || r.IPProto == tcp) && !r.L3MDev && r.UIDs == nil && r.SPorts == nil && r.DPorts == nil && r.Suppress == nil
	return matches != r.Not
}
