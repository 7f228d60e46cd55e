package resource

import (
	"fmt"
	"net/netip"
	"strings"
)

// KindNeigh is the kind of a [Neigh].
const KindNeigh Kind = "neigh"

// Neigh is an entry of a link's neighbour table (ARP, ND), or of its proxies.
type Neigh struct {
	Dev       string     `json:"dev"`
	Addr      netip.Addr `json:"addr"`
	MAC       string     `json:"mac,omitempty"`
	Permanent bool       `json:"permanent"`       // set by somebody; otherwise learned, and gone when it likes
	Proxy     bool       `json:"proxy,omitempty"` // the node answers for it
	NoARP     bool       `json:"noarp,omitempty"` // taken to be valid, never asked for
	Router    bool       `json:"router,omitempty"`
	Managed   bool       `json:"managed,omitempty"` // the kernel keeps it resolved
	Proto     Proto      `json:"proto,omitempty"`
	Extra     Raw        `json:"extra,omitempty"` // attributes without a field here, as in Route
}

// NeighKey is the key of the neighbour a on dev.
func NeighKey(dev string, a netip.Addr) Key { return Neigh{Dev: dev, Addr: a}.Key() }

// Key implements [Resource].
func (n Neigh) Key() Key {
	k := "neigh " + n.Dev + " " + n.Addr.String()
	if n.Proxy {
		k += " proxy"
	}
	return Key(k)
}

// Match implements [Resource].
func (n Neigh) Match(s Selector) bool {
	return (s.Name == "" || s.Name == n.Dev) &&
		(!s.Covers.IsValid() || s.Covers == n.Addr) &&
		(!s.Dst.IsValid() || s.Dst.Contains(n.Addr)) &&
		(s.Family == 0 || s.Family == family(n.Addr))
}

// Volatile implements [Resource]: what was learned comes and goes by itself.
func (n Neigh) Volatile() bool { return !n.Permanent && !n.Proxy && !n.NoARP && !n.Managed }

func (n Neigh) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s dev %s", n.Addr, n.Dev)
	if n.MAC != "" {
		fmt.Fprintf(&b, " lladdr %s", n.MAC)
	}
	for _, f := range []struct {
		is   bool
		word string
	}{{n.Permanent, "permanent"}, {n.Proxy, "proxy"}, {n.NoARP, "noarp"}, {n.Router, "router"}, {n.Managed, "managed"}} {
		if f.is {
			b.WriteString(" " + f.word)
		}
	}
	if n.Proto != 0 {
		fmt.Fprintf(&b, " proto %s", n.Proto)
	}
	n.Extra.write(&b)
	return b.String()
}
