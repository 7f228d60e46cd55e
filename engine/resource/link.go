package resource

import "fmt"

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
	NoARP   bool   `json:"noarp,omitempty"`
	Alias   string `json:"alias,omitempty"`
	// Conf is what decides about the addresses and routes of the link when it or they change.
	Conf LinkConf `json:"conf,omitzero"`
}

// LinkConf is sysctls of a link, as they are in force: what all links and the
// link itself are set to, taken together as the kernel does.
type LinkConf struct {
	PromoteSecondaries bool  `json:"promote_secondaries,omitempty"` // IPv4: a secondary address outlives its primary
	IgnoreLinkdown4    bool  `json:"ignore_linkdown4,omitempty"`    // ignore_routes_with_linkdown
	IgnoreLinkdown6    bool  `json:"ignore_linkdown6,omitempty"`
	KeepAddrOnDown     bool  `json:"keep_addr_on_down,omitempty"` // IPv6: permanent addresses stay when the link goes down
	DisableIPv6        bool  `json:"disable_ipv6,omitempty"`
	AcceptRA           bool  `json:"accept_ra,omitempty"`     // in force: it would take router advertisements
	AddrGenMode        uint8 `json:"addr_gen_mode,omitempty"` // of link-local addresses: IN6_ADDR_GEN_MODE_*; 0 from the MAC, 1 none
	AcceptDAD          bool  `json:"accept_dad,omitempty"`    // duplicate address detection is on
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
	if l.MAC != "" {
		s += " mac " + l.MAC
	}
	if l.NoARP {
		s += " noarp"
	}
	if l.Alias != "" {
		s += fmt.Sprintf(" alias %q", l.Alias)
	}
	return s
}

func upDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
