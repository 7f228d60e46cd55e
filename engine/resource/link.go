package resource

import (
	"fmt"
	"strings"
)

// KindLink is the kind of a [Link].
const KindLink Kind = "link"

// Link is a network interface. Counters and the interface index are not part
// of it: the first never stand still, the second differs on every node.
type Link struct {
	Name    string `json:"name"`
	Type    string `json:"type"` // "ether", "veth", "bridge", "loopback", …: the kernel's kind where it has one
	MAC     string `json:"mac,omitempty"`
	MTU     int    `json:"mtu"`              // bytes
	Up      bool   `json:"up"`               // the administrator wants it up
	Carrier bool   `json:"carrier"`          // it can carry packets now
	Master  string `json:"master,omitempty"` // the bridge or bond that it is a port of
	Lower   string `json:"lower,omitempty"`  // the link of this node that it is made over, as a VLAN is, or a veth's other end
	NoARP   bool   `json:"noarp,omitempty"`
	Alias   string `json:"alias,omitempty"`
	MaxMTU  int    `json:"max_mtu,omitempty"` // what its driver takes; 0: it does not say
	// Conf is what decides about the addresses and routes of the link when it or they change.
	Conf LinkConf `json:"conf,omitzero"`
}

// LinkConf is sysctls of a link, as they are in force: what all links and the
// link itself are set to, taken together as the kernel does. Zero is how a link comes.
type LinkConf struct {
	PromoteSecondaries bool  `json:"promote_secondaries,omitempty"` // IPv4: a secondary address outlives its primary
	IgnoreLinkdown4    bool  `json:"ignore_linkdown4,omitempty"`    // ignore_routes_with_linkdown
	IgnoreLinkdown6    bool  `json:"ignore_linkdown6,omitempty"`
	KeepAddrOnDown     bool  `json:"keep_addr_on_down,omitempty"` // IPv6: permanent addresses stay when the link goes down
	DisableIPv6        bool  `json:"disable_ipv6,omitempty"`
	Forwarding6        bool  `json:"forwarding6,omitempty"`   // IPv6: it is a router's, with anycast addresses
	NoRA               bool  `json:"no_ra,omitempty"`         // IPv6: it takes no router advertisements
	NoDAD              bool  `json:"no_dad,omitempty"`        // IPv6: addresses are not tried before they are used
	AddrGenMode        uint8 `json:"addr_gen_mode,omitempty"` // of link-local addresses: 0 from the MAC, 1 none, 2 and 3 from a secret
}

// LinkKey is the key of the link called name.
func LinkKey(name string) Key { return Key("link " + name) }

// Key implements [Resource].
func (l Link) Key() Key { return LinkKey(l.Name) }

// Match implements [Resource].
func (l Link) Match(s Selector) bool { return s.Name == "" || s.Name == l.Name }

// Volatile implements [Resource].
func (l Link) Volatile() bool { return false }

func (l Link) String() string {
	s := fmt.Sprintf("%s %s mtu %d %s", l.Name, l.Type, l.MTU, upDown(l.Up))
	if l.Up && !l.Carrier {
		s += " no-carrier"
	}
	if l.Master != "" {
		s += " master " + l.Master
	}
	switch {
	case l.Lower != "" && l.Type == "veth":
		s += " peer " + l.Lower
	case l.Lower != "":
		s += " over " + l.Lower
	}
	if l.MAC != "" {
		s += " mac " + l.MAC
	}
	if l.NoARP {
		s += " noarp"
	}
	if l.Alias != "" {
		s += fmt.Sprintf(" alias %q", l.Alias)
	}
	return s + l.Conf.String()
}

// String is what is not as a link comes, each after a space.
func (c LinkConf) String() string {
	var b strings.Builder
	for _, f := range []struct {
		is   bool
		word string
	}{
		{c.PromoteSecondaries, "promote_secondaries"}, {c.IgnoreLinkdown4, "ignore_linkdown4"}, {c.IgnoreLinkdown6, "ignore_linkdown6"},
		{c.KeepAddrOnDown, "keep_addr_on_down"}, {c.DisableIPv6, "disable_ipv6"}, {c.Forwarding6, "forwarding6"}, {c.NoRA, "no_ra"}, {c.NoDAD, "no_dad"},
	} {
		if f.is {
			b.WriteString(" " + f.word)
		}
	}
	if c.AddrGenMode != 0 {
		fmt.Fprintf(&b, " addrgenmode %d", c.AddrGenMode)
	}
	return b.String()
}

func upDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
