package tui

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"runbook/engine"
)

// This file shows the sessions that a change cuts or stalls.

// cutWidth is how long a line about sessions may be, with its sign: it stands
// indented under its change, and a terminal has 80 columns.
const cutWidth = 74

// maxFar is how many of the other ends are named.
const maxFar = 3

// cutLines is what change number step of the plans, which all make it, cuts and stalls.
func cutLines(plans []*engine.NodePlan, step int) []string {
	var all []*cutGroup
	for node, p := range plans {
		if step >= len(p.Steps) {
			continue
		}
		for _, c := range p.Steps[step].Edit.Cuts {
			what := cutVerb(c)
			i := slices.IndexFunc(all, func(g *cutGroup) bool { return g.what == what && g.to == c.To })
			if i < 0 {
				i = len(all)
				all = append(all, &cutGroup{what: what, to: c.To, plans: plans, total: make([]int, len(plans)), far: map[string][]int{}})
			}
			all[i].add(node, c)
		}
	}
	slices.SortStableFunc(all, func(a, b *cutGroup) int { return strings.Compare(a.what, b.what) }) // cuts, may cut, may stall, stalls
	var out []string
	for _, g := range all {
		out = append(out, g.lines()...)
	}
	return out
}

func cutVerb(c engine.Cut) string {
	switch {
	case c.Perhaps && c.Stalls:
		return "may stall"
	case c.Perhaps:
		return "may cut"
	case c.Stalls:
		return "stalls"
	default:
		return "cuts"
	}
}

// cutGroup is the sessions to which the same happens, on nodes that get the same change.
type cutGroup struct {
	what  string // happens to them
	to    string // where their packets then go
	plans []*engine.NodePlan
	total []int            // by node
	far   map[string][]int // by the other end, and by node
	own   []string         // nodes on which runbook's own is among them
	none  []string         // nodes on which it could not be told how runbook's own gets there
}

func (g *cutGroup) add(node int, c engine.Cut) {
	switch {
	case c.Hidden():
		g.none = append(g.none, g.plans[node].Node)
		return
	case c.Own:
		g.own = append(g.own, g.plans[node].Node)
	}
	g.total[node] += c.Count
	if far := c.Far(); far != "" {
		if g.far[far] == nil {
			g.far[far] = make([]int, len(g.plans))
		}
		g.far[far][node] += c.Count
	}
}

// lines is the group for people:
//
//	! stalls 84 TCP sessions: 62 to 10.98.0.20:5432, 22 others, your own among them
func (g *cutGroup) lines() []string {
	var out []string
	if slices.Max(g.total) > 0 {
		text := "! " + g.what + " " + span(g.total) + " TCP session"
		if slices.Max(g.total) != 1 {
			text += "s"
		}
		if len(g.plans) > 1 {
			text += " on each"
		}
		text += g.ends()
		if len(g.own) > 0 {
			text += ", your own among them" + g.on(g.own)
		}
		if g.to != "" {
			text += "; then " + g.to
		}
		out = append(out, wrapped(text)...)
	}
	if len(g.none) > 0 {
		out = append(out, wrapped("! may cut your own session, whose way could not be told"+g.on(g.none))...)
	}
	return out
}

// ends names the other ends with the most sessions, with how many they have.
func (g *cutGroup) ends() string {
	fars := slices.Collect(maps.Keys(g.far))
	sum := func(far string) (n int) {
		for _, c := range g.far[far] {
			n += c
		}
		return n
	}
	slices.SortFunc(fars, func(a, b string) int { return cmp.Or(cmp.Compare(sum(b), sum(a)), cmp.Compare(a, b)) })
	others := slices.Clone(g.total)
	var parts []string
	for _, far := range fars[:min(maxFar, len(fars))] {
		parts = append(parts, span(g.far[far])+" "+toward(far))
		for i, n := range g.far[far] {
			others[i] -= n
		}
	}
	switch rest := slices.Max(others) > 0; {
	case len(parts) == 0:
		return " with many peers"
	case len(parts) == 1 && !rest:
		return " " + toward(fars[0])
	case rest:
		parts = append(parts, span(others)+" others")
	}
	return ": " + strings.Join(parts, ", ")
}

// toward is far as the sessions see it: they are to a server, or with clients.
func toward(far string) string {
	if strings.HasPrefix(far, "clients ") {
		return "with " + far
	}
	return "to " + far
}

// on says on which of several nodes, where it is not on all.
func (g *cutGroup) on(nodes []string) string {
	nodes = slices.Compact(nodes)
	if len(nodes) == len(g.plans) {
		return ""
	}
	return " on " + names(nodes)
}

// span is the least and the most: "60-84", or one number where they are the same.
func span(n []int) string {
	least, most := slices.Min(n), slices.Max(n)
	if least == most {
		return fmt.Sprint(most)
	}
	return fmt.Sprintf("%d-%d", least, most)
}

// wrapped is text in lines under a change. They end where a part of it does.
func wrapped(text string) []string {
	const indent = "    "
	parts := strings.Split(strings.NewReplacer(", ", ",\n", "; ", ";\n", ": ", ":\n").Replace(text), "\n")
	line := indent + parts[0]
	var out []string
	for _, part := range parts[1:] {
		if len(line)+1+len(part) > cutWidth+len(indent) {
			out = append(out, line)
			line = indent + indent + part
		} else {
			line += " " + part
		}
	}
	return append(out, line)
}
