package resource

import (
	"fmt"
	"net/netip"
	"strings"
)

// KindSockets is the kind of a [Sockets].
const KindSockets Kind = "sockets"

// Sockets is what a node answers to the question which of some TCP ends it still holds.
// What a server takes for a session, and its client's node has no socket of, is dead.
type Sockets struct {
	Ask   string           `json:"ask"`   // see [AskSockets]
	Addrs []netip.Addr     `json:"addrs"` // of the node, but those of its loopback
	Open  []netip.AddrPort `json:"open"`  // those of Ask that it holds, in whatever state but closed
	// Forwards: it sends packets of others on, perhaps under its own address. Their
	// sockets are elsewhere: in a container of it, or on another machine.
	Forwards bool `json:"forwards,omitempty"`
}

// AskSockets is the question for ends, as the Ask of a [Selector].
func AskSockets(ends []netip.AddrPort) string {
	words := make([]string, len(ends))
	for i, e := range ends {
		words[i] = e.String()
	}
	return strings.Join(words, ",")
}

// ParseSockets is the reverse of [AskSockets].
func ParseSockets(ask string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for word := range strings.SplitSeq(ask, ",") {
		if word == "" {
			continue
		}
		e, err := netip.ParseAddrPort(word)
		if err != nil {
			return nil, fmt.Errorf("a socket is asked for as %q", word)
		}
		out = append(out, e)
	}
	return out, nil
}

// Key implements [Resource].
func (s Sockets) Key() Key { return Key(KindSockets) }

// Match implements [Resource].
func (s Sockets) Match(q Selector) bool { return q.Ask == "" || q.Ask == s.Ask }

// Volatile implements [Resource].
func (s Sockets) Volatile() bool { return true }

func (s Sockets) String() string { return fmt.Sprintf("%d open", len(s.Open)) }
