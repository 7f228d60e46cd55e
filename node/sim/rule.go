package sim

import (
	"cmp"
	"net/netip"
	"slices"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is the kernel's rules for policy rules (net/core/fib_rules.c, and
// the parts of each family in net/ipv4/fib_rules.c and net/ipv6/fib6_rules.c).
// The rules of one priority are changed together: a new one goes behind the
// others, and when one goes the others move up.

// makeRule makes the rules of the priority of k what is wanted of them: all,
// for the first of their keys.
func (w *kernel) makeRule(k resource.Key, want resource.Resource) error {
	family, priority, _, err := resource.ParseRuleKey(k)
	if err != nil {
		return err
	}
	if r, ok := want.(resource.Rule); want != nil && (!ok || r.Key() != k) {
		return engine.Internal.Errorf("%s cannot become %s", k, want.Key())
	}
	first := resource.RuleKey(family, priority, 0)
	if w.placed[first] {
		return nil
	}
	w.placed[first] = true
	w.look(rulesOf(family))
	now := resource.RulesAt(w.state, family, priority)
	next := resource.PlaceRules(now, family, priority, w.want)
	if slices.EqualFunc(now, next, resource.Rule.Same) {
		return nil
	}
	if err := placeRules(now, next); err != nil {
		return err
	}
	for i := range max(len(now), len(next)) {
		if at := resource.RuleKey(family, priority, i); i < len(next) {
			w.set(at, next[i])
		} else {
			w.set(at, nil)
		}
	}
	return nil
}

// placeRules makes the rules of one priority next, which were now.
func placeRules(now, next []resource.Rule) error {
	for _, r := range slices.Concat(now, next) {
		if err := modelledRule(r); err != nil {
			return err
		}
	}
	for i, r := range now {
		if slices.ContainsFunc(now[:i], func(o resource.Rule) bool { return r.TakenFor(o) }) {
			return unpredictable("a change beside two rules that the kernel takes for one: %s", r)
		}
	}
	if fewer(now, next) {
		return nil
	}
	same := 0
	for same < len(now) && same < len(next) && now[same].Same(next[same]) {
		same++
	}
	for i := same; i < len(next); i++ {
		if err := newRule(next[:i], next[i]); err != nil {
			return err
		}
	}
	return nil
}

// rules returns the rules of a family in the order in which they are tried.
func (w *kernel) rules(family int) []resource.Rule {
	w.look(rulesOf(family))
	return w.knownRules(family)
}

// knownRules is rules, as far as they are known, and without a look at more.
func (w *kernel) knownRules(family int) []resource.Rule {
	var out []resource.Rule
	for _, r := range w.state {
		if rule, ok := r.(resource.Rule); ok && rule.Family == family {
			out = append(out, rule)
		}
	}
	slices.SortFunc(out, func(a, b resource.Rule) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Nth, b.Nth))
	})
	return out
}

func rulesOf(family int) resource.Selector {
	return resource.Selector{Kind: resource.KindRule, Family: family}
}

// fewer reports whether next is now without some.
func fewer(now, next []resource.Rule) bool {
	for _, r := range now {
		if len(next) > 0 && r.Same(next[0]) {
			next = next[1:]
		}
	}
	return len(next) == 0
}

// modelledRule reports what there is about r that the model does not cover.
func modelledRule(r resource.Rule) error {
	badPrefix := func(p netip.Prefix) bool {
		return p.IsValid() && (p.Bits() == 0 || p.Addr().Is4() != (r.Family == 4))
	}
	badPorts := func(p *resource.Range) bool { return p != nil && max(p.First, p.Last) > 1<<16-1 }
	switch {
	case r.Family != 4 && r.Family != 6:
		return unpredictable("a rule of family %d: %s", r.Family, r)
	case len(r.Extra) > 0:
		return unpredictable("a change beside a rule with attributes that are not modelled: %s", r)
	case badPrefix(r.Src), badPrefix(r.Dst):
		return unpredictable("a rule with a prefix of another family or of no length: %s", r)
	case len(r.IIF) > 15, len(r.OIF) > 15:
		return unpredictable("a rule with the name of no link: %s", r)
	case !slices.Contains([]resource.RuleAction{resource.RuleLookup, resource.RuleGoto, resource.RuleNop,
		resource.RuleBlackhole, resource.RuleUnreachable, resource.RuleProhibit}, r.Action):
		return unpredictable("a rule with the action %s: %s", r.Action, r)
	case r.Action != resource.RuleLookup && (r.Table != 0 || r.L3MDev):
		return unpredictable("a rule with a table that it does not look into: %s", r)
	case r.Action == resource.RuleLookup && r.Table == 0 && !r.L3MDev && r.Family == 4:
		return unpredictable("a rule without a table, for which the kernel takes one that is empty: %s", r)
	case badPorts(r.SPorts), badPorts(r.DPorts), r.UIDs != nil && r.UIDs.Last == 1<<32-1, r.Suppress != nil && *r.Suppress == 1<<32-1:
		return unpredictable("a rule with a number that the kernel takes for none: %s", r)
	}
	return nil
}

// newRule adds r behind the rules of its priority (fib_newrule).
func newRule(before []resource.Rule, r resource.Rule) error {
	switch { // fib_nl2rule, fib_nl2rule_rtnl
	case r.Action != resource.RuleGoto && r.Goto != 0:
		return refuse("EINVAL", "Unexpected goto")
	case r.L3MDev && r.Table != 0:
		return refuse("EINVAL", "l3mdev and table are mutually exclusive")
	case r.UIDs != nil && r.UIDs.First > r.UIDs.Last:
		return refuse("EINVAL", "Invalid uid range")
	case badRange(r.SPorts):
		return refuse("EINVAL", "Invalid sport range")
	case badRange(r.DPorts):
		return refuse("EINVAL", "Invalid dport range")
	case r.Action == resource.RuleGoto && r.Goto <= r.Priority:
		return refuse("EINVAL", "Backward goto not supported")
	case slices.ContainsFunc(before, func(o resource.Rule) bool { return r.TakenFor(o) }):
		return refuse("EEXIST", "")
	case r.TOS&3 != 0: // fib4_rule_configure, fib6_rule_configure
		return refuse("EINVAL", "Invalid dsfield (tos): ECN bits must be 0")
	case r.Family == 4 && r.TOS&^0x1c != 0:
		return refuse("EINVAL", "Invalid tos")
	case r.Family == 6 && r.Action == resource.RuleLookup && r.Table == 0 && !r.L3MDev:
		return refuse("EINVAL", "Invalid table")
	}
	return nil
}

func badRange(ports *resource.Range) bool {
	return ports != nil && (ports.First == 0 || ports.First > ports.Last)
}

// flow is what the kernel looks up while it checks the gateway of a route: a
// packet of root's without a source or mark, over dev where that is not "".
type flow struct {
	dst netip.Addr
	dev string
}

// matches reports whether r is for f (fib_rule_match). To IPv4 the flow comes
// in by lo, to IPv6 by no link.
func (f flow) matches(r resource.Rule) bool {
	four := f.dst.Is4()
	is := (r.IIF == "" || four && r.IIF == "lo") &&
		(r.OIF == "" || r.OIF == f.dev) &&
		r.Mark&r.Mask == 0 &&
		(!r.Src.IsValid() || four && r.Src.Contains(netip.IPv4Unspecified())) &&
		(!r.Dst.IsValid() || r.Dst.Masked().Contains(f.dst)) &&
		r.TOS == 0 && !r.L3MDev && r.IPProto == 0 && r.SPorts == nil && r.DPorts == nil &&
		(r.UIDs == nil || r.UIDs.First == 0)
	return is != r.Not
}

// follow asks the rules of f's family, in order, where f goes
// (fib_rules_lookup): look looks into the table of a rule, and says whether it
// found what it looked for, or an errno. No rule with an answer is again.
func (w *kernel) follow(f flow, look func(r resource.Rule) (errno string)) (string, error) {
	family := 6
	if f.dst.Is4() {
		family = 4
	}
	rules := w.rules(family)
	for i := 0; i < len(rules); i++ {
		r := rules[i]
		if len(r.Extra) > 0 {
			return "", unpredictable("a gateway on a node with a rule that has attributes that are not modelled: %s", r)
		}
		if !f.matches(r) {
			continue
		}
		errno := again
		switch r.Action {
		case resource.RuleLookup:
			errno = look(r)
		case resource.RuleGoto:
			if to := slices.IndexFunc(rules, func(o resource.Rule) bool { return o.Priority == r.Goto }); to > i {
				i = to - 1
			}
		case resource.RuleNop:
		case resource.RuleUnreachable:
			errno = "ENETUNREACH"
		case resource.RuleProhibit:
			errno = "EACCES"
		default:
			errno = "EINVAL"
		}
		if errno != again {
			return errno, nil
		}
	}
	return again, nil
}

// ownRules reports whether a node has rules of a family that are not those of its start.
func (w *kernel) ownRules(family int) bool {
	return !slices.EqualFunc(w.rules(family), resource.DefaultRulesOf(family), resource.Rule.Same)
}

// lostRules reports whether a node has some of the rules of its start, and no others.
func (w *kernel) lostRules(family int) bool {
	rules, usual := w.rules(family), resource.DefaultRulesOf(family)
	return len(rules) < len(usual) && fewer(usual, rules)
}
