package resource

import (
	"fmt"
	"strings"
)

// KindNexthop is the kind of a [Nexthop].
const KindNexthop Kind = "nexthop"

// Nexthop is a nexthop object, which routes may use by its number: one hop, a
// blackhole, or a group of others. No operation makes one, so far; they are
// carried, and put back whole where a link goes down.
type Nexthop struct {
	ID        uint32        `json:"id"`
	Family    int           `json:"family,omitempty"` // 4, 6; 0 of a group
	Hop       Hop           `json:"hop,omitzero"`
	Blackhole bool          `json:"blackhole,omitempty"`
	FDB       bool          `json:"fdb,omitempty"`
	Group     []GroupMember `json:"group,omitempty"`
	Scope     Scope         `json:"scope,omitempty"`
	Proto     Proto         `json:"proto"`
	Extra     Raw           `json:"extra,omitempty"` // attributes without a field here, as in Route
}

// GroupMember is one nexthop object of a group.
type GroupMember struct {
	ID     uint32 `json:"id"`
	Weight int    `json:"weight"` // 1 to 65536
}

// NexthopKey is the key of the nexthop object with this number.
func NexthopKey(id uint32) Key { return Key(fmt.Sprintf("nexthop %d", id)) }

// ParseNexthopKey is the reverse of [NexthopKey].
func ParseNexthopKey(k Key) (id uint32, err error) {
	if _, err := fmt.Sscanf(string(k), "nexthop %d", &id); err != nil || NexthopKey(id) != k {
		return 0, fmt.Errorf("%q is not the key of a nexthop object", k)
	}
	return id, nil
}

// Key implements [Resource].
func (n Nexthop) Key() Key { return NexthopKey(n.ID) }

// Match implements [Resource]: by the link of its hop. A group is on no link.
func (n Nexthop) Match(s Selector) bool {
	return (s.Name == "" || s.Name == n.Hop.Dev) && (s.Family == 0 || s.Family == n.Family)
}

// Volatile implements [Resource].
func (n Nexthop) Volatile() bool { return false }

func (n Nexthop) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "id %d", n.ID)
	for i, m := range n.Group {
		b.WriteString(map[bool]string{true: " group ", false: "/"}[i == 0])
		fmt.Fprintf(&b, "%d", m.ID)
		if m.Weight != 1 {
			fmt.Fprintf(&b, ",%d", m.Weight)
		}
	}
	n.Hop.write(&b)
	if n.Blackhole {
		b.WriteString(" blackhole")
	}
	if n.FDB {
		b.WriteString(" fdb")
	}
	if n.Scope != ScopeGlobal {
		fmt.Fprintf(&b, " scope %s", n.Scope)
	}
	if n.Proto != ProtoStatic {
		fmt.Fprintf(&b, " proto %s", n.Proto)
	}
	n.Extra.write(&b)
	return b.String()
}
