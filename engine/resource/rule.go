package resource

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// KindRule is the kind of a [Rule].
const KindRule Kind = "rule"

// Rule is a policy routing rule: which packets look into which table.
//
// The kernel tries rules by priority, and those of one priority in the order in
// which they were added, which Nth counts. So a rule is known by its priority
// and its place there: the kernel has no name for it, and two that agree in
// every field are two rules all the same.
type Rule struct {
	Family   int          `json:"family"`   // 4 or 6
	Priority uint32       `json:"priority"` // lower is tried first
	Nth      int          `json:"nth,omitempty"`
	Not      bool         `json:"invert,omitempty"` // for the packets that the rest does not describe
	Src      netip.Prefix `json:"src,omitzero"`     // zero: any
	Dst      netip.Prefix `json:"dst,omitzero"`     // zero: any
	IIF      string       `json:"iif,omitempty"`    // the link a packet came in by; lo for the node's own
	OIF      string       `json:"oif,omitempty"`    // the link that a socket is bound to
	Mark     uint32       `json:"mark,omitempty"`   // fwmark, of which Mask counts
	Mask     uint32       `json:"mask,omitempty"`
	TOS      uint8        `json:"tos,omitempty"`
	L3MDev   bool         `json:"l3mdev,omitempty"` // looks into the table of the packet's VRF
	UIDs     *Range       `json:"uids,omitempty"`   // the users whose sockets are meant; nil: any
	IPProto  uint8        `json:"ipproto,omitempty"`
	SPorts   *Range       `json:"sports,omitempty"`
	DPorts   *Range       `json:"dports,omitempty"`
	Action   RuleAction   `json:"action"`
	Table    Table        `json:"table,omitempty"` // of the action lookup
	Goto     uint32       `json:"goto,omitempty"`  // of the action goto: a priority
	// Suppress leaves a route that was found out where its prefix is no longer than this; nil: none.
	Suppress *uint32 `json:"suppress_prefixlength,omitempty"`
	Proto    Proto   `json:"proto"`
	Extra    Raw     `json:"extra,omitempty"` // attributes without a field here, as in Route
}

// Range is numbers from First to Last, both included. It is written "10-20", or
// "10" where they are one. One that ends before it starts is for a kernel to refuse.
type Range struct{ First, Last uint32 }

func (r Range) String() string {
	if r.First == r.Last {
		return strconv.FormatUint(uint64(r.First), 10)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// MarshalText implements encoding.TextMarshaler.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Range) UnmarshalText(b []byte) error {
	first, last, two := strings.Cut(string(b), "-")
	if !two {
		last = first
	}
	lo, err := strconv.ParseUint(first, 10, 32)
	hi, err2 := strconv.ParseUint(last, 10, 32)
	if err != nil || err2 != nil {
		return fmt.Errorf("%q is not a range: want a number, or two such as 10-20", b)
	}
	*r = Range{uint32(lo), uint32(hi)}
	return nil
}

// RuleAction says what becomes of a packet that a rule is for: FR_ACT_*.
type RuleAction uint8

// The actions.
const (
	RuleLookup      RuleAction = 1
	RuleGoto        RuleAction = 2
	RuleNop         RuleAction = 3
	RuleBlackhole   RuleAction = 6
	RuleUnreachable RuleAction = 7
	RuleProhibit    RuleAction = 8
)

var actionNames = map[RuleAction]string{
	RuleLookup: "lookup", RuleGoto: "goto", RuleNop: "nop",
	RuleBlackhole: "blackhole", RuleUnreachable: "unreachable", RuleProhibit: "prohibit",
}

func (a RuleAction) String() string { return name(actionNames, a) }

// MarshalText implements encoding.TextMarshaler.
func (a RuleAction) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *RuleAction) UnmarshalText(b []byte) error {
	return parse(numbers(actionNames), a, b, 8, "rule action")
}

// RuleKey is the key of the rule of this place, from 0 on, among those of one priority.
func RuleKey(family int, priority uint32, nth int) Key {
	k := fmt.Sprintf("rule ipv%d priority %d", family, priority)
	if nth != 0 {
		k += fmt.Sprintf(" #%d", nth+1)
	}
	return Key(k)
}

// ParseRuleKey is the reverse of [RuleKey].
func ParseRuleKey(k Key) (family int, priority uint32, nth int, err error) {
	first, place, several := strings.Cut(string(k), " #")
	if several {
		nth, err = strconv.Atoi(place)
		nth--
	}
	if err == nil {
		_, err = fmt.Sscanf(first, "rule ipv%d priority %d", &family, &priority)
	}
	if err != nil || RuleKey(family, priority, nth) != k {
		return 0, 0, 0, fmt.Errorf("%q is not the key of a rule", k)
	}
	return family, priority, nth, nil
}

// Key implements [Resource].
func (r Rule) Key() Key { return RuleKey(r.Family, r.Priority, r.Nth) }

// Same reports whether r and o are equal but for their place.
func (r Rule) Same(o Rule) bool {
	r.Nth, o.Nth = 0, 0
	return r.equal(o)
}

// equal is reflect.DeepEqual, but fast: rules are in most footprints.
func (r Rule) equal(o Rule) bool {
	return r.Family == o.Family && r.Priority == o.Priority && r.Nth == o.Nth && r.Not == o.Not && r.Src == o.Src && r.Dst == o.Dst &&
		r.IIF == o.IIF && r.OIF == o.OIF && r.Mark == o.Mark && r.Mask == o.Mask && r.TOS == o.TOS && r.L3MDev == o.L3MDev &&
		equalAt(r.UIDs, o.UIDs) && r.IPProto == o.IPProto && equalAt(r.SPorts, o.SPorts) && equalAt(r.DPorts, o.DPorts) &&
		r.Action == o.Action && r.Table == o.Table && r.Goto == o.Goto && equalAt(r.Suppress, o.Suppress) && r.Proto == o.Proto &&
		slices.Equal(r.Extra, o.Extra)
}

// equalAt compares what a and b point at.
func equalAt[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

// TakenFor reports whether the kernel refuses to add r where old is, of the same
// priority, because it takes one for the other (rule_exists): it does not look at
// Not and Goto, nor at a prefix or a TOS that r lacks.
func (r Rule) TakenFor(old Rule) bool {
	if !r.Src.IsValid() {
		old.Src = r.Src
	}
	if !r.Dst.IsValid() {
		old.Dst = r.Dst
	}
	if r.TOS == 0 {
		old.TOS = 0
	}
	old.Not, old.Goto = r.Not, r.Goto
	return r.Same(old)
}

// RulesAt returns the rules that s has at a priority, in the order in which the
// kernel tries them.
func RulesAt(s State, family int, priority uint32) []Rule {
	var out []Rule
	for _, r := range s {
		if rule, ok := r.(Rule); ok && rule.Family == family && rule.Priority == priority {
			out = append(out, rule)
		}
	}
	slices.SortFunc(out, func(a, b Rule) int { return a.Nth - b.Nth })
	return out
}

// PlaceRules returns what want makes of now, the rules of one priority, in their
// order: a rule goes to its place, and those behind one that is gone move up.
func PlaceRules(now []Rule, family int, priority uint32, want State) []Rule {
	places := map[int]Rule{}
	for i, r := range now {
		places[i] = r
	}
	for k, r := range want {
		f, p, nth, err := ParseRuleKey(k)
		if err != nil || f != family || p != priority {
			continue
		}
		delete(places, nth)
		if rule, ok := r.(Rule); ok {
			places[nth] = rule
		}
	}
	var out []Rule
	for _, nth := range slices.Sorted(maps.Keys(places)) {
		r := places[nth]
		r.Nth = len(out)
		out = append(out, r)
	}
	return out
}

// MoveUpRules gives the rules of s the places that the kernel would: where one is
// gone, those behind it of its priority move up.
func MoveUpRules(s State) {
	seen := map[Key]bool{} // the first of each priority
	for _, r := range All[Rule](s) {
		first := RuleKey(r.Family, r.Priority, 0)
		if seen[first] {
			continue
		}
		seen[first] = true
		rules := RulesAt(s, r.Family, r.Priority)
		for _, rule := range rules {
			delete(s, rule.Key())
		}
		for _, rule := range PlaceRules(rules, r.Family, r.Priority, nil) {
			s[rule.Key()] = rule
		}
	}
}

// DefaultRules are the rules that a node has from its start on.
func DefaultRules() []Rule { return append(DefaultRulesOf(4), DefaultRulesOf(6)...) }

// DefaultRulesOf are those of a family, in the order in which they are tried.
func DefaultRulesOf(family int) []Rule {
	rule := func(priority uint32, t Table) Rule {
		return Rule{Family: family, Priority: priority, Action: RuleLookup, Table: t, Proto: ProtoKernel}
	}
	rules := []Rule{rule(0, TableLocal), rule(32766, TableMain)}
	if family == 4 {
		rules = append(rules, rule(32767, TableDefault))
	}
	return rules
}

// Match implements [Resource]: by family, table, and the links that it names.
func (r Rule) Match(s Selector) bool {
	return (s.Family == 0 || s.Family == r.Family) &&
		(s.Table == 0 || s.Table == r.Table) &&
		(s.Name == "" || s.Name == r.IIF || s.Name == r.OIF)
}

// Volatile implements [Resource].
func (r Rule) Volatile() bool { return false }

func (r Rule) String() string {
	var b strings.Builder
	if r.Family == 6 && !r.Src.IsValid() && !r.Dst.IsValid() { // nothing else tells it from one of IPv4
		b.WriteString("ipv6 ")
	}
	fmt.Fprintf(&b, "%d:", r.Priority)
	if r.Not {
		b.WriteString(" not")
	}
	if r.Src.IsValid() {
		fmt.Fprintf(&b, " from %s", r.Src)
	} else {
		b.WriteString(" from all")
	}
	if r.Dst.IsValid() {
		fmt.Fprintf(&b, " to %s", r.Dst)
	}
	if r.IIF != "" {
		fmt.Fprintf(&b, " iif %s", r.IIF)
	}
	if r.OIF != "" {
		fmt.Fprintf(&b, " oif %s", r.OIF)
	}
	if r.Mark != 0 || r.Mask != 0 {
		fmt.Fprintf(&b, " fwmark %#x/%#x", r.Mark, r.Mask)
	}
	if r.TOS != 0 {
		fmt.Fprintf(&b, " tos %#x", r.TOS)
	}
	r.writeRest(&b)
	return b.String()
}

func (r Rule) writeRest(b *strings.Builder) {
	for _, f := range []struct {
		word string
		is   *Range
	}{{"uidrange", r.UIDs}, {"sport", r.SPorts}, {"dport", r.DPorts}} {
		if f.is != nil {
			fmt.Fprintf(b, " %s %s", f.word, f.is)
		}
	}
	if r.IPProto != 0 {
		fmt.Fprintf(b, " ipproto %d", r.IPProto)
	}
	switch {
	case r.L3MDev:
		b.WriteString(" l3mdev")
	case r.Action == RuleLookup:
		fmt.Fprintf(b, " lookup %s", r.Table)
	case r.Action == RuleGoto:
		fmt.Fprintf(b, " goto %d", r.Goto)
	default:
		fmt.Fprintf(b, " %s", r.Action)
	}
	if r.Suppress != nil {
		fmt.Fprintf(b, " suppress_prefixlength %d", *r.Suppress)
	}
	if r.Proto != ProtoStatic {
		fmt.Fprintf(b, " proto %s", r.Proto)
	}
	r.Extra.write(b)
}
