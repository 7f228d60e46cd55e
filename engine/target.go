package engine

import "strings"

// Target is a server that several nodes share, such as a database that is reached by
// name. Hooks and scripts look at it; before and after may change it. It is
// dialed, predicted, recorded and undone as a node is, under a name that no node can have.
type Target struct {
	Domain string // of the operations that it takes: "pg"
	Server string // where it is, without secrets: "service=main"
	Via    string // the node through which it is reached; "": directly
}

const via = " via "

// String is the target's name, which [ParseTarget] reads: "pg service=main via db-1".
func (t Target) String() string {
	s := t.Domain + " " + t.Server
	if t.Via != "" {
		s += via + t.Via
	}
	return s
}

// ParseTarget reads the name of a target, or reports that it is a node's.
func ParseTarget(name string) (Target, bool) {
	var t Target
	var ok bool
	if t.Domain, t.Server, ok = strings.Cut(name, " "); !ok {
		return Target{}, false
	}
	if i := strings.LastIndex(t.Server, via); i >= 0 {
		t.Server, t.Via = t.Server[:i], t.Server[i+len(via):]
	}
	return t, true
}

// IsTarget reports whether name is that of a target, and not of a node.
func IsTarget(name string) bool {
	_, is := ParseTarget(name)
	return is
}
