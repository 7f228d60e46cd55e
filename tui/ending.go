package tui

import (
	"fmt"
	"strings"

	"runbook/engine"
)

// causes is why nodes have failed, by their names, as events have told it.
type causes map[string]*engine.Error

func (c causes) note(e engine.Event) {
	if e.Kind == engine.EventNode && e.Err != nil {
		c[e.Node] = e.Err
	}
}

// endOrder is the order of the table at the end: what needs somebody comes last, where the eye is.
var endOrder = []engine.NodeState{
	engine.NodeDone, engine.NodeSame, engine.NodeSkipped, engine.NodeUndone, engine.NodeApplying, engine.NodeUndoing, engine.NodeUntried, engine.NodeFailed, engine.NodeInDoubt,
}

// endLines is the end of a run: a table of who is in which state, how it ended in
// one line, what was used of the limits, and what can be done next.
func endLines(e engine.Event, why causes, s Style) []string {
	var out []string
	if len(e.States) > 0 {
		out = append(out, "")
	}
	for _, state := range endOrder {
		nodes := e.States[state]
		switch {
		case len(nodes) == 0:
		case state == engine.NodeFailed || state == engine.NodeInDoubt:
			out = append(out, s.wrap(red, fmt.Sprintf("%-9s %6d", state, len(nodes))))
			for _, n := range nodes {
				out = append(out, shown("  "+n+": "+inShort(why[n], e.Run)))
			}
		default:
			out = append(out, shown(fmt.Sprintf("%-9s %6d  %s", state, len(nodes), some(nodes))))
		}
	}
	out = append(out, s.bold(e.Text), s.wrap(dim, Used(e.Limits, e.Used)))
	for _, n := range e.Next {
		out = append(out, shown(n.What+": "+n.Command))
	}
	return out
}

// inShort is why a node failed and what it still holds, in one line. All of it was told when it did.
func inShort(e *engine.Error, run string) string {
	if e == nil {
		return "before the run was taken up again; runbook show " + run + " says why"
	}
	short := engine.Error{Op: e.Op, Cause: e.Cause, Left: e.Left}
	return short.Error()
}

// few is how many nodes are all named.
const few = 10

// some is the names of nodes, or of the first of many.
func some(nodes []string) string {
	if len(nodes) <= few {
		return strings.Join(nodes, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(nodes[:3], ", "), len(nodes)-3)
}
