package tui_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/engine/rollout"
	"runbook/tui"
)

func init() { time.Local = time.UTC } // a log has the time of who reads it

// night is a run on a fleet, and how it is told of.
type night struct {
	*tui.Scene
	at     time.Time
	plans  map[string]*engine.NodePlan
	stops  int
	paused bool
	undone []string
	states map[engine.NodeState][]string
}

// Pause and Undo are those of the run.
func (n *night) Pause(paused bool) { n.paused = paused }

func (n *night) Undo(node string) bool {
	n.undone = append(n.undone, node)
	return true
}

const runID = "20261123-204455-k3f"

// fleet is the nodes of the tests: three waves.
var fleet = []string{"web-1", "web-2", "web-3", "web-4", "web-5", "edge-fra-1", "web-6", "web-7", "web-8", "web-9", "web-10", "db-primary", "db-replica", "edge-fra-2", "edge-ams-1"}

var waveEnds = []int{1, 6, 15}

func newNight(width, height int, s tui.Style, change func(*tui.Options)) *night {
	n := &night{at: start, plans: map[string]*engine.NodePlan{}, states: map[engine.NodeState][]string{}}
	o := tui.Options{Title: "run add_route.star dst=10.20.0.0/16 via=10.98.0.1 dev=eth1 restart=true", Controls: n, Stop: func() string {
		n.stops++
		return map[bool]string{true: "it stops after the changes in flight; once more puts back what is in hand", false: "it stops, and puts back what is in hand"}[n.stops == 1]
	}}
	if change != nil {
		change(&o)
	}
	n.Scene = tui.NewScene(o, width, height, s)
	n.Scene.Now = start
	return n
}

// tell tells of events, each a part of a second after the one before.
func (n *night) tell(events ...engine.Event) {
	for _, e := range events {
		n.at = n.at.Add(200 * time.Millisecond)
		e.Time, e.Run = n.at, runID
		if e.Node != "" && e.Kind == engine.EventNode && e.State != engine.NodeApplying && e.State != engine.NodeUndoing {
			n.states[e.State] = append(n.states[e.State], e.Node)
		}
		n.Scene.Tell(e)
	}
}

// later lets time go by.
func (n *night) later(d time.Duration) { n.at = n.at.Add(d); n.Scene.Now = n.at }

func waveOf(i int) int {
	for w, end := range waveEnds {
		if i < end {
			return w + 1
		}
	}
	return 0
}

// planned predicts the nodes from..to of the fleet: web-* get a route and a restart, edge-* another route, the databases nothing.
func (n *night) planned(from, to int) {
	for i := from; i < to; i++ {
		name := fleet[i]
		p := n.plans[name]
		if p == nil {
			p = nodePlan(name)
			n.plans[name] = p
		}
		n.tell(engine.Event{Kind: engine.EventPlanned, Node: name, Nth: i + 1, Wave: waveOf(i), Plan: p, Err: p.Err, Info: &engine.NodeInfo{
			Name: name, Groups: []string{strings.TrimRight(name, "-0123456789"), "prod"}, Vars: map[string]any{"rack": fmt.Sprintf("r%d", i%3), "site": "fra"},
		}})
	}
}

func nodePlan(name string) *engine.NodePlan {
	p := &engine.NodePlan{Node: name, Created: start}
	want := resource.Of(route("10.98.0.1"))
	switch {
	case strings.HasPrefix(name, "db"):
		p.Steps = []engine.PlannedChange{step(want, want)}
	case strings.HasPrefix(name, "edge"):
		p.Steps = []engine.PlannedChange{step(resource.Of(route("10.98.0.9")), want)}
	default:
		restart := engine.PlannedChange{Op: "link.restart", Object: "eth1", Pos: "add_route.star:16:19", Args: json.RawMessage(`{"dev":"eth1"}`), Edit: engine.Edit{
			Restart: "eth1", Disrupts: "link eth1", Verb: "restart", Lost: want,
			Cuts: []engine.Cut{
				{Sessions: resource.Sessions{Peer: netip.MustParseAddrPort("10.98.0.20:5432"), Count: 62}, Stalls: true},
				{Sessions: resource.Sessions{Peer: netip.MustParseAddrPort("10.98.0.0:0"), Port: 443, Count: 22}, Stalls: true},
			},
		}}
		p.Steps = []engine.PlannedChange{step(resource.State{}, want), restart}
	}
	return p
}

var theLimits = engine.Limits{
	engine.LimitNodes: {N: 200}, engine.LimitChanges: {N: 100}, engine.LimitChangesPerNode: {N: 2}, engine.LimitDisruptive: {N: 5}, engine.LimitDuration: {N: int64(30 * time.Minute)},
}

// begun is after the plan.
func (n *night) begun() {
	n.tell(engine.Event{Kind: engine.EventPredict, Nodes: len(fleet)})
	n.planned(0, len(fleet))
	n.tell(engine.Event{Kind: engine.EventValue, Op: "before", Text: "replicas", Value: ptr(2.0)}, engine.Event{Kind: engine.EventGate, Op: "before"})
	n.gate(71)
	n.tell(engine.Event{
		Kind: engine.EventRun, Limits: theLimits, Used: engine.Used{engine.LimitNodes: 15, engine.LimitChanges: 23, engine.LimitDuration: int64(3 * time.Second)},
		Outlook: &engine.Outlook{Bake: engine.Duration(time.Minute), ChangesPerMinute: 600, Failures: 1, Waves: outlook(1, 5, 7)},
	})
}

func outlook(nodes ...int) (out []engine.WaveOutlook) {
	for _, n := range nodes {
		out = append(out, engine.WaveOutlook{Nodes: n, Changes: 2 * n, AtOnce: 5})
	}
	return out
}

func ptr[T any](v T) *T { return &v }

// gate has the gate see so many free connections, and pass.
func (n *night) gate(free ...float64) {
	for _, f := range free {
		n.tell(engine.Event{Kind: engine.EventValue, Op: "gate", Text: "free connections", Value: ptr(f)},
			engine.Event{Kind: engine.EventValue, Op: "gate", Text: "replication lag, s", Value: ptr(f / 100)}, engine.Event{Kind: engine.EventGate, Op: "gate"})
	}
}

func (n *night) wave(nth int) {
	todo := []int{1, 5, 7}[nth-1]
	n.tell(engine.Event{Kind: engine.EventWave, Wave: nth, Nodes: todo, Text: fmt.Sprintf("wave %d of 3: %s", nth, fleet[append([]int{0}, waveEnds...)[nth-1]])})
}

// ask asks about a node, of so many that are alike.
func (n *night) ask(name string, wave, nth, of, alike int) chan rollout.Answer {
	n.tell(engine.Event{Kind: engine.EventQuestion, Node: name, Wave: wave, Nodes: alike, Text: fmt.Sprintf("node %d of %d", nth, of)})
	c := n.Ask(rollout.Question{Plan: n.plans[name], Wave: wave, Waves: 3, Nth: nth, Of: of, Alike: alike})
	n.Drawn()
	n.later(700 * time.Millisecond)
	return c
}

func (n *night) answered(name string, wave int, a rollout.Answer) {
	n.tell(engine.Event{Kind: engine.EventAnswer, Node: name, Wave: wave, Text: a.String()})
	n.TakenBack()
}

// applying begins a node, done finishes it.
func (n *night) applying(names ...string) {
	for _, name := range names {
		n.tell(engine.Event{Kind: engine.EventNode, Node: name, State: engine.NodeApplying})
	}
}

func (n *night) done(names ...string) {
	for _, name := range names {
		n.later(2 * time.Second)
		n.tell(engine.Event{Kind: engine.EventPrint, Node: name, Wave: 1, Text: "eth1 has 10.98.0.11/16"})
		for _, c := range n.plans[name].Changes() {
			n.tell(engine.Event{Kind: engine.EventChange, Node: name, Wave: 1, Op: c.Title(), Pos: c.Pos, Diff: c.Edit.Diff()})
		}
		n.tell(engine.Event{Kind: engine.EventNode, Node: name, State: engine.NodeDone})
	}
}

func (n *night) failed(name string, state engine.NodeState, err *engine.Error) {
	n.later(1500 * time.Millisecond)
	err.Node = name
	n.tell(engine.Event{Kind: engine.EventNode, Node: name, State: state, Err: err})
}

// first is after the first wave.
func (n *night) first() {
	n.begun()
	n.wave(1)
	n.ask("web-1", 1, 1, 1, 1)
	n.answered("web-1", 1, rollout.Yes)
	n.applying("web-1")
	n.done("web-1")
	n.gate(64)
}

// shared is the question about a server, which gets so many changes.
func (n *night) shared(server string, changes int) {
	n.tell(engine.Event{Kind: engine.EventPredict, Nodes: len(fleet)})
	n.planned(0, len(fleet))
	n.plans[server] = &engine.NodePlan{Node: server, Steps: slices.Repeat([]engine.PlannedChange{step(resource.State{}, resource.Of(route("10.98.0.1")))}, changes)}
	n.tell(engine.Event{Kind: engine.EventGate, Op: "before"}, engine.Event{Kind: engine.EventPlanned, Node: server, Plan: n.plans[server]},
		engine.Event{Kind: engine.EventRun, Limits: theLimits, Outlook: &engine.Outlook{Failures: 1, Waves: outlook(1, 5, 7)},
			Forecast: []string{"service=main: 71 of 100 connections used; at most 93 in wave 3, for a backend whose session is cut lives on for 20m0s"}})
	n.tell(engine.Event{Kind: engine.EventQuestion, Node: server, Nodes: 1, Text: "node 1 of 1"})
	n.Ask(rollout.Question{Plan: n.plans[server], Hook: "before", Waves: 3, Nth: 1, Of: 1, Alike: 1})
	n.Drawn()
}

// second is the first question of the second wave, which is about the four that are alike in it.
func (n *night) second() chan rollout.Answer {
	n.first()
	n.wave(2)
	return n.ask("web-2", 2, 1, 5, 4)
}

// all is where that was answered for all of them, and some are in hand.
func (n *night) all(names ...string) {
	n.second()
	n.answered("web-2", 2, rollout.All)
	n.applying(names...)
}

// end ends the run.
func (n *night) end(err *engine.Error, text string, next ...engine.Next) {
	left := map[string]bool{}
	for _, f := range fleet {
		left[f] = true
	}
	for _, names := range n.states {
		for _, name := range names {
			delete(left, name)
		}
	}
	for _, f := range fleet {
		if left[f] {
			n.states[engine.NodeUntried] = append(n.states[engine.NodeUntried], f)
		}
	}
	n.tell(engine.Event{Kind: engine.EventEnd, Text: runID + ": " + text, Limits: theLimits, Used: engine.Used{engine.LimitNodes: 15, engine.LimitChanges: 23, engine.LimitFailures: 1}, States: n.states, Next: next})
	n.TakenBack()
	n.Over(err)
}

var goOn = []engine.Next{{What: "go on with the nodes that are left", Command: "runbook resume " + runID}, {What: "take back what was done", Command: "runbook undo " + runID}}

// scenes are moments of a run that somebody has to understand at once.
var scenes = []struct {
	name   string
	play   func(*night)
	with   func(*tui.Options)
	colour bool
}{
	{name: "predicting", play: func(n *night) {
		n.tell(engine.Event{Kind: engine.EventPredict, Nodes: len(fleet)})
		n.planned(0, 9)
	}},
	{name: "asked", colour: true, play: func(n *night) {
		n.second()
	}},
	{name: "differs", colour: true, play: func(n *night) {
		n.first()
		n.wave(2)
		n.ask("edge-fra-1", 2, 5, 5, 1)
	}},
	{name: "elsewhere", play: func(n *night) {
		n.second()
		n.Press("down", "down", "y")
	}},
	{name: "typing", play: func(n *night) {
		n.second()
		n.Press("w", "5", "enter", "4")
	}},
	{name: "typing-undo", play: func(n *night) {
		n.second()
		n.Press("g", "r", "u", "n")
	}},
	{name: "shared", play: func(n *night) { n.shared("pg service=main via db-primary", 1) }},
	{name: "shared-dsn", play: func(n *night) {
		n.shared("pg host=db-1.eu.example.net port=5433 dbname=shop user=monitor sslmode=verify-full sslrootcert=/etc/ssl/ours.pem via db-primary", 30)
	}},
	{name: "applying", colour: true, play: func(n *night) {
		n.all("web-2", "web-3", "web-4", "web-5")
		n.done("web-3", "web-2")
		n.later(3 * time.Second)
	}},
	{name: "baking", play: func(n *night) {
		n.first()
		n.tell(engine.Event{Kind: engine.EventBake, For: engine.Duration(time.Minute), Text: "1m0s"})
		n.gate(60, 52, 55, 49, 50)
		n.later(17 * time.Second)
	}},
	{name: "gate-failed", colour: true, play: func(n *night) {
		n.first()
		n.tell(engine.Event{Kind: engine.EventBake, For: engine.Duration(time.Minute), Text: "1m0s"})
		n.gate(60, 41, 22, 9)
		gate := &engine.Error{Code: engine.GateFailed, Pos: "add_route.star:22:5", Op: "expect", Cause: "gate: Postgres has 3 of 100 connections left", Left: ""}
		n.tell(engine.Event{Kind: engine.EventValue, Op: "gate", Text: "free connections", Value: ptr(3.0)}, engine.Event{Kind: engine.EventGate, Op: "gate", Err: gate})
		n.end(gate, "1 done, 14 not tried", goOn...)
	}},
	{name: "limit-hit", play: func(n *night) {
		n.plans["web-4"] = nodePlan("web-4")
		n.plans["web-4"].Err = &engine.Error{Code: engine.LimitHit, Pos: "add_route.star:17:9", Op: "link.restart eth1", Node: "web-4", Left: engine.NothingChanged,
			Cause: "this would be change 3 on the node, but limit changes_per_node = 2 (add_route.star:9:5)", Hint: "the lowest of the runbook's header, the policies and --limit holds"}
		n.tell(engine.Event{Kind: engine.EventPredict, Nodes: len(fleet)})
		n.planned(0, len(fleet))
		n.tell(engine.Event{Kind: engine.EventRun, Limits: theLimits, Outlook: &engine.Outlook{Failures: 1, Waves: outlook(1, 4, 7)},
			Used: engine.Used{engine.LimitChanges: 21, engine.LimitDuration: int64(3 * time.Second)}})
		n.Over(&engine.Error{Code: engine.LimitHit, Cause: "refused; nothing changed on any node"})
		n.Drawn()
	}},
	{name: "drift", colour: true, play: func(n *night) {
		n.second()
		n.answered("web-2", 2, rollout.Yes)
		n.applying("web-2")
		other := route("10.98.0.77")
		e := &engine.Error{Code: engine.Differs, Pos: "add_route.star:14:19", Op: "route.add 10.20.0.0/16", Cause: "the node has drifted since it was planned", Left: engine.NothingChanged,
			Drift: resource.Compare(resource.State{}, resource.Of(other)), Hint: "make a new plan"}
		n.failed("web-2", engine.NodeFailed, e)
		n.end(e, "1 done, 1 failed, 13 not tried", goOn...)
		n.Drawn()
		n.Press("d", "g", "down")
	}},
	{name: "node-lost", play: func(n *night) {
		n.second()
		n.answered("web-2", 2, rollout.Yes)
		n.applying("web-2")
		n.tell(engine.Event{Kind: engine.EventChange, Node: "web-2", Wave: 2, Op: "route.add 10.20.0.0/16", Diff: n.plans["web-2"].Steps[0].Edit.Diff()})
		n.failed("web-2", engine.NodeInDoubt, &engine.Error{Code: engine.Unreachable, Op: "link.restart eth1", Cause: "10.99.0.12:22: the connection was lost: i/o timeout",
			Left: "changes that it may still hold: route.add 10.20.0.0/16, because they could not be put back: 10.99.0.12:22: no route to host"})
		n.ask("web-3", 2, 2, 5, 3)
		n.Press("up")
	}},
	{name: "undone", play: func(n *night) {
		n.second()
		n.Press("g", "r", "u", "n", "d", "o", "enter")
		n.tell(engine.Event{Kind: engine.EventNode, Node: "web-1", State: engine.NodeUndoing},
			engine.Event{Kind: engine.EventPutBack, Node: "web-1", Op: "route.add 10.20.0.0/16", Diff: resource.Compare(resource.Of(route("10.98.0.1")), resource.State{})},
			engine.Event{Kind: engine.EventNode, Node: "web-1", State: engine.NodeUndone})
	}},
	{name: "finished", colour: true, play: func(n *night) {
		n.first()
		n.wave(2)
		for i, name := range []string{"web-2", "web-3", "web-4", "web-5", "edge-fra-1"} {
			n.ask(name, 2, i+1, 5, max(4-i, 1))
			if name == "web-4" {
				n.answered(name, 2, rollout.Skip)
				n.tell(engine.Event{Kind: engine.EventNode, Node: name, State: engine.NodeSkipped})
				continue
			}
			n.answered(name, 2, rollout.Yes)
			n.applying(name)
			n.done(name)
		}
		n.gate(60)
		n.wave(3)
		n.tell(engine.Event{Kind: engine.EventNode, Node: "db-primary", State: engine.NodeSame}, engine.Event{Kind: engine.EventNode, Node: "db-replica", State: engine.NodeSame})
		rest := []string{"web-6", "web-7", "web-8", "web-9", "web-10", "edge-fra-2", "edge-ams-1"}
		n.applying(rest...)
		n.done(rest...)
		n.gate(66)
		n.end(nil, "12 done, 2 unchanged, 1 skipped")
	}},
	{name: "paused", play: func(n *night) {
		n.second()
		n.Press("p", "y")
		n.answered("web-2", 2, rollout.Yes)
		n.tell(engine.Event{Kind: engine.EventPaused})
		n.later(time.Minute)
	}},
	{name: "pausing", play: func(n *night) {
		n.all("web-2", "web-3", "web-4", "web-5")
		n.Press("p")
	}},
	{name: "stopping", play: func(n *night) {
		n.all("web-2", "web-3", "web-4", "web-5")
		n.done("web-3")
		n.Press("q")
		n.tell(engine.Event{Kind: engine.EventStopping, Text: "web-2, web-4, web-5"})
	}},
	{name: "filter", play: func(n *night) {
		n.second()
		n.Press("/", "e", "d", "g", "e")
	}},
	{name: "help", play: func(n *night) {
		n.second()
		n.Press("?")
	}},
	{name: "output", play: func(n *night) {
		n.second()
		n.Press("g", "d")
	}},
	{name: "facts", play: func(n *night) {
		n.second()
		n.Press("g", "d", "d", "tab")
	}},
	{name: "suspending", play: func(n *night) {
		n.all("web-2", "web-3")
		n.Press("ctrl+z")
	}},
	{name: "unasked", with: func(o *tui.Options) { o.ReadOnly = true }, play: func(n *night) {
		n.begun()
		n.wave(1)
		n.applying("web-1")
		n.done("web-1")
		n.wave(2)
		n.applying("web-2", "web-3", "web-4", "web-5", "edge-fra-1")
		n.done("web-3")
		n.tell(engine.Event{Kind: engine.EventPace, Node: "edge-fra-1", For: engine.Duration(20 * time.Second), Text: "20s"})
		n.later(3 * time.Second)
	}},
	{name: "watched", with: func(o *tui.Options) { o.Stop, o.Controls, o.ReadOnly = nil, nil, true }, play: func(n *night) {
		n.first()
		n.wave(2)
		n.tell(engine.Event{Kind: engine.EventQuestion, Node: "web-2", Wave: 2, Nodes: 4, Text: "node 1 of 5"})
		n.Drawn()
		n.Press("y")
	}},
}

// sizes are those at which every scene has to be good.
var sizes = [][2]int{{80, 24}, {120, 40}, {200, 50}}

func TestScreens(t *testing.T) {
	if err := os.MkdirAll("testdata/screen", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			var plain, colour strings.Builder
			for _, size := range sizes {
				var bare string
				for _, s := range []tui.Style{{}, {Colour: true}} {
					n := newNight(size[0], size[1], s, sc.with)
					n.Drawn()
					sc.play(n)
					lines := n.Draw()
					fits(t, lines, size[0], size[1])
					b := &plain
					if s.Colour {
						b = &colour
					}
					if text := strings.Join(lines, "\n"); !s.Colour {
						bare = text
					} else if ansi.Strip(text) != bare { // colour says nothing that is not said without it
						t.Errorf("%dx%d: in colour the text is another:\n%s\nwant\n%s", size[0], size[1], ansi.Strip(text), bare)
					}
					if !s.Colour || sc.colour {
						fmt.Fprintf(b, "-- %s, %dx%d --\n", sc.name, size[0], size[1])
						for _, l := range lines {
							b.WriteString(strings.TrimRight(l, " ") + "\n")
						}
					}
				}
			}
			golden(t, filepath.Join("screen", sc.name+".text"), plain.String())
			if sc.colour {
				golden(t, filepath.Join("screen", sc.name+".colour"), colour.String())
			}
		})
	}
}

// fits wants lines to be as wide and as many as the terminal is.
func fits(t *testing.T, lines []string, width, height int) {
	t.Helper()
	if len(lines) != height {
		t.Errorf("%dx%d: %d lines", width, height, len(lines))
	}
	for i, l := range lines {
		if w := ansi.StringWidth(l); w != width || w != ansi.StringWidthWc(l) {
			t.Errorf("%dx%d: line %d has %d columns: %q", width, height, i, w, l)
		}
	}
}

// Whatever nodes and scripts say, and whatever is pressed, the screen is as large as the terminal, and nothing in it moves a cursor.
func TestScreensHold(t *testing.T) {
	hostile := []string{"\x1b[2J\x1b[H", "名前名前名前名前名前名前名前名前名前", "a\nb\rc", "\u202eevil", "❤️👍🏽👨‍👩‍👧🇩🇪", strings.Repeat("long", 60), "tab\tbed", "e\u0301\u0301", "\x9b31m\x07"}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(hostile)
		width, height := rapid.IntRange(1, 210).Draw(t, "width"), rapid.IntRange(1, 60).Draw(t, "height")
		n := newNight(width, height, tui.Style{}, func(o *tui.Options) { o.Title = text.Draw(t, "title") })
		n.Drawn()
		p := nodePlan("web-1")
		p.Prints = []string{text.Draw(t, "print")}
		p.Steps[0].Op, p.Steps[0].Object = text.Draw(t, "op"), text.Draw(t, "object")
		names := []string{text.Draw(t, "name") + "1", text.Draw(t, "name") + "2"}
		n.tell(engine.Event{Kind: engine.EventPredict, Nodes: 2})
		for i, name := range names {
			q := *p
			q.Node = name
			n.plans[name] = &q
			if i == 1 {
				q.Err = &engine.Error{Cause: text.Draw(t, "cause"), Hint: text.Draw(t, "hint"), Node: name}
			}
			n.tell(engine.Event{Kind: engine.EventPlanned, Node: name, Nth: i + 1, Wave: 1, Plan: &q, Err: q.Err,
				Info: &engine.NodeInfo{Name: name, Groups: []string{text.Draw(t, "group")}, Vars: map[string]any{text.Draw(t, "var"): text.Draw(t, "value")}}})
		}
		events := []engine.Event{
			{Kind: engine.EventRun, Limits: theLimits, Outlook: &engine.Outlook{Waves: outlook(2)}},
			{Kind: engine.EventWave, Wave: 1, Nodes: 2, Text: text.Draw(t, "wave")},
			{Kind: engine.EventValue, Op: "gate", Text: text.Draw(t, "number"), Value: ptr(rapid.Float64().Draw(t, "value"))},
			{Kind: engine.EventValue, Op: "gate", Text: "n", Value: ptr(math.NaN())}, {Kind: engine.EventValue, Op: "gate", Text: "n", Value: ptr(math.Inf(1))},
			{Kind: engine.EventGate, Op: "gate", Err: &engine.Error{Cause: text.Draw(t, "gate")}},
			{Kind: engine.EventNode, Node: names[0], State: engine.NodeApplying},
			{Kind: engine.EventPrint, Node: names[0], Text: text.Draw(t, "line")},
			{Kind: engine.EventStopping, Text: text.Draw(t, "stopping")},
			{Kind: engine.EventNode, Node: names[0], State: engine.NodeInDoubt, Err: &engine.Error{Cause: text.Draw(t, "why"), Left: text.Draw(t, "left"), Node: names[0]}},
			{Kind: engine.EventPaused}, {Kind: engine.EventUnpaused},
			{Kind: engine.EventEnd, Text: text.Draw(t, "end"), States: map[engine.NodeState][]string{engine.NodeInDoubt: names}, Next: []engine.Next{{What: text.Draw(t, "what"), Command: "c"}}},
		}
		keys := []string{"y", "s", "w", "r", "p", "d", "tab", "/", "?", "j", "k", "g", "G", "pgup", "pgdown", "enter", "esc", "1", "e", "backspace", "ctrl+z"}
		hold := func() {
			lines := n.Draw()
			if height >= 15 && width >= 60 && len(lines) != height {
				t.Fatalf("%dx%d: %d lines", width, height, len(lines))
			}
			for _, l := range lines {
				if w := ansi.StringWidth(l); w != width || w != ansi.StringWidthWc(l) || strings.ContainsAny(l, "\x1b\n\r\t\u202e\u200d") {
					t.Fatalf("%dx%d: %d columns: %q", width, height, w, l)
				}
			}
		}
		for len(events) > 0 {
			switch rapid.IntRange(0, 3).Draw(t, "next") {
			case 0:
				n.tell(events[0])
				events = events[1:]
			case 1:
				n.Key(rapid.SampledFrom(keys).Draw(t, "key"))
			case 2:
				n.Ask(rollout.Question{Plan: n.plans[names[0]], Wave: 1, Waves: 1, Nth: 1, Of: 2, Alike: rapid.IntRange(1, 2).Draw(t, "alike")})
				if rapid.Bool().Draw(t, "drawn") {
					n.Drawn()
				}
			default:
				n.TakenBack()
				n.later(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			}
			hold()
		}
		n.Over(&engine.Error{Code: 6, Cause: text.Draw(t, "over")})
		hold()
	})
}

// A run that is taken up again has changed something, and does so before anything is predicted.
func TestTakenUpAgainHasChangedSomething(t *testing.T) {
	n := newNight(80, 24, tui.Style{}, nil)
	n.Drawn()
	n.tell(engine.Event{Kind: engine.EventWave, Nodes: 1, Text: "in hand when the run ended: web-9"})
	n.applying("web-9")
	n.shows(t, "nothing else changes before every node is predicted")
	n.tell(engine.Event{Kind: engine.EventNode, Node: "web-9", State: engine.NodeDone})
	n.begun()
	n.shows(t, "15 nodes predicted; nothing else has changed yet")
	n.Over(&engine.Error{Code: engine.LimitHit, Cause: "refused"})
	n.shows(t, "nothing else has changed on any node")
}

// On a terminal that is too small it is to be seen what stops the run, and that it is over.
func TestTooSmall(t *testing.T) {
	n := newNight(40, 10, tui.Style{}, nil)
	n.begun()
	n.shows(t, "too small: 40x10, and 60x15 is", "needed; ^C stops the run")
	n.Press("ctrl+c")
	n.shows(t, "needed; ^C again puts back what is")
	n.Over(&engine.Error{Code: engine.Interrupted, Cause: "interrupted"})
	n.shows(t, "the run is over, ^C")
	n.Drawn()
	if n.Press("ctrl+c"); !n.Quits {
		t.Error("it does not leave")
	}
}

// Why nodes cannot be predicted is told as it is: one on which the script itself fails has answered.
func TestTitlesOfWhatCannotBePredicted(t *testing.T) {
	for code, title := range map[engine.Code]string{
		engine.Unreachable: "unreachable, refused or failed", engine.Interrupted: "interrupted", engine.LimitHit: "would go past a limit",
		engine.Differs: "drifted since the plan was made", engine.Invalid: "cannot be predicted",
	} {
		n := newNight(120, 40, tui.Style{}, nil)
		n.plans["web-1"] = &engine.NodePlan{Node: "web-1", Err: &engine.Error{Code: code, Cause: "not yet"}}
		n.tell(engine.Event{Kind: engine.EventPredict, Nodes: len(fleet)})
		n.planned(0, 1)
		n.shows(t, "×1  "+title)
	}
}
