package tui

import (
	"fmt"
	"strings"
	"time"

	"runbook/engine"
)

// This file is the bottom of the screen: what is asked of the operator, and which keys answer it.

// prompt is two lines: what is asked, or what goes on, and what is to be said about it.
func (v *view) prompt() []string {
	t, second := newStrip(v.width, v.style), newStrip(v.width, v.style)
	first, colour := v.asks()
	t.add(colour, first)
	v.input.X = min(v.width-t.room, v.width-1)
	if text, colour := v.says(); text != "" {
		second.add(colour, text)
	}
	return []string{t.String(), second.String()}
}

// asks is what is asked, or else what goes on.
func (v *view) asks() (text, colour string) {
	n := v.asked()
	switch {
	case v.typed != nil:
		return v.typed.title + ": " + v.typed.text, strong + yellow
	case v.filtering:
		return "/" + v.tells, strong
	case v.result != nil && v.result.err != nil:
		return v.ending(), strong + red
	case v.result != nil:
		return v.ending(), strong
	case n != nil && v.at == n && v.asking.q.Hook != "":
		return v.question("apply to ", n.name, "?  y yes  s no, which stops the run"), strong + yellow
	case n != nil && v.at == n:
		return v.question("apply to ", n.name, "?  y yes  s skip"+v.alike()), strong + yellow
	case n != nil:
		return v.question("", n.name, " is asked about: enter goes there"), strong + yellow
	}
	return v.goesOn(), ""
}

// question is what is asked about a node, whose name has the room that the rest leaves.
func (v *view) question(before, node, after string) string {
	return before + nameIn(node, max(v.width-len(before)-len(after), 8)) + after
}

// alike is what w is for.
func (v *view) alike() string {
	if n := v.asking.q.Alike; n > 1 {
		return fmt.Sprintf("  w all %d alike in wave %d", n, v.asking.q.Wave)
	}
	return ""
}

// ending is how the run ended, in short.
func (v *view) ending() string {
	e := v.result.err
	if n := v.board.refused(); n != nil && v.board.end == nil {
		e = n.plan.Err
	}
	if e != nil && e.Cause != "" {
		return "ended: " + strings.SplitN(e.Cause, "\n", 2)[0]
	}
	return "the run is over"
}

// goesOn is what the run does while nobody is asked.
func (v *view) goesOn() string {
	b := v.board
	switch {
	case v.stops > 1:
		return "stopping: what is in hand is put back"
	case b.stopping != "":
		return "stopping: no other node starts; finishing " + b.stopping
	case v.stops > 0 || b.stops:
		return "stopping: no other node starts"
	case v.suspends != nil:
		return "suspending as soon as nothing is in hand"
	case b.paused:
		return "paused: no other node starts; p goes on"
	case v.wants:
		return "pausing: no other node starts; nodes in hand are finished"
	case b.question != nil:
		return v.question("", b.question.Node, " is asked about, where the run is driven")
	case b.pace.node != "":
		return v.question("", b.pace.node, fmt.Sprintf(" waits %s, for limit changes_per_minute", seconds(b.pace.until.Sub(v.now())+time.Second-1)))
	case len(b.hand) > 0:
		return v.inHand()
	case len(b.back) > 0:
		return count(len(b.back), "node") + " being taken back"
	case !b.bake.IsZero():
		return fmt.Sprintf("baking: the next wave begins in %s", seconds(b.bake.Sub(v.now())+time.Second-1))
	}
	return ""
}

// inHand is the nodes that are being changed, and for how long.
func (v *view) inHand() string {
	var parts []string
	for _, h := range v.board.hand[:min(len(v.board.hand), 3)] {
		parts = append(parts, nameIn(h.node, max(v.width/2, 20))+" "+seconds(v.now().Sub(h.began)))
	}
	if more := len(v.board.hand) - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return "in hand: " + strings.Join(parts, ", ")
}

// says is what is to be said beside: about the last key, the question, or the run.
func (v *view) says() (text, colour string) {
	n := v.asked()
	switch {
	case v.note != "":
		return v.note, yellow
	case v.result != nil:
		return v.next(), ""
	case v.filtering:
		return "enter keeps the filter, esc takes it away", dim
	case v.typed != nil:
		return "", ""
	case v.stops == 1:
		return "q once more puts back what is in hand", yellow
	case n != nil && v.wants:
		return "the run is paused: what you decide begins once p lets it go on", yellow
	case n != nil && n.group != nil && n.group.odd:
		return "! " + v.differs(n), yellow
	case n != nil && n.wave == shared:
		if first, _ := v.asks(); !strings.Contains(first, n.name) {
			return "a server that the nodes share: " + n.name, dim
		}
		return "a server that the nodes share", dim
	case n != nil:
		q := v.asking.q
		if q.Of == 1 {
			return fmt.Sprintf("the only node that is asked about in wave %d", q.Wave), dim
		}
		return fmt.Sprintf("node %d of the %d that are asked about in wave %d", q.Nth, q.Of, q.Wave), dim
	}
	return "", ""
}

// differs says how what a node gets stands to what others of its wave get.
func (v *view) differs(n *nodeSeen) string {
	most := 0
	for _, g := range v.board.waveOf(n.wave).groups {
		if !g.odd && !g.idle && !g.fails {
			most = len(g.nodes)
		}
	}
	if most == 0 {
		return "this diff differs from all others of its wave"
	}
	return fmt.Sprintf("this diff differs from that of the other %s of its wave", count(most, "node"))
}

// next is what can be done after the run.
func (v *view) next() string {
	if v.board.end == nil || len(v.board.end.Next) == 0 {
		return "q or enter leaves"
	}
	var parts []string
	for _, n := range v.board.end.Next {
		parts = append(parts, n.Command)
	}
	return strings.Join(parts, "   ")
}

// hints is which keys do something now, the most important first.
func (v *view) hints() string {
	var keys []string
	add := func(on bool, key string) {
		if on {
			keys = append(keys, key)
		}
	}
	free := v.typed == nil && !v.filtering
	drives := v.opts.Controls != nil && !v.opts.ReadOnly && v.result == nil
	here := v.asking != nil && v.asked() == v.at
	add(!free, "enter")
	add(!free, "esc leaves")
	add(free && here, "y apply")
	add(free && here, map[bool]string{false: "s skip", true: "s no"}[here && v.asking.q.Hook != ""])
	add(free && here && v.asking.q.Alike > 1, "w alike")
	add(free && v.asking != nil && !here, "enter to the question")
	add(free && drives && v.at != nil && v.at.state == engine.NodeDone, "r take back")
	add(free && drives, map[bool]string{false: "p pause", true: "p go on"}[v.wants])
	add(free && v.result == nil && v.opts.Stop != nil, map[bool]string{false: "q stop", true: "q put back"}[v.stops > 0])
	add(free && (v.result != nil || v.opts.Stop == nil), "q leave")
	add(free, "? help")
	add(free, "d "+tabNames[v.nextTab()])
	add(free, "/ filter")
	add(free, "tab pane")
	line := ""
	for _, k := range keys {
		if len(line)+len(k) > v.width {
			break
		}
		line += k + "  "
	}
	return newStrip(v.width, v.style).add(dim, strings.TrimRight(line, " ")).String()
}
