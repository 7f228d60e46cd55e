package incident

import (
	"fmt"
	"slices"
	"strings"
)

// This file draws what came of it with plain characters, at most 80 columns wide.

const (
	panelWidth = 34 // columns of one act
	labelWidth = 5  // of the scale at the left
	gap        = "    "
)

// panel is an act as a chart shows it: one column for each second, or for several.
type panel struct {
	title string
	act   Act
}

// panels are the two acts of a report, the one beside the other.
func (r *Report) panels() []panel {
	return []panel{{"the script", r.Script}, {"runbook", r.Runbook.Act}}
}

// Chart is a picture of the two acts in plain text.
func (r *Report) Chart() string {
	var b strings.Builder
	ps := r.panels()
	each := 1 // seconds of a column
	for _, p := range ps {
		each = max(each, (len(p.act.Seconds)+panelWidth-1)/panelWidth)
	}
	most := r.Capacity
	failed := 1
	for _, p := range ps {
		most, failed = max(most, p.act.Most(Second.backends)), max(failed, p.act.Most(Second.failed))
	}
	fmt.Fprintf(&b, "connections of the server, of %d:  # in use   x dead\n", r.Capacity)
	titles := func(p panel) string { return p.title }
	row(&b, "", ps, titles)
	bars(&b, ps, each, most, 10, '#', 'x', func(s Second) (below, all int) { return s.Backends - s.Dead, s.Backends })
	row(&b, "", ps, func(p panel) string { return ticks(p.act, each) })
	row(&b, "", ps, func(p panel) string { return seconds(each, len(p.act.Seconds)/each) })
	b.WriteString("\nrequests that failed in a second:  o unanswered   ! refused, server full\n")
	bars(&b, ps, each, failed, 4, '!', 'o', func(s Second) (below, all int) { return s.Refused, s.Failed })
	return b.String()
}

// row writes a line: a label, and for each panel a text.
func row(b *strings.Builder, label string, ps []panel, text func(panel) string) {
	line := fmt.Sprintf("%*s ", labelWidth-1, label)
	for i, p := range ps {
		if i > 0 {
			line += gap
		}
		line += fmt.Sprintf("%-*s", panelWidth, text(p))
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

// bars writes a bar for each column, as high as all of its worst second. What is below is
// drawn with low, the rest with high. most is at the top.
func bars(b *strings.Builder, ps []panel, each, most, height int, low, high rune, of func(Second) (below, all int)) {
	for i := height; i > 0; i-- {
		label := ""
		if i == height || i == height/2 {
			label = fmt.Sprint(most * i / height)
		}
		row(b, label, ps, func(p panel) string {
			var text strings.Builder
			for part := range slices.Chunk(p.act.Seconds, each) {
				below, all := worst(part, of)
				text.WriteRune(cell(i, below*height, all*height, most, low, high))
			}
			return text.String()
		})
	}
	row(b, "0", ps, func(p panel) string { return strings.Repeat("-", (len(p.act.Seconds)+each-1)/each) })
}

// cell is the character at level i of a bar: what is more than half there, but for the lowest level, which shows also little.
func cell(i, below, all, most int, low, high rune) rune {
	floor := (2*i - 1) * most / 2
	if i == 1 {
		floor = 1
	}
	switch {
	case below >= floor:
		return low
	case all >= floor:
		return high
	}
	return ' '
}

// worst is the second of a part in which all was the most.
func worst(part []Second, of func(Second) (below, all int)) (below, all int) {
	for _, s := range part {
		if b, a := of(s); a > all {
			below, all = b, a
		}
	}
	return below, all
}

// ticks has a sign in each column in which an interface was restarted.
func ticks(a Act, each int) string {
	line := []byte(strings.Repeat(" ", panelWidth))
	for _, at := range a.Restarts {
		if i := int(at) / each; i < len(line) {
			line[i] = '^'
		}
	}
	return strings.TrimRight(string(line), " ")
}

// seconds is the scale of the time: every tenth column is labelled.
func seconds(each, columns int) (line string) {
	for i := 0; i <= min(columns, panelWidth-4); i += 10 {
		line += fmt.Sprintf("%-10s", fmt.Sprintf("%d s", i*each))
	}
	return line
}

// Table is the figures of the two acts, in plain text.
func (r *Report) Table() string {
	var b strings.Builder
	line := func(what string, f func(Act) string) {
		fmt.Fprintf(&b, "%-42s", what)
		for _, p := range r.panels() {
			fmt.Fprintf(&b, "%14s", f(p.act))
		}
		b.WriteString("\n")
	}
	count := func(n int) string { return fmt.Sprint(n) }
	fmt.Fprintf(&b, "%-42s%14s%14s\n", "", r.panels()[0].title, r.panels()[1].title)
	line("interfaces restarted", func(a Act) string { return count(len(a.Restarts)) })
	line(fmt.Sprintf("connections of the server, at most (of %d)", r.Capacity), func(a Act) string { return count(a.Most(Second.backends)) })
	line("of those dead", func(a Act) string { return count(a.Most(Second.dead)) })
	line("connections refused", func(a Act) string { return count(a.Sum(Second.refused)) })
	line("requests failed", func(a Act) string { return count(a.Sum(Second.failed)) })
	line("seconds without service, worst node", func(a Act) string { return count(a.worstNode().Stalled) })
	line("longest time without service", func(a Act) string { return fmt.Sprintf("%.1f s", a.longest()) })
	return b.String()
}

// worstNode is the node with the most seconds in which nothing was served.
func (a Act) worstNode() NodeFigures {
	return slices.MaxFunc(a.Nodes, func(x, y NodeFigures) int { return x.Stalled - y.Stalled })
}

// longest is the longest time in which a node's service was not served.
func (a Act) longest() (longest float64) {
	for _, n := range a.Nodes {
		longest = max(longest, n.Longest)
	}
	return longest
}
