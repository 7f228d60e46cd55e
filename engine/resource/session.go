package resource

import (
	"fmt"
	"net/netip"
)

// KindSession is the kind of a [Sessions].
const KindSession Kind = "session"

// Sessions are established TCP sessions of the node that agree in everything
// but one port, and how the kernel sends their packets at present. They come and go: no
// comparison sees them, and no operation changes them. They say what a change
// to a link, an address or a route would cut.
//
// Where a node has too many to tell them all apart, the rest is summed: Peer is
// zero, and where these too are many, Local and Route are as well.
type Sessions struct {
	Local netip.Addr     `json:"local,omitzero"`
	Peer  netip.AddrPort `json:"peer,omitzero"`   // Port 0: the peer is the client, of Port here
	Port  uint16         `json:"port,omitempty"`  // of the node, where it is the server
	Dev   string         `json:"dev,omitempty"`   // the link that their packets leave by; lo within the node
	Route Key            `json:"route,omitempty"` // the route that their packets take
	Own   bool           `json:"own,omitempty"`   // it is the one that runbook itself works through
	Count int            `json:"sessions"`
}

// HiddenOwn stands for the session that runbook works through where it could
// not be told which that is, or by which link it gets out of the node in the end.
var HiddenOwn = Sessions{Own: true}

// Hidden reports whether nothing is known of s but that it is runbook's own.
func (s Sessions) Hidden() bool { return s.Own && s.Dev == "" }

// Key implements [Resource].
func (s Sessions) Key() Key {
	return Key(fmt.Sprintf("session %s:%d %s dev %s own %t %s", s.Local, s.Port, s.Peer, s.Dev, s.Own, s.Route))
}

// Match implements [Resource]: by the link that they leave by.
func (s Sessions) Match(q Selector) bool { return q.Name == "" || q.Name == s.Dev }

// Volatile implements [Resource].
func (s Sessions) Volatile() bool { return true }

// Far is the other end: "10.98.0.20:5432", or "clients of port 443" where the
// node is the server; "" where the peers are not told apart.
func (s Sessions) Far() string {
	switch {
	case !s.Peer.IsValid():
		return ""
	case s.Peer.Port() == 0:
		return fmt.Sprintf("clients of port %d", s.Port)
	default:
		return s.Peer.String()
	}
}

func (s Sessions) String() string {
	if s.Hidden() {
		return "runbook's own, whose way could not be told"
	}
	far := s.Far()
	switch {
	case far == "":
		far = "others"
	case s.Port != 0:
		far = fmt.Sprintf("%s at %s", far, s.Peer.Addr())
	}
	return fmt.Sprintf("%d with %s dev %s", s.Count, far, s.Dev)
}
