package tui

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"runbook/engine"
	"runbook/engine/rollout"
)

// This file is what the keys do. Those that decide something, y, s, w and r, do so about one node
// and where it is to be seen; for many nodes, or to take something back, more has to be typed than a key.

// helpLines is what ? shows: as many as the least terminal has room for.
var helpLines = []string{
	"y      apply to the node that is asked about",
	"s      skip it: it stays as it is",
	"w      apply to all alike in its wave; asks for their number",
	"r      take back the node under the cursor; asks for a word",
	"p      pause: no other node starts; again: go on",
	"q ^C   stop: finish nodes in hand; again: put them back",
	"^Z     pause, finish nodes in hand, suspend; fg goes on",
	"enter  go to the node that is asked about",
	"d      its diff, output, facts",
	"/      filter: name, state, group, or the word differs",
	"tab    the next pane: fleet, node, log",
	"up down j k PgUp PgDn g G    move, or scroll",
}

// watchedHelp is for who cannot decide anything.
var watchedHelp = append([]string{"q ^C   leave; the run goes on without this view"}, helpLines[8:]...)

// key does what a key is for.
func (v *view) key(k string) tea.Cmd {
	again := v.keys.again(k, v.now())
	if k == "ctrl+c" {
		return v.stop(false)
	}
	if !v.opened || v.small() { // it answers nothing that is to be seen
		return nil
	}
	v.note = ""
	switch {
	case v.helped:
		v.helped = false
		return nil
	case v.typed != nil:
		return v.typing(k)
	case v.filtering:
		v.sift(k)
		return nil
	case v.moved(k):
		return nil
	}
	switch k {
	case "?":
		v.helped = true
	case "/":
		v.filtering = true
	case "tab", "shift+tab":
		v.focus = (v.focus + map[string]pane{"tab": 1, "shift+tab": panes - 1}[k]) % panes
	case "d":
		return v.turn()
	case "esc":
		if v.tells != "" {
			v.tells = ""
			v.relay()
		}
	case "enter":
		return v.enter()
	case "q":
		return v.stop(again)
	case "ctrl+z":
		return v.suspend()
	default:
		return v.decide(k, again)
	}
	return nil
}

// moved moves the cursor, or scrolls, if k is for that.
func (v *view) moved(k string) bool {
	page := v.sizes().body - 2
	if v.focus == paneLog {
		page = v.sizes().lower - 1
	}
	n, ok := map[string]int{
		"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -page, "ctrl+b": -page, "pgdown": page, "ctrl+f": page, "space": page,
		"g": -1 << 30, "home": -1 << 30, "G": 1 << 30, "end": 1 << 30,
	}[k]
	switch {
	case !ok:
	case v.focus == paneFleet:
		v.step(n)
		v.roams = v.at != v.asked()
	case v.focus == paneNode:
		v.down = max(v.down+n, 0) // what is too much is taken off when it is drawn
	default:
		v.up = max(v.up-n, 0)
	}
	return ok
}

// turn shows the next side of a node.
func (v *view) turn() tea.Cmd {
	if v.tab, v.down = v.nextTab(), 0; v.tab == tabDiff {
		return v.anew()
	}
	return nil
}

// anew is for what brings the diff that is asked about before the eyes: answers count once that is drawn.
func (v *view) anew() tea.Cmd {
	if v.asking == nil {
		return nil
	}
	return v.prove()
}

func (v *view) enter() tea.Cmd {
	n := v.asked()
	switch {
	case v.result != nil:
		return v.leave()
	case n == nil || n == v.at && v.tab == tabDiff:
		return nil
	case !v.goTo(n): // it is filtered away
		v.tells = ""
		v.relay()
		v.goTo(n)
	}
	v.roams, v.focus, v.tab, v.down = false, paneFleet, tabDiff, 0
	return v.anew()
}

// relay makes the rows again, for another filter.
func (v *view) relay() {
	v.board.muddled = true
	v.lay()
}

// sift edits the filter.
func (v *view) sift(k string) {
	switch k {
	case "enter":
		v.filtering = false
	case "esc":
		v.filtering, v.tells = false, ""
	default:
		v.tells = edited(v.tells, k)
	}
	v.relay()
	v.roams = v.at != v.asked()
}

// edited is text after a key.
func edited(text, k string) string {
	switch {
	case k == "backspace":
		_, n := utf8.DecodeLastRuneInString(text)
		return text[:len(text)-n]
	case k == "ctrl+u":
		return ""
	case k == "space":
		return text + " "
	case utf8.RuneCountInString(k) == 1:
		return text + k
	}
	return text
}

// typing takes a key of what has to be typed.
func (v *view) typing(k string) tea.Cmd {
	t := v.typed
	switch {
	case k == "esc":
		v.typed, v.note = nil, "left as it is"
	case k != "enter":
		t.text = edited(t.text, k)
	case strings.TrimSpace(t.text) == t.want:
		v.typed = nil
		t.do()
	default:
		v.note = fmt.Sprintf("%q is not %s: type %s, or esc leaves it", t.text, t.want, t.want)
		t.text = ""
	}
	return nil
}

// decide takes the keys that decide something.
func (v *view) decide(k string, again bool) tea.Cmd {
	switch {
	case !strings.Contains("yswrp", k) || len(k) != 1:
		v.note = fmt.Sprintf("%s does nothing here; ? tells of the keys", k)
	case v.result != nil:
		v.note = "the run is over; q leaves"
	case again && k != "p":
		v.note = fmt.Sprintf("%s was pressed just now; once more, if you mean this one too", k)
	case k == "p":
		v.pause()
	case k == "r":
		v.takeBack()
	default:
		return v.answerFor(k)
	}
	return nil
}

// answerFor answers the question, where its node and its diff are what is to be seen.
func (v *view) answerFor(k string) tea.Cmd {
	n := v.asked()
	switch {
	case n != nil && !v.proof.drawn:
		v.note = fmt.Sprintf("%s came before this was to be seen; once more, if you mean it", k)
		return nil
	case n == nil && v.board.question != nil:
		v.note = "the question is answered where the run is driven"
		return nil
	case n == nil:
		v.note = "nobody is asked anything just now"
		return nil
	case v.at != n:
		v.note = fmt.Sprintf("%s is about %s, and the cursor is elsewhere: enter goes there", k, n.name)
		return nil
	case v.tab != tabDiff && k != "s":
		v.tab, v.down = tabDiff, 0
		v.note = fmt.Sprintf("this is what %s would do; %s again does it", k, k)
		return v.anew()
	}
	switch k {
	case "y":
		v.answer(rollout.Yes)
	case "s":
		v.answer(rollout.Skip)
	case "w":
		v.whole()
	}
	return nil
}

func (v *view) answer(a rollout.Answer) {
	if v.asking != nil {
		v.asking.answer <- a
		v.asking = nil
	}
}

// whole asks for the number of nodes that get the same as the one that is asked about.
func (v *view) whole() {
	alike := v.asking.q.Alike
	if alike < 2 {
		v.note = "no other node that is left of this wave gets this; y applies it"
		return
	}
	v.typed = &typed{
		title: fmt.Sprintf("apply this diff to %d nodes of wave %d? type %d and enter; esc leaves", alike, v.asking.q.Wave, alike),
		want:  strconv.Itoa(alike), answers: true, do: func() { v.answer(rollout.All) },
	}
}

// takeBack asks for a word before a node is taken back.
func (v *view) takeBack() {
	n := v.at
	switch {
	case v.opts.ReadOnly || v.opts.Controls == nil:
		v.note = "nothing is taken back from here"
	case n == nil || n.state != engine.NodeDone:
		v.note = "r takes back a node that is done; the cursor is on none"
	default:
		v.typed = &typed{
			title: fmt.Sprintf("take back what this run did to %s? type undo and enter; esc leaves", n.name), want: "undo",
			do: func() {
				if !v.opts.Controls.Undo(n.name) {
					v.note = fmt.Sprintf("%s cannot be taken back any more; after the run, runbook undo %s can", n.name, v.board.run)
				}
			},
		}
	}
}

func (v *view) pause() {
	if v.opts.ReadOnly || v.opts.Controls == nil {
		v.note = "the run is only shown here, and goes on"
		return
	}
	v.wants, v.suspends = !v.wants, nil
	v.opts.Controls.Pause(v.wants)
}

// leave ends the screen, where that has been drawn which is left.
func (v *view) leave() tea.Cmd {
	if !v.proof.drawn {
		return nil
	}
	return tea.Quit
}

// stop stops the run, or leaves it where it is only watched or over. What is held down stops it once.
func (v *view) stop(again bool) tea.Cmd {
	switch {
	case v.result != nil || v.opts.Stop == nil:
		return v.leave()
	case again && v.stops > 0:
		v.note = "q was pressed just now; once more puts back what is in hand"
	default:
		v.stops++
		v.typed = nil
		v.note = v.opts.Stop()
	}
	return nil
}
