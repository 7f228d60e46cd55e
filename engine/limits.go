package engine

import (
	"fmt"
	"time"
)

// Limits bound a run. All are counted while predicting, so a runbook that
// wants more is refused before anything has changed.
type Limits struct {
	Nodes          int      `json:"nodes"`            // selected nodes
	ChangesPerNode int      `json:"changes_per_node"` // changes on one node
	Repeats        int      `json:"repeats"`          // the same change to the same resource of one node
	CallsPerNode   int      `json:"calls_per_node"`   // operations called on one node, reads included
	Duration       Duration `json:"duration"`         // of the whole run
	Steps          int64    `json:"steps"`            // Starlark steps of the whole run
	Pos            string   `json:"pos,omitempty"`    // where they were declared; "" where they are the defaults
}

// DefaultLimits hold where a runbook's header says nothing else.
var DefaultLimits = Limits{
	Nodes:          100,
	ChangesPerNode: 10,
	Repeats:        1,
	CallsPerNode:   10_000,
	Duration:       Duration(30 * time.Minute),
	Steps:          100_000_000,
}

func (l Limits) source() string {
	if l.Pos == "" {
		return "the default"
	}
	return l.Pos
}

// Exceeded is the error for a limit that was hit.
func (l Limits) Exceeded(name string, limit any, asked string) *Error {
	return &Error{
		Code:  LimitHit,
		Cause: fmt.Sprintf("%s, but limit %s = %v (%s)", asked, name, limit, l.source()),
		Hint:  fmt.Sprintf("if the runbook should do this, set %s in its limits(...)", name),
	}
}

// Budget counts what one node's pass has used of its limits.
type Budget struct {
	Limits  Limits
	calls   int
	changes int
	repeats map[string]int
}

// call charges one call of an operation.
func (b *Budget) call() error {
	b.calls++
	if b.calls > b.Limits.CallsPerNode {
		return b.Limits.Exceeded("calls_per_node", b.Limits.CallsPerNode, fmt.Sprintf("this would be call %d on the node", b.calls))
	}
	return nil
}

// change charges one change; what identifies the change and its resource.
func (b *Budget) change(what string) error {
	b.changes++
	if b.changes > b.Limits.ChangesPerNode {
		return b.Limits.Exceeded("changes_per_node", b.Limits.ChangesPerNode, fmt.Sprintf("this would be change %d on the node", b.changes))
	}
	if b.repeats == nil {
		b.repeats = map[string]int{}
	}
	b.repeats[what]++
	if n := b.repeats[what]; n > b.Limits.Repeats {
		return b.Limits.Exceeded("repeats", b.Limits.Repeats, fmt.Sprintf("this would make the same change for the %s time", ordinal(n)))
	}
	return nil
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}
