package tui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"runbook/engine"
)

// This file is where a run stands, as its events tell it, and how that looks at
// one moment: a few lines, however many nodes there are. It knows no terminal.

// progress is where a run stands. Events are its only source.
type progress struct {
	foreseen, foresee int // nodes that are predicted, and are to be; none are to be where nothing is predicted just now

	outlook engine.Outlook
	wave    engine.Event             // the last that started; its Kind is "" before the first
	ended   int                      // nodes of the wave that have come to their end
	changes int                      // made in the wave
	counts  map[engine.NodeState]int // of all nodes that have come to their end
	hand    []*inHand                // nodes that are being changed, the oldest first
	latest  []*inHand                // of the wave's nodes that have ended, the last first
	gate    string                   // how the last look at the fleet ended
	values  string                   // that were seen in the look at the fleet which goes on
	bake    time.Time                // until when it waits for the next wave; zero: it does not
	pace    inHand                   // the node that waits for changes_per_minute, until its end; no name: none does
	took    time.Duration            // a node, on the average of late
	timed   int                      // on how many nodes that rests
	stops   bool                     // no other node starts
	asked   bool                     // people are asked, whose time nobody knows
	back    map[string]bool          // nodes that are done and are being taken back
	over    bool
}

// inHand is a node that is being changed, or was.
type inHand struct {
	node  string
	state engine.NodeState
	began time.Time
	until time.Time
	last  string // what was told of it
}

// maxRows is how many nodes have a line of their own.
const maxRows = 8

// maxTimed is over how many nodes the time that one takes is averaged.
const maxTimed = 50

func (p *progress) take(e engine.Event) {
	switch e.Kind {
	case engine.EventPredict:
		p.foreseen, p.foresee, p.wave = 0, e.Nodes, engine.Event{} // one of nodes that were in hand, and are no more
	case engine.EventPlanned:
		if p.foreseen++; p.foreseen >= p.foresee {
			p.foresee = 0
		}
	case engine.EventRun:
		if e.Outlook != nil {
			p.outlook = *e.Outlook
		}
	case engine.EventWave:
		p.wave, p.ended, p.changes, p.latest, p.bake, p.gate = e, 0, 0, nil, time.Time{}, ""
	case engine.EventBake:
		p.bake = e.Time.Add(time.Duration(e.For))
	case engine.EventGate:
		if p.gate = "  " + e.Op + ": passed" + p.values; e.Err != nil {
			p.gate = ""
		}
		p.values = ""
	case engine.EventValue:
		p.values += fmt.Sprintf("   %s = %s", shown(e.Text), number(*e.Value))
	case engine.EventPace:
		p.pace = inHand{node: e.Node, until: e.Time.Add(time.Duration(e.For))}
	case engine.EventChange:
		p.changes++
		p.tell(e.Node, e.Op)
	case engine.EventUnchanged:
		p.tell(e.Node, e.Op+": already so")
	case engine.EventPutBack:
		p.tell(e.Node, e.Op+": put back")
	case engine.EventConfirmed:
		p.tell(e.Node, "reached over a new connection")
	case engine.EventNode:
		p.move(e)
	case engine.EventStopping:
		p.stops = true
	case engine.EventEnd:
		p.over = true
	}
}

func (p *progress) find(node string) int {
	return slices.IndexFunc(p.hand, func(h *inHand) bool { return h.node == node })
}

func (p *progress) tell(node, what string) {
	if i := p.find(node); i >= 0 {
		p.hand[i].last = what
	}
}

// move takes a node to another state.
func (p *progress) move(e engine.Event) {
	if p.pace.node == e.Node {
		p.pace = inHand{}
	}
	if p.counts == nil {
		p.counts, p.back = map[engine.NodeState]int{}, map[string]bool{}
	}
	if e.State == engine.NodeUndoing { // it was through, and comes to another end
		p.counts[engine.NodeDone]--
		p.back[e.Node] = true
		return
	}
	if p.back[e.Node] {
		p.counts[e.State]++
		delete(p.back, e.Node)
		return
	}
	i := p.find(e.Node)
	if e.State == engine.NodeApplying {
		if i < 0 {
			p.hand = append(p.hand, &inHand{node: e.Node, state: e.State, began: e.Time})
		}
		return
	}
	p.counts[e.State]++
	if p.wave.Kind != "" && e.State != engine.NodeSame { // those were never among what a wave is to change
		p.ended++
	}
	if i < 0 {
		return
	}
	h := p.hand[i]
	p.hand = slices.Delete(p.hand, i, i+1)
	h.state, h.until = e.State, e.Time
	p.latest = append([]*inHand{h}, p.latest[:min(len(p.latest), maxRows-1)]...)
	p.timed = min(p.timed+1, maxTimed)
	p.took += (e.Time.Sub(h.began) - p.took) / time.Duration(p.timed)
}

// left is about how long the run still takes, and whether that is known at all: it
// is not before the first node is through, while people are asked, where a node takes far longer than others did,
// and when the run stops, which is then over with the nodes in hand.
func (p *progress) left(now time.Time) (d time.Duration, known bool) {
	if p.timed == 0 || p.asked || p.stops {
		return 0, false
	}
	var been time.Duration // of the nodes in hand, on the average
	for _, h := range p.hand {
		been += now.Sub(h.began) / time.Duration(len(p.hand))
	}
	if len(p.hand) > 0 && now.Sub(p.hand[0].began) > max(3*p.took, p.took+10*time.Second) {
		return 0, false
	}
	var this engine.WaveOutlook
	waves := p.outlook.Waves
	if i := p.wave.Wave - 1; i >= 0 && i < len(waves) {
		this = waves[i]
	}
	changes := this.Changes - p.changes
	d = p.rounds(p.wave.Nodes-p.ended, max(this.AtOnce, len(p.hand), 1)) - min(been, p.took)
	wait, baking := max(p.bake.Sub(now), 0), !p.bake.IsZero()
	for i := p.wave.Wave; i < len(waves); i++ {
		if waves[i].Nodes == 0 {
			continue
		}
		changes += waves[i].Changes
		d += p.rounds(waves[i].Nodes, waves[i].AtOnce)
		if i > 0 && !baking { // else it is the wait that goes on
			wait += time.Duration(p.outlook.Bake)
		}
		baking = false
	}
	if n := p.outlook.ChangesPerMinute; n > 0 && changes > n { // the first minute's worth may begin at once
		d = max(d, time.Duration(changes-n)*time.Minute/time.Duration(n))
	}
	if p.pace.node != "" {
		d = max(d, p.pace.until.Sub(now))
	}
	return d + wait, d+wait > 0
}

// rounds is how long n nodes take, of which so many are changed at once.
func (p *progress) rounds(n, atOnce int) time.Duration {
	return time.Duration((max(n, 0)+atOnce-1)/max(atOnce, 1)) * p.took
}

// frame is how it looks at a moment, in lines that fit a terminal of so many
// columns and rows; nothing where nothing goes on.
func (p *progress) frame(now time.Time, width, height int, s Style) []string {
	switch {
	case p.foresee > 0:
		return []string{ansi.Truncate(bar("predicting", p.foreseen, p.foresee, "", width, s), max(width-1, 1), "…")}
	case p.over || p.wave.Kind == "":
		return nil
	}
	rows := p.rows(min(maxRows, max(height-4, 0)))
	column := 0
	for _, h := range rows {
		column = max(column, ansi.StringWidth(shown(h.node)))
	}
	column = min(column, max(width/3, 8))
	out := []string{p.bar(now, width, s)}
	for _, h := range rows {
		out = append(out, h.line(now, column, s))
	}
	if more := len(p.hand) - len(rows); more > 0 {
		out = append(out, fmt.Sprintf("  and %d more in hand", more))
	}
	if p.pace.node != "" {
		out = append(out, shown(fmt.Sprintf("  %s waits %s, for limit changes_per_minute", p.pace.node, seconds(p.pace.until.Sub(now)+time.Second-1))))
	}
	if p.gate != "" {
		out = append(out, s.wrap(dim, p.gate))
	}
	if c := p.counted(); c != "" {
		out = append(out, s.wrap(dim, "  "+c))
	}
	out = out[:min(len(out), max(height-1, 1))]
	for i, l := range out {
		out[i] = ansi.Truncate(l, max(width-1, 1), "…")
	}
	return out
}

// rows is the nodes that have lines, n at most: those in hand, and as far as there is room those that have just ended.
func (p *progress) rows(n int) []*inHand {
	out := slices.Clone(p.hand[:min(len(p.hand), n)])
	return append(out, p.latest[:min(len(p.latest), n-len(out))]...)
}

func (h *inHand) line(now time.Time, column int, s Style) string {
	name := shown(h.node)
	if t, is := engine.ParseTarget(h.node); is && ansi.StringWidth(name) > column {
		name = shown(t.Short())
	}
	name = ansi.Truncate(name, column, "…")
	name += strings.Repeat(" ", column-ansi.StringWidth(name))
	at, colour := now, ""
	switch h.state {
	case engine.NodeApplying:
	case engine.NodeDone:
		at, colour = h.until, green
	default:
		at, colour = h.until, red
	}
	state := fmt.Sprintf("%-9s", h.state)
	if colour != "" {
		state = s.wrap(colour, state)
	}
	return strings.TrimRight(fmt.Sprintf("  %s  %s %6s  %s", name, state, seconds(at.Sub(h.began)), shown(h.last)), " ")
}

// bar is the first line: how far the wave is, and for how long the run still goes on.
func (p *progress) bar(now time.Time, width int, s Style) string {
	name, _, _ := strings.Cut(cells(p.wave.Text), ":")
	if wait := p.bake.Sub(now); !p.bake.IsZero() {
		name = fmt.Sprintf("%s, %s until the next", name, seconds(wait+time.Second-1))
	}
	if p.stops {
		name += ", stopping"
	}
	left := ""
	if d, known := p.left(now); known {
		left = "   about " + about(d) + " left"
	}
	return bar(name, p.ended, p.wave.Nodes, left, width, s)
}

// bar is one line: what goes on, how many of the nodes have been through it, and what else there is to say.
func bar(name string, done, of int, more string, width int, s Style) string {
	end := fmt.Sprintf("  %d of %s", done, count(of, "node"))
	if width < 60 {
		end = fmt.Sprintf("  %d/%d", done, of)
	}
	end += more
	room := min(width-ansi.StringWidth(name)-ansi.StringWidth(end)-3, 30)
	if room < 5 {
		return s.bold(name) + end
	}
	return s.bold(name) + "  " + gauge(done, of, room, green, s) + end
}

// gauge is a bar of so many columns, of which n of so many are full.
func gauge(n, of, columns int, colour string, s Style) string {
	full := 0
	if of > 0 {
		full = min(n, of) * columns / of
	}
	return s.wrap(colour, strings.Repeat("█", full)) + s.wrap(dim, strings.Repeat("░", columns-full))
}

// counted is how many nodes have come to which end in the whole run.
func (p *progress) counted() string {
	var parts []string
	for _, state := range endOrder {
		if n := p.counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}

// seconds is a time that is seen to pass.
func seconds(d time.Duration) string { return max(d, 0).Truncate(time.Second).String() }

// about is a time that nobody knows exactly: no finer than it can be meant.
func about(d time.Duration) string {
	switch {
	case d <= 5*time.Second:
		return "5s"
	case d < time.Minute:
		return (d + 5*time.Second - 1).Truncate(5 * time.Second).String()
	case d < time.Hour:
		return strings.TrimSuffix((d + time.Minute/2).Truncate(time.Minute).String(), "0s")
	default:
		return strings.TrimSuffix((d + 5*time.Minute/2).Truncate(5*time.Minute).String(), "0s")
	}
}
