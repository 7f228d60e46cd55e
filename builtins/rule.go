package builtins

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"runbook/engine"
	"runbook/engine/resource"
)

func init() {
	Operations["rule.add"] = RuleAdd{}
	Operations["rule.delete"] = RuleDelete{}
	Operations["rule.list"] = RuleList{}
}

// RuleAdd gives a node a policy routing rule: which packets look into which table.
//
// If there is a rule as the arguments say, at Priority where that is given and
// at any where it is not, it changes nothing. Otherwise the rule is added behind
// those of its priority; other rules are untouched. It is lost at reboot.
//
// It returns changed (a bool) and rule.
//
//	node.rule.add(src = "10.20.0.0/16", table = 100, priority = 1000)
//	node.rule.add(mark = 0x10, mask = 0xff, table = 100)
//	node.rule.add(dst = "10.21.0.0/16", action = "prohibit")
type RuleAdd struct {
	Src      netip.Prefix         `json:"src,omitzero"`       // packets from here
	Dst      netip.Prefix         `json:"dst,omitzero"`       // packets to here
	Table    resource.Table       `json:"table,omitempty"`    // of the action lookup
	Priority *uint32              `json:"priority,omitempty"` // lower is tried first; before all that the node has but the first, where left out
	IIF      string               `json:"iif,omitempty"`      // packets that came in by this link; lo for the node's own
	OIF      string               `json:"oif,omitempty"`      // packets of sockets that are bound to this link
	Mark     uint32               `json:"mark,omitempty"`     // packets with this firewall mark
	Mask     uint32               `json:"mask,omitempty"`     // which bits of the mark count; all where left out
	TOS      uint8                `json:"tos,omitempty"`
	IPProto  uint8                `json:"ipproto,omitempty"`               // 6 is TCP, 17 UDP
	SPorts   *resource.Range      `json:"sports,omitempty"`                // source ports, such as "53" or "1024-65535"
	DPorts   *resource.Range      `json:"dports,omitempty"`                // destination ports
	UIDs     *resource.Range      `json:"uids,omitempty"`                  // sockets of these users
	Invert   bool                 `json:"invert,omitempty"`                // all packets but those
	Action   *resource.RuleAction `json:"action,omitempty"`                // lookup where left out; or goto, nop, blackhole, unreachable, prohibit
	Goto     uint32               `json:"goto,omitempty"`                  // of the action goto: the priority of the rule to go on with
	Suppress *uint32              `json:"suppress_prefixlength,omitempty"` // go on where the route that was found has a prefix no longer than this
	Family   int                  `json:"family,omitempty"`                // 4 or 6; that of src and dst, or 4, where left out
	Proto    resource.Proto       `json:"proto,omitempty"`                 // who made it; static where left out
}

func (o RuleAdd) String() string {
	r := o.rule()
	r.Proto = resource.ProtoStatic
	text := r.String()
	if o.Priority == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	return text
}

// Validate checks what no node needs to be asked for.
func (o RuleAdd) Validate() error {
	if err := checkRule(o.Family, o.Src, o.Dst); err != nil {
		return err
	}
	action := o.action()
	switch {
	case action == resource.RuleLookup && o.Table == 0:
		return fmt.Errorf("needs table, or an action other than lookup")
	case action != resource.RuleLookup && o.Table != 0:
		return fmt.Errorf("a rule of the action %s looks into no table: leave it out", action)
	case action == resource.RuleGoto && o.Goto == 0:
		return fmt.Errorf("the action goto needs goto, a priority")
	case action != resource.RuleGoto && o.Goto != 0:
		return fmt.Errorf("goto is for the action goto")
	case action == resource.RuleGoto && o.Priority == nil:
		return fmt.Errorf("the action goto needs priority: it can only lead to a higher one")
	case action == resource.RuleGoto && o.Goto <= *o.Priority:
		return fmt.Errorf("goto is %d and priority %d: it can only lead to a higher one", o.Goto, *o.Priority)
	case o.Suppress != nil && action != resource.RuleLookup:
		return fmt.Errorf("suppress_prefixlength is for the action lookup")
	case o.Mask != 0 && o.Mark&^o.Mask != 0:
		return fmt.Errorf("mark %#x has bits that mask %#x leaves out", o.Mark, o.Mask)
	case o.TOS&3 != 0:
		return fmt.Errorf("tos is %#x: its lowest two bits are not for routing", o.TOS)
	}
	for name, r := range map[string]*resource.Range{"sports": o.SPorts, "dports": o.DPorts} {
		if r != nil && (r.First == 0 || r.First > r.Last || r.Last > 65535) {
			return fmt.Errorf("%s is %s: want ports from 1 to 65535, such as 80 or 1024-2047", name, r)
		}
	}
	if o.UIDs != nil && o.UIDs.First > o.UIDs.Last {
		return fmt.Errorf("uids is %s: want the lower one first", o.UIDs)
	}
	return nil
}

// checkRule checks the arguments that all operations on rules have.
func checkRule(family int, src, dst netip.Prefix) error {
	if err := checkFamily(family); err != nil {
		return err
	}
	for name, p := range map[string]netip.Prefix{"src": src, "dst": dst} {
		switch {
		case !p.IsValid():
		case p.Masked() != p:
			return fmt.Errorf("%s %s has host bits set: did you mean %s", name, p, p.Masked())
		case p.Addr().Is4In6():
			return fmt.Errorf("%s %s is an IPv4 address written as IPv6", name, p)
		case family != 0 && (family == 4) != p.Addr().Is4():
			return fmt.Errorf("%s %s is not of family %d", name, p, family)
		}
	}
	if src.IsValid() && dst.IsValid() && src.Addr().Is4() != dst.Addr().Is4() {
		return fmt.Errorf("src %s and dst %s are of different families", src, dst)
	}
	return nil
}

// ruleFamily is the family of a rule with these arguments.
func ruleFamily(family int, src, dst netip.Prefix) int {
	switch {
	case family != 0:
		return family
	case src.IsValid() && src.Addr().Is6() || dst.IsValid() && dst.Addr().Is6():
		return 6
	default:
		return 4
	}
}

// rulePrefix is p as a rule holds it: from everywhere is no prefix.
func rulePrefix(p netip.Prefix) netip.Prefix {
	if p.Bits() == 0 {
		return netip.Prefix{}
	}
	return p
}

func (o RuleAdd) action() resource.RuleAction {
	if o.Action == nil {
		return resource.RuleLookup
	}
	return *o.Action
}

// rule is what is asked for, with the kernel's defaults where nothing is said.
func (o RuleAdd) rule() resource.Rule {
	r := resource.Rule{
		Family: ruleFamily(o.Family, o.Src, o.Dst), Not: o.Invert, Src: rulePrefix(o.Src), Dst: rulePrefix(o.Dst), IIF: o.IIF, OIF: o.OIF,
		Mark: o.Mark, Mask: o.Mask, TOS: o.TOS, UIDs: o.UIDs, IPProto: o.IPProto, SPorts: o.SPorts, DPorts: o.DPorts,
		Action: o.action(), Table: o.Table, Goto: o.Goto, Suppress: o.Suppress, Proto: cmp.Or(o.Proto, resource.ProtoStatic),
	}
	if o.Priority != nil {
		r.Priority = *o.Priority
	}
	if r.Mark != 0 && r.Mask == 0 {
		r.Mask = 1<<32 - 1
	}
	return r
}

// Plan implements [engine.Change].
func (o RuleAdd) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	want := o.rule()
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindRule, Family: want.Family}})
	if err != nil {
		return nil, err
	}
	rules := inOrder(s)
	if i := slices.IndexFunc(rules, o.matches); i >= 0 {
		return resource.Of(rules[i]), nil
	}
	if o.Priority == nil {
		want.Priority = chosenPriority(rules)
	}
	want.Nth = len(resource.RulesAt(s, want.Family, want.Priority))
	return resource.Of(want), nil
}

// inOrder returns the rules of s in the order in which they are tried.
func inOrder(s resource.State) []resource.Rule {
	rules := resource.All[resource.Rule](s)
	slices.SortFunc(rules, func(a, b resource.Rule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Nth, b.Nth))
	})
	return rules
}

// ownRules reports whether a node has rules of a family that are not those of
// its start: the kernel looks a next hop up by them.
func ownRules(ctx context.Context, n engine.Reader, family int) bool {
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindRule, Family: family}})
	return err == nil && !slices.EqualFunc(inOrder(s), resource.DefaultRulesOf(family), resource.Rule.Same)
}

// chosenPriority is the one that the kernel gives to a rule without: just before
// the second of those that there are.
func chosenPriority(rules []resource.Rule) uint32 {
	if len(rules) < 2 || rules[1].Priority == 0 {
		return 0
	}
	return rules[1].Priority - 1
}

// matches reports whether have is as the arguments say.
func (o RuleAdd) matches(have resource.Rule) bool {
	want := o.rule()
	if o.Priority == nil {
		want.Priority = have.Priority
	}
	if o.Proto == 0 {
		want.Proto = have.Proto
	}
	return have.Same(want)
}

// Result implements [engine.Change].
func (o RuleAdd) Result(changed bool, s resource.State) any {
	result := map[string]any{"changed": changed, "rule": nil}
	rules := inOrder(s)
	if i := slices.IndexFunc(rules, o.matches); i >= 0 {
		result["rule"] = fields(rules[i])
	}
	return result
}

// Explain implements [engine.Explainer].
func (o RuleAdd) Explain(ctx context.Context, n engine.Reader, refused *engine.NodeError) (cause, hint string) {
	if refused.Errno != "EEXIST" || o.Priority == nil {
		return "", ""
	}
	want := o.rule()
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindRule, Family: want.Family}})
	if err != nil {
		return "", ""
	}
	at := resource.RulesAt(s, want.Family, want.Priority)
	i := slices.IndexFunc(at, want.TakenFor)
	if i < 0 {
		return "", ""
	}
	return fmt.Sprintf("the kernel takes it for a rule that there is (%s)", at[i]),
		"it tells rules of one priority apart neither by invert and goto nor by a src, dst or tos that the new one lacks: give another priority"
}

// RuleDelete makes sure that a node has no rule that the arguments select; where
// there is none, nothing is changed. What is not given may be anything. Those
// that every node has, for the tables local, main and default, can be deleted like others.
//
// It returns changed (a bool).
//
//	node.rule.delete(priority = 1000)
//	node.rule.delete(src = "10.20.0.0/16", table = 100)
type RuleDelete struct {
	Src      netip.Prefix   `json:"src,omitzero"`       // exactly; 0.0.0.0/0 selects those without
	Dst      netip.Prefix   `json:"dst,omitzero"`       // exactly
	Table    resource.Table `json:"table,omitempty"`    // only those that look into this table
	Priority *uint32        `json:"priority,omitempty"` // only of this priority
	IIF      string         `json:"iif,omitempty"`
	OIF      string         `json:"oif,omitempty"`
	Mark     *uint32        `json:"mark,omitempty"`
	Family   int            `json:"family,omitempty"` // 4 or 6; that of src and dst, or 4, where left out
	Proto    resource.Proto `json:"proto,omitempty"`  // only those that this made
}

func (o RuleDelete) String() string {
	if o.Priority != nil {
		return fmt.Sprintf("priority %d", *o.Priority)
	}
	return ""
}

// Validate checks what no node needs to be asked for.
func (o RuleDelete) Validate() error {
	if o.Priority == nil && !o.Src.IsValid() && !o.Dst.IsValid() && o.Table == 0 && o.IIF == "" && o.OIF == "" && o.Mark == nil {
		return fmt.Errorf("selects every rule: give priority, src, dst, table, iif, oif or mark")
	}
	return checkRule(o.Family, o.Src, o.Dst)
}

// Plan implements [engine.Change]. Where one of several rules of a priority
// goes, those behind it move up.
func (o RuleDelete) Plan(ctx context.Context, n engine.Reader) (resource.State, error) {
	family := ruleFamily(o.Family, o.Src, o.Dst)
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindRule, Family: family}})
	if err != nil {
		return nil, err
	}
	goes := map[uint32]resource.State{} // by priority
	for _, r := range resource.All[resource.Rule](s) {
		if o.selects(r) {
			if goes[r.Priority] == nil {
				goes[r.Priority] = resource.State{}
			}
			goes[r.Priority][r.Key()] = nil
		}
	}
	want := resource.State{}
	for priority, gone := range goes {
		now := resource.RulesAt(s, family, priority)
		next := resource.PlaceRules(now, family, priority, gone)
		for i := range now {
			if i < len(next) {
				want[next[i].Key()] = next[i]
			} else {
				want[resource.RuleKey(family, priority, i)] = nil
			}
		}
	}
	return want, nil
}

func (o RuleDelete) selects(r resource.Rule) bool {
	return (!o.Src.IsValid() || r.Src == rulePrefix(o.Src)) &&
		(!o.Dst.IsValid() || r.Dst == rulePrefix(o.Dst)) &&
		(o.Table == 0 || r.Table == o.Table) &&
		(o.Priority == nil || r.Priority == *o.Priority) &&
		(o.IIF == "" || r.IIF == o.IIF) &&
		(o.OIF == "" || r.OIF == o.OIF) &&
		(o.Mark == nil || r.Mark == *o.Mark) &&
		(o.Proto == 0 || r.Proto == o.Proto)
}

// Result implements [engine.Change].
func (o RuleDelete) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed}
}

// RuleList returns the node's policy routing rules in the order in which they
// are tried, those of IPv4 first.
//
//	[r.priority for r in node.rule.list(table = 100)]
type RuleList struct {
	Family int            `json:"family,omitempty"` // only 4 or 6
	Table  resource.Table `json:"table,omitempty"`  // only those that look into this table
	Dev    string         `json:"dev,omitempty"`    // only those with this link as iif or oif, which need not be there
}

func (o RuleList) String() string { return o.Dev }

// Validate checks the arguments.
func (o RuleList) Validate() error { return checkFamily(o.Family) }

// Look implements [engine.Probe].
func (o RuleList) Look(ctx context.Context, n engine.Reader) (any, error) {
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindRule, Family: o.Family, Table: o.Table, Name: o.Dev}})
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, r := range inOrder(s) {
		out = append(out, fields(r))
	}
	return out, nil
}
