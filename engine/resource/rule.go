package resource

import (
	"fmt"
	"net/netip"
	"strings"
)

// KindRule is the kind of a [Rule].
const KindRule Kind = "rule"

// Rule is a policy routing rule: which packets look into which table. The
// kernel tells rules apart by all of their fields; those that agree in all
// are counted by Nth.
type Rule struct {
	Family   int          `json:"family"`   // 4 or 6
	Priority uint32       `json:"priority"` // lower is tried first
	Not      bool         `json:"not,omitempty"`
	Src      netip.Prefix `json:"src,omitzero"`
	Dst      netip.Prefix `json:"dst,omitzero"`
	IIF      string       `json:"iif,omitempty"` // the link a packet came in by
	OIF      string       `json:"oif,omitempty"` // the link that a socket is bound to
	Mark     uint32       `json:"mark,omitempty"`
	Mask     uint32       `json:"mask,omitempty"` // of Mark
	TOS      uint8        `json:"tos,omitempty"`
	Action   RuleAction   `json:"action"`
	Table    Table        `json:"table,omitempty"` // of the action lookup
	Goto     uint32       `json:"goto,omitempty"`  // of the action goto: a priority
	Proto    Proto        `json:"proto"`
	Nth      int          `json:"nth,omitempty"`
	Extra    Raw          `json:"extra,omitempty"` // attributes without a field here, as in Route
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
func (a *RuleAction) UnmarshalText(b []byte) error { return parse(actionNames, a, b, 8, "rule action") }

// Key implements [Resource].
func (r Rule) Key() Key {
	k := fmt.Sprintf("rule ipv%d %s", r.Family, r)
	if r.Nth != 0 {
		k += fmt.Sprintf(" #%d", r.Nth+1)
	}
	return Key(k)
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
	fmt.Fprintf(&b, "priority %d", r.Priority)
	if r.Not {
		b.WriteString(" not")
	}
	if r.Src.IsValid() {
		fmt.Fprintf(&b, " from %s", r.Src)
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
	switch r.Action {
	case RuleLookup:
		fmt.Fprintf(&b, " lookup %s", r.Table)
	case RuleGoto:
		fmt.Fprintf(&b, " goto %d", r.Goto)
	default:
		fmt.Fprintf(&b, " %s", r.Action)
	}
	if r.Proto != ProtoStatic {
		fmt.Fprintf(&b, " proto %s", r.Proto)
	}
	r.Extra.write(&b)
	return b.String()
}
