package tui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"runbook/engine"
)

// This file draws the screen: the title, below it the fleet and a node side by side, below them how far
// the run is, its budgets, gates and log, and at the bottom what is asked and what the keys do.

// sizes is how the screen is divided, in columns and rows.
type sizes struct {
	left, right int // columns of the fleet and of the node; a line is between them
	body, lower int // rows of these, with their titles, and of what is below them
}

func (v *view) sizes() sizes {
	left := min(max(v.width*2/5, 28), 64)
	lower := min(max(v.height*3/10, 3), 14)
	return sizes{left: left, right: v.width - left - 1, body: v.height - lower - 5, lower: lower}
}

// small reports whether there is no room for what has to be seen.
func (v *view) small() bool { return v.width < minWidth || v.height < minHeight }

// draw is the whole screen, in lines of its width.
func (v *view) draw() []string {
	if v.small() {
		return v.tooSmall()
	}
	size := v.sizes()
	out := []string{v.title()}
	if v.helped {
		v.input.Y = 0
		return append(out, v.help(v.height-1)...)
	}
	fleet, node := v.fleet(size), v.node(size)
	for i := range size.body {
		out = append(out, fleet[i]+v.style.wrap(dim, "│")+node[i])
	}
	out = append(out, v.style.wrap(dim, strings.Repeat("─", v.width)))
	out = append(out, v.below(size)...)
	v.input.Y = len(out)
	out = append(out, v.prompt()...)
	return append(out, v.hints())
}

// tooSmall says so, and which key does something all the same, in as many lines as that takes.
func (v *view) tooSmall() []string {
	v.input.X, v.input.Y = 0, 0
	key := "^C stops the run"
	switch {
	case v.result != nil:
		key = "the run is over, ^C leaves"
	case v.opts.Stop == nil:
		key = "^C leaves"
	case v.stops > 0:
		key = "^C again puts back what is in hand"
	}
	var out []string
	for _, l := range folded(coloured{strong, fmt.Sprintf("too small: %dx%d, and %dx%d is needed; %s", v.width, v.height, minWidth, minHeight, key)}, max(v.width, 1)) {
		out = append(out, newStrip(max(v.width, 1), v.style).add(l.colour, l.text).String())
	}
	return out[:min(len(out), max(v.height, 1))]
}

// status is what the run does, in a word or two, and how that looks.
func (v *view) status() (text, colour string) {
	b := v.board
	switch {
	case v.result != nil && v.result.err != nil:
		return fmt.Sprintf("ENDED, EXIT %d", v.result.err.Code), red
	case v.result != nil || b.end != nil:
		return "ENDED", green
	case b.stops || v.stops > 0:
		return "STOPPING", yellow
	case v.suspends != nil:
		return "SUSPENDING", yellow
	case b.paused || v.wants && v.asking != nil:
		return "PAUSED", yellow
	case v.wants:
		return "PAUSING", yellow
	case v.asking != nil:
		return "WAITING FOR YOU", yellow
	case b.question != nil:
		return "WAITING FOR AN ANSWER", ""
	case len(b.back) > 0:
		return "TAKING BACK", ""
	case len(b.hand) > 0:
		return "APPLYING", ""
	case !b.bake.IsZero():
		return "BAKING", ""
	case !b.begun && b.predicting.Kind != "":
		return "PREDICTING", ""
	}
	return "RUNNING", ""
}

func (v *view) title() string {
	status, colour := v.status()
	t := newStrip(v.width, v.style).add(strong+colour, status).add("", "  ")
	if v.board.run == "" || v.width < 100 {
		return t.add("", v.opts.Title).String()
	}
	t.add("", ansi.Truncate(cells(v.opts.Title), max(t.room-len(v.board.run)-2, 0), "…"))
	return t.right(dim, v.board.run).String()
}

// heading is the title of a pane, in brackets where the keys move in it.
func (v *view) heading(t *strip, p pane, text string) *strip {
	if v.focus == p {
		return t.add(strong, "["+text+"]")
	}
	return t.add(dim, " "+text+" ")
}

// fleet is the rows of the fleet that are to be seen.
func (v *view) fleet(size sizes) []string {
	t := v.heading(newStrip(size.left, v.style), paneFleet, "fleet")
	b := v.board
	switch {
	case v.tells != "" || v.filtering:
		shows := 0
		for _, r := range v.rows {
			if r.node != nil {
				shows++
			}
		}
		t.add(yellow, fmt.Sprintf(" %d of %d have /%s", shows, len(b.nodes), v.tells))
	case !b.begun && b.predicting.Nodes > 0:
		t.add("", fmt.Sprintf(" %d of %d predicted", b.foreseen, b.predicting.Nodes))
	default:
		t.add("", " "+count(len(b.nodes)-len(b.waveOf(shared).nodes), "node"))
	}
	height := size.body - 1
	out := []string{t.String()}
	for i := v.top; i < min(len(v.rows), v.top+height); i++ {
		out = append(out, v.row(i, size.left))
	}
	for len(out) <= height {
		out = append(out, newStrip(size.left, v.style).String())
	}
	return out
}

func (v *view) row(i, width int) string {
	t := newStrip(width, v.style)
	switch r := v.rows[i]; {
	case r.node != nil:
		return v.nodeRow(t, r.node)
	case r.group != nil:
		return groupRow(t, r.group)
	default:
		return v.waveRow(t, r.wave)
	}
}

// stateWidth is the columns of the longest state.
const stateWidth = len(engine.NodeSame)

func (v *view) nodeRow(t *strip, n *nodeSeen) string {
	mark := "  "
	if n.group != nil && n.group.odd {
		mark = " !"
	}
	if n == v.at {
		t.under, mark = reverse, ">"+mark[1:]
	}
	state := v.stateOf(n)
	t.add("", mark+" ")
	return t.add("", nameIn(n.name, max(t.room-stateWidth-1, 4))).keep(stateWidth).add(stateColour(state), state).String()
}

// stateColour is how a state looks, beside being a word.
func stateColour(state string) string {
	switch state {
	case "asked", "waits", string(engine.NodeApplying), string(engine.NodeUndoing):
		return yellow
	case string(engine.NodeDone):
		return green
	case string(engine.NodeFailed), string(engine.NodeInDoubt), "error":
		return red
	}
	return dim
}

func groupRow(t *strip, g *groupSeen) string {
	switch {
	case g.odd:
		t.add(yellow, fmt.Sprintf(" ! differs ×%d  ", len(g.nodes)))
		return t.add(bySign(g.title), g.title).String()
	case g.fails:
		return t.add(red, fmt.Sprintf("   ×%d  %s", len(g.nodes), g.title)).String()
	}
	t.add(dim, fmt.Sprintf("   ×%d  ", len(g.nodes)))
	return t.add(bySign(g.title), g.title).String()
}

func (v *view) waveRow(t *strip, w *waveSeen) string {
	if t.add(strong, v.placeOf(w.nodes[0])); w.nth <= earlier {
		return t.String()
	}
	ended, failed := 0, 0
	for _, n := range w.nodes {
		switch n.state {
		case engine.NodeFailed, engine.NodeInDoubt:
			failed++
			ended++
		case "", engine.NodeApplying, engine.NodeUndoing, engine.NodeSame, engine.NodeUntried:
		default:
			ended++
		}
	}
	if failed > 0 {
		return t.right(red, fmt.Sprintf("%d failed, %d/%d", failed, ended, w.todo)).String()
	}
	return t.right("", fmt.Sprintf("%d/%d through", ended, w.todo)).String()
}

// help is what ? shows, in the place of all but the title.
func (v *view) help(height int) []string {
	lines := helpLines
	if v.opts.Stop == nil {
		lines = watchedHelp
	}
	var out []string
	for i := range height {
		t := newStrip(v.width, v.style)
		switch {
		case i < len(lines):
			t.add("", " "+lines[i])
		case i == height-1:
			t.add(dim, " any key leaves this")
		}
		out = append(out, t.String())
	}
	return out
}

// beside is from which width on the log stands beside what else is below.
const beside = 110

// below is how far the run is, its budgets, what its gates have seen, and the log.
func (v *view) below(size sizes) []string {
	width, log := v.width, 2
	if v.width >= beside {
		width, log = max(v.width/2, 70), 0
	} else if size.lower < 6 {
		log = 1
	}
	out := []string{v.stage(width), v.budgets(width)}
	gates := v.gateLines(width)
	out = append(out, gates[:min(len(gates), max(size.lower-len(out)-log, 0))]...)
	if v.width < beside {
		return append(out, v.logLines(width, size.lower-len(out))...)
	}
	lines := v.logLines(v.width-width-1, size.lower)
	for i := range lines {
		if i == len(out) {
			out = append(out, newStrip(width, v.style).String())
		}
		out[i] += v.style.wrap(dim, "│") + lines[i]
	}
	return out
}

// stage is how far the wave is, or the prediction.
func (v *view) stage(width int) string {
	b, now := v.board, v.now()
	t := newStrip(width, v.style)
	switch {
	case b.end != nil:
		return t.add(strong, b.end.Text).String()
	case b.wave.Kind != "":
		bar := b.bar(now, width, v.style)
		return t.raw(bar, ansi.StringWidth(bar)).String()
	case b.predicting.Kind == "":
		return t.String()
	case v.result != nil:
		return t.add(strong, b.nothing()+" has changed on any node").String()
	case b.begun:
		return t.add("", fmt.Sprintf("%s predicted; %s has changed yet", count(b.predicting.Nodes, "node"), b.nothing())).String()
	}
	predicted := bar("predicting", min(b.foreseen, b.predicting.Nodes), b.predicting.Nodes, "", width, v.style)
	return t.raw(predicted, ansi.StringWidth(predicted)).String()
}

// budgets is what the run may still use, in bars.
func (v *view) budgets(width int) string {
	b := v.board
	t := newStrip(width, v.style)
	if !b.begun {
		return t.add(dim, b.nothing()+" changes before every node is predicted").String()
	}
	limit, spent := b.limits.Duration(), b.spent.read(v.now())
	changes, most := int(b.used[engine.LimitChanges]), b.limits.N(engine.LimitChanges)
	all := []budget{
		{"failures", b.failed, b.outlook.Failures, fmt.Sprintf("%d/%d", b.failed, b.outlook.Failures)},
		{"changes", changes, most, fmt.Sprintf("%d/%d (%d made)", changes, most, b.made)},
		{"time", int(spent / time.Second), int(limit / time.Second), seconds(spent) + "/" + whole(limit)},
	}
	texts := 0
	for _, x := range all {
		texts += len(x.name) + len(x.text) + 4
	}
	columns := min(max((width-texts)/len(all), 3), 20)
	for _, x := range all {
		colour := green
		if x.n > 0 && x.n*10 >= x.of*8 {
			colour = map[bool]string{true: red, false: yellow}[x.name == "failures"]
		}
		t.add("", x.name+" ").raw(gauge(x.n, max(x.of, 1), columns, colour, v.style), columns).add("", " "+x.text+"  ")
	}
	return t.String()
}

// budget is how much of what a run may use is used.
type budget struct {
	name  string
	n, of int
	text  string
}

// whole is a time of whole minutes without its seconds.
func whole(d time.Duration) string {
	if s := d.String(); d >= time.Minute {
		return strings.TrimSuffix(strings.TrimSuffix(s, "m0s")+"m", "0mm")
	}
	return d.String()
}

// gateLines is what the hooks have seen of the fleet, the last that looked first: how they ended, what is foretold
// of servers, and numbers over time.
func (v *view) gateLines(width int) []string {
	var out []string
	looks := slices.Clone(v.board.looks)
	slices.SortStableFunc(looks, func(x, y *gateSeen) int { return y.at.Compare(x.at) })
	passed := newStrip(width, v.style)
	for _, g := range looks {
		if g.err != nil {
			out = append(out, newStrip(width, v.style).add(red+strong, g.hook+" NOT PASSED").add(red, "  "+g.err.Cause).String())
		} else {
			passed.add("", g.hook+" passed").add(dim, fmt.Sprintf(" %s, %s   ", g.at.Local().Format(time.TimeOnly), count(g.looks, "look")))
		}
	}
	if len(out) < len(looks) {
		out = append(out, passed.String())
	}
	var forecast, numbers []string
	for _, f := range v.board.forecast {
		for _, l := range folded(coloured{yellow, "forecast: " + f}, width) {
			forecast = append(forecast, newStrip(width, v.style).add(l.colour, l.text).String())
		}
	}
	for _, g := range looks {
		for _, s := range v.board.numbers {
			if s.hook == g.hook {
				numbers = append(numbers, v.numbers(s, width))
			}
		}
	}
	if v.board.made > 0 { // what is seen is more than what was foretold
		return slices.Concat(out, numbers, forecast)
	}
	return slices.Concat(out, forecast, numbers)
}

func (v *view) numbers(s *series, width int) string {
	t := newStrip(width, v.style)
	t.add("", " "+ansi.Truncate(cells(s.name), width/3, "…")+" ").add(strong, number(s.points[len(s.points)-1])).add("", "  ")
	ends := fmt.Sprintf("  %s to %s", number(slices.Min(s.points)), number(slices.Max(s.points)))
	return t.add("", sparkline(s.points, min(max(t.room-len(ends), 0), 60))).add(dim, ends).String()
}

// logLines is the end of the log, or what is scrolled to.
func (v *view) logLines(width, height int) []string {
	log := v.board.log
	if height < 1 {
		return nil
	}
	v.up = min(v.up, max(len(log)-height, 0))
	end := len(log) - v.up
	log = log[max(end-height, 0):end]
	var out []string
	for i := range height {
		t := newStrip(width, v.style)
		if i < len(log) {
			mark := " "
			if v.focus == paneLog {
				mark = ">"
			}
			t.add("", mark+log[i])
		}
		out = append(out, t.String())
	}
	return out
}
