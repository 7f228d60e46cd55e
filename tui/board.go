package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/engine/rollout"
)

// This file is what the screen knows of a run: all of it is from the run's events, so that a run
// that is taken up again, or watched from elsewhere, is shown as it was. It knows no terminal.

// board is what is known of a run.
type board struct {
	progress
	predicting engine.Event // its Kind is "" before it begins
	begun      bool         // the plan is made
	run        string
	limits     engine.Limits
	used       engine.Used
	forecast   []string
	nodes      map[string]*nodeSeen
	waves      map[int]*waveSeen // by their numbers; and those below
	muddled    bool              // nodes have come that are in no order yet
	question   *engine.Event     // that is open
	paused     bool
	made       int // changes
	failed     int // nodes
	spent      stopwatch
	looks      []*gateSeen
	numbers    []*series
	stopping   string // which nodes are finished first
	log        []string
	why        causes
	end        *engine.Event
}

// What is in no wave: nodes that were in hand, or through, before the run was taken up again, and
// servers that the nodes share.
const (
	earlier = 0
	shared  = -1
)

// nodeSeen is what is known of a node.
type nodeSeen struct {
	name         string
	nth          int
	wave         int
	state        engine.NodeState // "": its turn has not come
	plan         *engine.NodePlan // nil: nothing was predicted for it
	info         *engine.NodeInfo
	err          *engine.Error // why it could not be predicted, or failed
	confirmed    bool          // it begins when it is its turn
	does         string        // nodes of which it is equal get the same
	group        *groupSeen    // nil: it has no plan
	began, ended time.Time
	output       []string
}

// waveSeen is the nodes of a wave.
type waveSeen struct {
	nth    int
	nodes  []*nodeSeen
	groups []*groupSeen
	todo   int // nodes on which something is to change
}

// groupSeen is the nodes of a wave that get the same.
type groupSeen struct {
	nodes []*nodeSeen
	title string
	idle  bool // nothing is to change
	fails bool // it could not be predicted
	odd   bool // what they get is not what most of their wave get
}

// gateSeen is how the looks of a hook have ended.
type gateSeen struct {
	hook  string
	looks int
	at    time.Time
	err   *engine.Error
}

// series is a number that a hook has seen, over time.
type series struct {
	hook, name string
	points     []float64
}

// How much is kept of what would otherwise grow without end.
const (
	maxPoints = 512  // of a series
	maxLog    = 5000 // lines
)

// stopwatch is the time that a run has used of its limit, which is not people's.
type stopwatch struct {
	base   time.Duration
	since  time.Time // from which it goes on; zero: it stands
	stands int       // for how many reasons
}

func (c *stopwatch) set(base time.Duration, at time.Time) {
	if c.base = base; c.stands == 0 {
		c.since = at
	}
}

// stand stops the clock, or takes one reason for that away.
func (c *stopwatch) stand(stand bool, at time.Time) {
	if stand {
		if c.stands++; c.stands == 1 && !c.since.IsZero() {
			c.base, c.since = c.base+at.Sub(c.since), time.Time{}
		}
	} else if c.stands > 0 {
		if c.stands--; c.stands == 0 {
			c.since = at
		}
	}
}

func (c *stopwatch) read(now time.Time) time.Duration {
	if c.since.IsZero() {
		return c.base
	}
	return c.base + max(now.Sub(c.since), 0)
}

func newBoard() *board {
	return &board{nodes: map[string]*nodeSeen{}, waves: map[int]*waveSeen{}, why: causes{}}
}

// doesOf is what tells what is planned for a node from what is planned for others.
func doesOf(e engine.Event) string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("! %d", e.Err.Code)
	case e.Plan != nil:
		return e.Plan.Does()
	}
	return diffText(e.Diff)
}

func diffText(d resource.Diff) string {
	var b strings.Builder
	for _, c := range d {
		b.WriteString(strings.Join(c.Lines(), "\n") + "\n")
	}
	return b.String()
}

// take takes an event; does is what [doesOf] says of one that was planned.
func (b *board) take(e engine.Event, does string) {
	b.progress.take(e)
	b.why.note(e)
	b.note(e)
	if e.Run != "" {
		b.run = e.Run
	}
	switch e.Kind {
	case engine.EventPredict:
		b.predicting = e
		b.spent.set(0, e.Time)
	case engine.EventPlanned:
		b.plan(e, does)
	case engine.EventRun:
		b.start(e)
	case engine.EventNode:
		b.turn(e)
	case engine.EventQuestion:
		b.question, b.asked = &e, true
		b.spent.stand(true, e.Time)
	case engine.EventAnswer:
		b.answered(e.Time)
		b.confirm(e)
	case engine.EventPaused, engine.EventUnpaused:
		b.paused = e.Kind == engine.EventPaused
		b.spent.stand(b.paused, e.Time)
	case engine.EventChange:
		b.made++
	case engine.EventGate:
		b.looked(e)
	case engine.EventValue:
		b.saw(e)
	case engine.EventStopping:
		b.stopping = e.Text
	case engine.EventEnd:
		b.close(e)
	}
}

func (b *board) answered(at time.Time) {
	if b.question != nil {
		b.question = nil
		b.spent.stand(false, at)
	}
}

// confirm marks the nodes that an answer lets begin.
func (b *board) confirm(e engine.Event) {
	n := b.node(e.Node)
	switch e.Text {
	case rollout.Yes.String():
		n.confirmed = true
	case rollout.All.String():
		b.arrange()
		for _, alike := range n.group.nodes {
			alike.confirmed = true
		}
	}
}

func (b *board) close(e engine.Event) {
	b.answered(e.Time)
	b.spent.stand(true, e.Time)
	b.limits, b.used, b.end, b.paused = e.Limits, e.Used, &e, false
	for state, names := range e.States {
		for _, n := range names {
			b.node(n).state = state
		}
	}
}

// node is the node of that name, which is in no wave where nothing was planned for it.
func (b *board) node(name string) *nodeSeen {
	n := b.nodes[name]
	if n == nil {
		n = &nodeSeen{name: name, wave: earlier}
		if engine.IsTarget(name) {
			n.wave = shared
		}
		b.nodes[name] = n
		b.join(n)
	}
	return n
}

// waveOf is the wave of that number.
func (b *board) waveOf(nth int) *waveSeen {
	w := b.waves[nth]
	if w == nil {
		w = &waveSeen{nth: nth}
		b.waves[nth] = w
	}
	return w
}

// join puts a node into its wave.
func (b *board) join(n *nodeSeen) {
	w := b.waveOf(n.wave)
	w.nodes = append(w.nodes, n)
	b.muddled = true
}

// plan takes what was predicted for a node; of one that has drifted since it is told once more.
func (b *board) plan(e engine.Event, does string) {
	n, known := b.nodes[e.Node]
	if !known {
		n = &nodeSeen{name: e.Node, wave: e.Wave, nth: e.Nth}
		b.nodes[e.Node] = n
		if engine.IsTarget(e.Node) {
			n.wave = shared
		}
		b.join(n)
	}
	if n.wave == shared { // a hook may change it more than once
		n.state = ""
	}
	n.plan, n.info, n.err, n.does = e.Plan, e.Info, e.Err, does
	if n.plan == nil { // told by a process that keeps it to itself
		n.plan = &engine.NodePlan{Node: e.Node, Err: e.Err, Created: e.Time}
		for _, c := range e.Diff {
			n.plan.Steps = append(n.plan.Steps, engine.PlannedChange{Edit: engine.Edit{
				Before: resource.State{c.Key: c.Before}, After: resource.State{c.Key: c.After},
			}})
		}
	}
	b.muddled = true
}

func (b *board) start(e engine.Event) {
	b.begun, b.limits, b.used, b.forecast = true, e.Limits, e.Used, e.Forecast
	b.spent.set(time.Duration(e.Used[engine.LimitDuration]), e.Time)
	for state, names := range e.States {
		for _, name := range names {
			if n := b.node(name); state != engine.NodeUntried {
				b.enter(n, state)
			}
		}
	}
}

// turn takes a node to another state.
func (b *board) turn(e engine.Event) {
	n := b.node(e.Node)
	b.enter(n, e.State)
	if e.Err != nil {
		n.err = e.Err
	}
	switch e.State {
	case engine.NodeApplying:
		n.began = e.Time
	case engine.NodeUndoing:
	default:
		n.ended = e.Time
	}
}

func (b *board) enter(n *nodeSeen, s engine.NodeState) {
	failed := func(s engine.NodeState) bool { return s == engine.NodeFailed || s == engine.NodeInDoubt }
	if failed(s) && !failed(n.state) {
		b.failed++
	}
	n.state = s
}

func (b *board) looked(e engine.Event) {
	i := slices.IndexFunc(b.looks, func(g *gateSeen) bool { return g.hook == e.Op })
	if i < 0 {
		i = len(b.looks)
		b.looks = append(b.looks, &gateSeen{hook: e.Op})
	}
	g := b.looks[i]
	g.looks, g.at, g.err = g.looks+1, e.Time, e.Err
}

func (b *board) saw(e engine.Event) {
	i := slices.IndexFunc(b.numbers, func(s *series) bool { return s.hook == e.Op && s.name == e.Text })
	if i < 0 {
		i = len(b.numbers)
		b.numbers = append(b.numbers, &series{hook: e.Op, name: e.Text})
	}
	s := b.numbers[i]
	s.points = append(s.points[max(len(s.points)-maxPoints+1, 0):], *e.Value)
}

// note keeps what is said of e: of a node by the node, and what everybody should know in the log.
func (b *board) note(e engine.Event) {
	var lines []string
	switch e.Kind {
	case engine.EventPlanned, engine.EventRun, engine.EventQuestion, engine.EventEnd, engine.EventValue:
		return // they are shown in their own places
	case engine.EventAnswer:
		lines = []string{fmt.Sprintf("%s: %s", e.Node, e.Text)}
	default:
		lines = eventLines(e, b.why, Style{})
	}
	if len(lines) == 0 {
		return
	}
	at := e.Time.Local().Format(time.TimeOnly) + " "
	if e.Node != "" {
		n := b.node(e.Node)
		for i, l := range lines {
			if i > 0 {
				at = strings.Repeat(" ", len(at))
			}
			n.output = append(n.output, at+l)
		}
	}
	if logged(e) {
		line := lines[0]
		if t, is := engine.ParseTarget(e.Node); is { // what it does comes behind
			line = strings.Replace(line, e.Node, t.Short(), 1)
		}
		b.log = append(b.log[max(len(b.log)-maxLog+1, 0):], e.Time.Local().Format(time.TimeOnly)+" "+line)
	}
}

// logged reports whether e is for everybody: what a node does on its way is not.
func logged(e engine.Event) bool {
	switch e.Kind {
	case engine.EventChange, engine.EventUnchanged, engine.EventConfirmed:
		return false
	case engine.EventGate:
		return e.Err != nil
	case engine.EventNode:
		return e.State != engine.NodeApplying && e.State != engine.NodeUndoing && e.State != engine.NodeSame
	}
	return true
}

// arrange puts the nodes into order: waves, in them those that get the same together, and these as the run takes them.
func (b *board) arrange() {
	if !b.muddled {
		return
	}
	b.muddled = false
	for _, w := range b.waves {
		slices.SortStableFunc(w.nodes, func(x, y *nodeSeen) int { return cmp.Compare(x.nth, y.nth) })
		w.group()
	}
}

func (w *waveSeen) group() {
	w.groups, w.todo = nil, 0
	by := map[string]*groupSeen{}
	for _, n := range w.nodes {
		g := by[n.does]
		if g == nil {
			g = &groupSeen{}
			if n.plan != nil {
				g.idle, g.fails, g.title = len(n.plan.Changes()) == 0 && n.plan.Err == nil, n.plan.Err != nil, groupTitle(n.plan)
			}
			by[n.does] = g
			w.groups = append(w.groups, g)
		}
		n.group = g
		g.nodes = append(g.nodes, n)
		if !g.idle && !g.fails && n.plan != nil {
			w.todo++
		}
	}
	w.mark()
}

// mark marks the groups whose nodes get something else than most: where no group is the largest, all of them.
func (w *waveSeen) mark() {
	var most, second int
	changing := 0
	for _, g := range w.groups {
		if g.idle || g.fails {
			continue
		}
		changing++
		if n := len(g.nodes); n > most {
			most, second = n, most
		} else if n > second {
			second = n
		}
	}
	for _, g := range w.groups {
		g.odd = w.nth > earlier && changing > 1 && !g.idle && !g.fails && (len(g.nodes) < most || second == most)
	}
}

// groupTitle is what nodes with this plan get, in a few words.
func groupTitle(p *engine.NodePlan) string {
	switch {
	case p.Err == nil:
	case p.Err.Code == engine.Differs:
		return "drifted since the plan was made"
	case p.Err.Code == engine.LimitHit:
		return "would go past a limit"
	case p.Err.Code == engine.Unreachable:
		return "unreachable, refused or failed"
	case p.Err.Code == engine.Interrupted:
		return "interrupted"
	default:
		return "cannot be predicted"
	}
	first, more := "", 0
	for _, c := range p.Changes() {
		if first == "" {
			first = under(p.Node, changeLines(c)[0])
		} else {
			more++
		}
	}
	switch {
	case first == "":
		return "nothing to do"
	case more > 0:
		return fmt.Sprintf("%s  and %d more", first, more)
	}
	return first
}

// inOrder is the waves, as they come.
func (b *board) inOrder() []*waveSeen {
	b.arrange()
	out := make([]*waveSeen, 0, len(b.waves))
	for _, w := range b.waves {
		out = append(out, w)
	}
	slices.SortFunc(out, func(x, y *waveSeen) int { return cmp.Compare(x.nth, y.nth) })
	return out
}

// nothing is what changes before the first wave: a run that is taken up again finishes what was in hand, and has changed something.
func (b *board) nothing() string {
	if w := b.waves[earlier]; w != nil && len(w.nodes) > 0 {
		return "nothing else"
	}
	return "nothing"
}

// moves reports whether the board looks otherwise as time goes by, though nothing happens.
func (b *board) moves() bool {
	return b.end == nil && (!b.spent.since.IsZero() || len(b.hand) > 0 || b.pace.node != "" || !b.bake.IsZero() && !b.paused)
}

// refused is the first node that could not be predicted, or nil.
func (b *board) refused() *nodeSeen {
	for _, w := range b.inOrder() {
		for _, n := range w.nodes {
			if n.plan != nil && n.plan.Err != nil {
				return n
			}
		}
	}
	return nil
}
