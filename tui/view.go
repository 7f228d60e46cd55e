package tui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"runbook/engine"
	"runbook/engine/rollout"
)

// This file is where the operator looks: which node the cursor is on, what is filtered, how far
// is scrolled. That is all that the screen keeps of its own; the rest is the board's.

// The least that the screen needs of a terminal.
const (
	minWidth  = 60
	minHeight = 15
)

// pane is a part of the screen that can be moved in.
type pane int

const (
	paneFleet pane = iota
	paneNode
	paneLog
	panes
)

// tab is what is shown of a node.
type tab int

const (
	tabDiff tab = iota
	tabOutput
	tabFacts
	tabResult // of the run, once it is over
)

var tabNames = [...]string{"diff", "output", "facts", "result"}

// row is a line of the fleet: a wave, a group in it, or a node.
type row struct {
	wave  *waveSeen
	group *groupSeen
	node  *nodeSeen
}

// view is what is on the screen. One goroutine uses it: that of its bubbletea program.
type view struct {
	board  *board
	opts   Options
	style  Style
	now    func() time.Time
	after  func(time.Duration, tea.Msg) tea.Cmd
	inbox  *inbox
	width  int
	height int

	rows  []row
	at    *nodeSeen // under the cursor
	where int       // its row
	top   int       // the first row that is to be seen
	tells string    // what the filter looks for
	roams bool      // the operator has moved the cursor away: it does not follow what happens

	focus  pane
	tab    tab
	down   int // lines of the node that are scrolled away
	up     int // lines of the log that are below what is to be seen
	helped bool

	asking    *asking // the question that can be answered here
	filtering bool
	typed     *typed // what has to be typed to confirm something
	note      string // said until the next key
	wants     bool   // the operator wants the run to be paused
	stops     int    // how often he has stopped it
	suspends  *suspension
	stands    func() tea.Cmd // suspends this process
	back      time.Time      // when it has last taken the terminal again
	result    *result
	proof     proof
	opened    bool // the first frame has been drawn
	keys      heard

	frame   string
	input   tea.Position // where the cursor of the terminal stands
	dirty   bool         // the frame is not as it should be
	ticking bool
	details details
}

// asking is a question that waits for an answer.
type asking struct {
	q      rollout.Question
	answer chan rollout.Answer // takes one
}

// typed is what has to be typed before something is done.
type typed struct {
	title   string
	want    string
	text    string
	answers bool // the question
	do      func()
}

// result is how the run ended; without an error: as it should.
type result struct{ err *engine.Error }

func newView(o Options, s Style, now func() time.Time, in *inbox) *view {
	after := func(d time.Duration, msg tea.Msg) tea.Cmd {
		return tea.Tick(d, func(time.Time) tea.Msg { return msg })
	}
	return &view{board: newBoard(), opts: o, style: s, now: now, after: after, stands: standStill, inbox: in, dirty: true, width: 80, height: 24}
}

// The messages of the program to itself.
type (
	freshMsg struct{}          // the inbox has something
	tickMsg  struct{}          // a second has passed
	lateMsg  struct{ nth int } // the terminal has not reported on a request for a while
)

// Init implements [tea.Model].
func (v *view) Init() tea.Cmd { return v.prove() }

// Update implements [tea.Model].
func (v *view) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		v.width, v.height, v.dirty = msg.Width, msg.Height, true
		v.reach()
		cmd = v.prove()
	case freshMsg:
		cmd = v.fresh()
	case tickMsg:
		v.ticking, v.dirty = false, true
	case tea.CursorPositionMsg:
		cmd = v.reported(tea.Position(msg))
	case lateMsg:
		cmd = v.late(msg.nth)
	case tea.KeyPressMsg:
		v.dirty = true
		cmd = v.key(msg.String())
	case resumedMsg:
		v.dirty = true
		cmd = v.resumed(msg.stood)
	case goesOnMsg:
		cmd = v.retake()
	case backMsg:
		v.dirty = true
		cmd = v.prove()
	}
	return v, tea.Batch(cmd, v.tick())
}

// View implements [tea.Model].
func (v *view) View() tea.View {
	if v.dirty {
		v.dirty = false
		v.frame = strings.Join(v.draw(), "\n")
	}
	out := tea.NewView(v.frame)
	out.AltScreen = true
	out.Cursor = &tea.Cursor{Position: v.input, Shape: tea.CursorBlock}
	return out
}

// tick is the next second, where something moves with it.
func (v *view) tick() tea.Cmd {
	if v.ticking || !v.board.moves() {
		return nil
	}
	v.ticking = true
	return v.after(time.Second, tickMsg{})
}

// fresh takes what has come in.
func (v *view) fresh() tea.Cmd {
	in := v.inbox.take()
	var wave *engine.Event
	for i, t := range in.events {
		v.board.take(t.event, t.does)
		if t.event.Kind == engine.EventWave {
			wave = &in.events[i].event
		}
	}
	v.dirty = v.dirty || len(in.events) > 0 || in.asking != v.asking || in.result != nil
	v.lay()
	if wave != nil && !v.roams {
		v.goToWave(wave.Wave)
	}
	var cmds []tea.Cmd
	if in.asking != v.asking {
		cmds = append(cmds, v.ask(in.asking))
	}
	if in.result != nil && v.result == nil {
		cmds = append(cmds, v.finish(in.result))
	}
	return tea.Batch(append(cmds, v.suspendIfStill())...)
}

// ask puts another question, or takes the last one back (nil).
func (v *view) ask(a *asking) tea.Cmd {
	if v.asking = a; v.typed != nil && v.typed.answers {
		v.typed = nil
	}
	if a == nil {
		return nil
	}
	n := v.board.node(a.q.Plan.Node)
	n.plan = a.q.Plan // what is shown is what is confirmed
	v.lay()
	if !v.roams {
		v.goTo(n)
		v.tab = tabDiff
	}
	return v.prove()
}

// asked is the node that can be answered for, or nil.
func (v *view) asked() *nodeSeen {
	if v.asking == nil {
		return nil
	}
	return v.board.node(v.asking.q.Plan.Node)
}

// finish shows how the run ended. Who only looks on has nothing to do there.
func (v *view) finish(r *result) tea.Cmd {
	v.result, v.typed, v.filtering, v.suspends, v.note = r, nil, false, nil, ""
	if v.opts.ReadOnly {
		return tea.Quit
	}
	v.tab, v.down = tabResult, 0
	if n := v.board.refused(); n != nil && v.board.end == nil {
		v.goTo(n)
	}
	return v.prove()
}

// lay makes the rows of the fleet, where they are others than they were.
func (v *view) lay() {
	if !v.board.muddled && v.tells == "" && v.rows != nil {
		return
	}
	v.rows = v.rows[:0]
	for _, w := range v.board.inOrder() {
		header := false
		for _, g := range w.groups {
			title := false
			for _, n := range g.nodes {
				if !v.finds(n) {
					continue
				}
				if !header {
					v.rows = append(v.rows, row{wave: w})
				}
				if !title && g.title != "" {
					v.rows = append(v.rows, row{wave: w, group: g})
				}
				header, title = true, true
				v.rows = append(v.rows, row{wave: w, group: g, node: n})
			}
		}
	}
	v.find()
}

// finds reports whether the filter lets a node be seen: its name, its state, its groups and
// what it gets have all the words of it between them.
func (v *view) finds(n *nodeSeen) bool {
	for _, word := range strings.Fields(strings.ToLower(v.tells)) {
		has := func(text string) bool { return strings.Contains(strings.ToLower(text), word) }
		if has(n.name) || has(v.stateOf(n)) || n.group != nil && n.group.odd && strings.HasPrefix("differs", word) || n.info != nil && slices.ContainsFunc(n.info.Groups, has) {
			continue
		}
		return false
	}
	return true
}

// find has the cursor on the row of its node, or near where it was.
func (v *view) find() {
	if i := slices.IndexFunc(v.rows, func(r row) bool { return r.node != nil && r.node == v.at }); i >= 0 {
		v.where = i
	} else {
		v.where = min(v.where, max(len(v.rows)-1, 0))
		v.step(0)
	}
	v.reach()
}

// step moves the cursor by so many rows, and on to a node.
func (v *view) step(n int) {
	if len(v.rows) == 0 {
		v.at, v.where = nil, 0
		return
	}
	i := min(max(v.where+n, 0), len(v.rows)-1)
	down := n >= 0
	for v.rows[i].node == nil { // the last row is a node, and so is one below every header
		if i == 0 {
			down = true
		}
		if down {
			i++
		} else {
			i--
		}
	}
	if v.rows[i].node != v.at {
		v.down = 0
	}
	v.at, v.where = v.rows[i].node, i
	v.reach()
}

// goTo puts the cursor on a node, if it is to be seen.
func (v *view) goTo(n *nodeSeen) bool {
	i := slices.IndexFunc(v.rows, func(r row) bool { return r.node == n })
	if i < 0 {
		return false
	}
	v.where = i
	v.step(0)
	return true
}

func (v *view) goToWave(nth int) {
	if i := slices.IndexFunc(v.rows, func(r row) bool { return r.wave.nth == nth && r.node != nil && !r.group.idle && !r.group.fails }); i >= 0 {
		v.where = i
		v.step(0)
	}
}

// reach scrolls the fleet so that the cursor is to be seen, and the headers above it where there is room.
func (v *view) reach() {
	height := v.sizes().body - 1
	above := v.where
	for above > 0 && v.rows[above-1].node == nil && v.where-above < 2 {
		above--
	}
	if v.top > above {
		v.top = above
	}
	if v.where-v.top >= height {
		v.top = v.where - height + 1
	}
	v.top = max(min(v.top, len(v.rows)-height), 0)
}

// stateOf is where a node stands, in a word.
func (v *view) stateOf(n *nodeSeen) string {
	switch q := v.board.question; {
	case n.state != "":
		return string(n.state)
	case q != nil && q.Node == n.name && v.board.end == nil:
		return "asked"
	case n.confirmed || v.board.pace.node == n.name:
		return "waits"
	case n.err != nil:
		return "error"
	}
	return ""
}

// placeOf is a node's place in the run, for people.
func (v *view) placeOf(n *nodeSeen) string {
	switch n.wave {
	case earlier:
		return "before it was taken up again"
	case shared:
		return "shared by the nodes"
	}
	if of := len(v.board.outlook.Waves); of > 0 {
		return fmt.Sprintf("wave %d of %d", n.wave, of)
	}
	return fmt.Sprintf("wave %d", n.wave)
}
