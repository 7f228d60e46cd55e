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
