package resource

import (
	"fmt"
	"time"
)

// KindMemory is the kind of a [Memory].
const KindMemory Kind = "memory"

// Memory is what a node remembers of the last disruptive change of one of its
// resources, whoever made it, or which run works on it. It is a node's own: no comparison sees it.
type Memory struct {
	ID      string        `json:"id,omitempty"` // of the change: RUN/NTH
	Of      Key           `json:"of"`           // the resource, such as "link eth1"
	Verb    string        `json:"verb"`         // what was done: "restart", "down"
	Run     string        `json:"run"`
	By      string        `json:"by,omitempty"`      // who ran it: user@machine
	Age     time.Duration `json:"age"`               // when it was read, in nanoseconds; never negative
	Ended   bool          `json:"ended"`             // it was seen to its end; otherwise it was put back, or still goes on
	Undo    bool          `json:"undo,omitempty"`    // it took another change back
	Pending bool          `json:"pending,omitempty"` // the guardian waits for it to be confirmed
	Outcome string        `json:"outcome,omitempty"` // what the guardian did about it
	Held    bool          `json:"held,omitempty"`    // Run works on the node, of [TheNode], since Age ago
	Node    string        `json:"node,omitempty"`    // under which name
	PID     int           `json:"pid,omitempty"`     // of its agent, as the node counts; 0: it cannot be seen
	Stopped bool          `json:"stopped,omitempty"` // that process stands still, and will until somebody lets it go on
	// Broken is why the node cannot remember anything, of which nothing else is then
	// said: it refuses whatever disrupts.
	Broken string `json:"broken,omitempty"`
}

// TheNode is what a [Memory] is of that is about the node as a whole.
const TheNode Key = "node"

// MemoryKey is the key of what a node remembers of k.
func MemoryKey(k Key) Key { return "memory " + k }

// Key implements [Resource].
func (m Memory) Key() Key { return MemoryKey(m.Of) }

// Match implements [Resource]. Name is that of a link.
func (m Memory) Match(s Selector) bool { return s.Name == "" || LinkKey(s.Name) == m.Of }

// Volatile implements [Resource].
func (m Memory) Volatile() bool { return true }

func (m Memory) String() string {
	if m.Broken != "" {
		return m.Broken
	}
	if m.Held {
		return fmt.Sprintf("run %s of %s has worked on it for %s", m.Run, m.By, m.Age.Round(time.Second))
	}
	s := fmt.Sprintf("%s %s by run %s, %s ago", m.Of, m.Verb, m.Run, m.Age.Round(time.Second))
	if m.Outcome != "" {
		s += ": " + m.Outcome
	}
	return s
}
