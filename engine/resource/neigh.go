package resource

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// KindNeigh is the kind of a [Neigh].
const KindNeigh Kind = "neigh"

// Neigh is an entry of a link's neighbour table (ARP, ND), or of its proxies.
// An entry that is neither permanent, nor managed, nor a proxy was learned.
type Neigh struct {
	Dev       string     `json:"dev,omitempty"` // the link; "" of a proxy on every link
	Addr      netip.Addr `json:"addr"`
	MAC       string     `json:"mac,omitempty"` // "" of a proxy, and of a managed entry, whose own comes and goes
	Permanent bool       `json:"permanent,omitempty"`
	Proxy     bool       `json:"proxy,omitempty"` // the node answers for it
	NoARP     bool       `json:"noarp,omitempty"` // taken to be valid, and dropped when it is not used
	Router    bool       `json:"router,omitempty"`
	Managed   bool       `json:"managed,omitempty"`      // the kernel keeps it resolved
	External  bool       `json:"extern_learn,omitempty"` // a control plane's
	Proto     Proto      `json:"proto,omitempty"`        // who set it
	Extra     Raw        `json:"extra,omitempty"`        // attributes without a field here, as in Route
}

// NeighKey is the key of the neighbour a on dev.
func NeighKey(dev string, a netip.Addr) Key { return Neigh{Dev: dev, Addr: a}.Key() }

// ParseNeighKey is the reverse of [Neigh.Key]: an entry of which only what its key says is set.
func ParseNeighKey(k Key) (Neigh, error) {
	var n Neigh
	words := strings.Fields(string(k))
	if len(words) >= 3 {
		n.Dev = strings.TrimPrefix(words[1], "*")
		n.Addr, _ = netip.ParseAddr(words[2])
		n.Proxy = len(words) > 3
	}
	if !n.Addr.IsValid() || n.Key() != k {
		return n, fmt.Errorf("%q is not the key of a neighbour", k)
	}
	return n, nil
}

// Key implements [Resource].
func (n Neigh) Key() Key {
	k := "neigh " + cmp.Or(n.Dev, "*") + " " + n.Addr.String()
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

// Volatile implements [Resource]: what was learned comes and goes by itself. So
// do the entries that the kernel need not ask for, which it makes of its own.
func (n Neigh) Volatile() bool { return !n.Permanent && !n.Proxy && !n.Managed }

func (n Neigh) String() string {
	var b strings.Builder
	b.WriteString(n.Addr.String())
	if n.Dev != "" {
		fmt.Fprintf(&b, " dev %s", n.Dev)
	}
	if n.MAC != "" {
		fmt.Fprintf(&b, " lladdr %s", n.MAC)
	}
	for _, f := range []struct {
		is   bool
		word string
	}{{n.Permanent, "permanent"}, {n.Proxy, "proxy"}, {n.NoARP, "noarp"}, {n.Router, "router"}, {n.Managed, "managed"}, {n.External, "extern_learn"}} {
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
