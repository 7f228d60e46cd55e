package tui

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"runbook/engine"
)

// This file is the side of the screen on which one node is to be seen: what it gets, what
// it has said, what is known of it.

// details are the lines of a node, kept until they are others: there may be thousands.
type details struct {
	of    detailsOf
	lines []coloured
}

// detailsOf is what the lines depend on.
type detailsOf struct {
	node   *nodeSeen
	plan   *engine.NodePlan
	err    *engine.Error
	state  string
	tab    tab
	width  int
	output int
	begun  bool
	result *result
	group  *groupSeen
}

// node is what is to be seen of the node under the cursor.
func (v *view) node(size sizes) []string {
	lines := v.detailLines(size.right - 2)
	height := size.body - 1
	v.down = min(v.down, max(len(lines)-height, 0))
	out := []string{v.nodeHeading(size.right, len(lines), height)}
	for i := range height {
		t := newStrip(size.right, v.style).add("", " ")
		if k := v.down + i; k < len(lines) {
			t.add(lines[k].colour, lines[k].text)
		}
		out = append(out, t.String())
	}
	return out
}

func (v *view) nodeHeading(width, lines, height int) string {
	t := newStrip(width, v.style)
	name := "no node"
	if v.at != nil {
		name = v.at.name
	}
	if v.tab == tabResult {
		name = "the run"
	}
	seen := "" // which of the lines are seen, of all
	if lines > height {
		seen = fmt.Sprintf("%d-%d of %d", v.down+1, v.down+height, lines)
	}
	v.heading(t, paneNode, nameIn(name, max(width-26-len(seen), 8))).add("", " ")
	for i, n := range tabNames {
		switch {
		case tab(i) == v.tab:
			t.add(strong, " "+strings.ToUpper(n))
		case tab(i) == tabResult && v.result == nil:
		default:
			t.add(dim, " "+n)
		}
	}
	return t.right(yellow, seen).String()
}

func (v *view) nextTab() tab {
	next := (v.tab + 1) % tab(len(tabNames))
	if next == tabResult && v.result == nil {
		return tabDiff
	}
	return next
}

// detailLines is what the tab shows of the node, folded to a width.
func (v *view) detailLines(width int) []coloured {
	n := v.at
	of := detailsOf{tab: v.tab, width: width, begun: v.board.begun, result: v.result}
	if n != nil {
		of.node, of.plan, of.err, of.state, of.output, of.group = n, n.plan, n.err, v.stateOf(n), len(n.output), n.group
	}
	if of == v.details.of && v.details.lines != nil {
		return v.details.lines
	}
	var lines []coloured
	switch {
	case v.tab == tabResult:
		lines = v.resultLines()
	case n == nil:
	case v.tab == tabOutput:
		for _, l := range n.output {
			lines = append(lines, coloured{"", l})
		}
		if len(lines) == 0 {
			lines = []coloured{{dim, "nothing yet"}}
		}
	case v.tab == tabFacts:
		lines = v.facts(n)
	default:
		lines = v.diff(n)
	}
	v.details = details{of: of, lines: []coloured{}}
	for _, l := range lines {
		v.details.lines = append(v.details.lines, folded(l, width)...)
	}
	return v.details.lines
}

// diff is what a node gets, what that cuts and needs; first of all why it failed, if it did.
func (v *view) diff(n *nodeSeen) []coloured {
	var out []coloured
	if n.err != nil && n.state != "" {
		out = append(out, errorLines(n.err)...)
		out = append(out, coloured{})
	}
	if n.state == engine.NodeUndone {
		out = append(out, coloured{"", "taken back: it holds what it held before; it had got"})
	}
	if n.group != nil && n.group.odd {
		out = append(out, coloured{yellow, "! " + v.differs(n)})
	}
	if n.plan == nil {
		return append(out, coloured{dim, "what it got is not known here: runbook show " + v.board.run})
	}
	for _, l := range nodeLines(n.plan) {
		out = append(out, coloured{bySign(l), l})
	}
	return append(out, v.needs(n.plan)...)
}

// errorLines is an error, the first line of which is in red, and a drift in it as a diff is.
func errorLines(e *engine.Error) []coloured {
	var out []coloured
	for i, l := range strings.Split(e.Error(), "\n") {
		c := coloured{bySign(strings.TrimSpace(l)), l}
		if i == 0 {
			c.colour = red
		}
		out = append(out, c)
	}
	return out
}

// needs is what a plan takes of the limits.
func (v *view) needs(p *engine.NodePlan) []coloured {
	changes := p.Changes()
	if len(changes) == 0 || !v.board.begun {
		return nil
	}
	text := fmt.Sprintf("needs of its limits: changes_per_node %d/%d", len(changes), v.board.limits.N(engine.LimitChangesPerNode))
	if slices.ContainsFunc(changes, func(c engine.PlannedChange) bool { return c.Edit.Disrupts != "" }) {
		text += fmt.Sprintf(", disruptive 1/%d", v.board.limits.N(engine.LimitDisruptive))
	}
	return []coloured{{}, {dim, text}}
}

// facts is what is known of a node besides.
func (v *view) facts(n *nodeSeen) []coloured {
	var out []coloured
	add := func(name, text string) {
		if text != "" {
			out = append(out, coloured{"", fmt.Sprintf("%-10s %s", name, text)})
		}
	}
	add("name", n.name)
	add("place", v.placeOf(n))
	if n.nth > 0 {
		add("", fmt.Sprintf("node %d of %d in the order of the run", n.nth, max(v.board.predicting.Nodes, len(v.board.nodes))))
	}
	add("state", v.stateOf(n))
	if n.info != nil {
		add("groups", strings.Join(n.info.Groups, ", "))
		for i, k := range slices.Sorted(maps.Keys(n.info.Vars)) {
			add(map[bool]string{true: "vars"}[i == 0], fmt.Sprintf("%s = %v", k, n.info.Vars[k]))
		}
	}
	if n.plan != nil && !n.plan.Created.IsZero() {
		add("predicted", n.plan.Created.Local().Format(time.TimeOnly))
	}
	if !n.began.IsZero() {
		add("began", n.began.Local().Format(time.TimeOnly))
	}
	if !n.ended.IsZero() && !n.began.IsZero() {
		add("took", shortly(n.ended.Sub(n.began)))
	}
	return out
}

// resultLines is how the run ended, as it is also said when the screen is left.
func (v *view) resultLines() []coloured {
	var out []coloured
	if v.result != nil && v.result.err != nil && v.result.err.Cause != "" {
		out = append(errorLines(v.result.err), coloured{})
	}
	if v.board.end == nil {
		return append(out, v.refusals()...)
	}
	for _, l := range endLines(*v.board.end, v.board.why, Style{}) {
		out = append(out, coloured{"", l})
	}
	return out
}

// refusals is why nodes could not be predicted, which refused the run.
func (v *view) refusals() []coloured {
	var out []coloured
	for _, w := range v.board.inOrder() {
		for _, n := range w.nodes {
			if n.plan != nil && n.plan.Err != nil {
				out = append(append(out, errorLines(n.plan.Err)...), coloured{})
			}
		}
	}
	return out
}
