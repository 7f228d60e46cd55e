package resource

import (
	"fmt"
	"net/netip"
)

// KindSession is the kind of [Sessions].
const KindSession Kind = "session"

// Sessions are established TCP sessions of the node that agree in everything
// but one port, and how the kernel sends their packets at present. They come and go: no
// comparison sees them, and no operation changes them. They say what a change
// to a link, an address or a route would cut.
type Sessions struct {
	Local netip.Addr     `json:"local"`
	Peer  netip.AddrPort `json:"peer"`            // Port 0: the peer is the client, of Port here
	Port  uint16         `json:"port,omitempty"`  // of the node, where it is the server
	Dev   string         `json:"dev,omitempty"`   // the link that their packets leave by
	Route Key            `json:"route,omitempty"` // the route that their packets take
	Own   bool           `json:"own,omitempty"`   // among them is the one that runbook itself works through
	Count int            `json:"sessions"`
}

// Key implements [Resource].
func (s Sessions) Key() Key {
	return Key(fmt.Sprintf("session %s:%d %s dev %s own %t %s", s.Local, s.Port, s.Peer, s.Dev, s.Own, s.Route))
}

// Match implements [Resource]: by the link that they leave by.
func (s Sessions) Match(q Selector) bool { return q.Name == "" || q.Name == s.Dev }

// Volatile implements [Resource].
func (s Sessions) Volatile() bool { return true }

func (s Sessions) String() string {
	far := s.Peer.String()
	if s.Peer.Port() == 0 {
		far = fmt.Sprintf("%s to port %d", s.Peer.Addr(), s.Port)
	}
	return fmt.Sprintf("%d with %s dev %s", s.Count, far, s.Dev)
}
