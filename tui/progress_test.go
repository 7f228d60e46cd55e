package tui_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"runbook/engine"
	"runbook/tui"
)

var start = time.Date(2026, 11, 23, 20, 44, 55, 0, time.UTC)

// events are those of a run whose waves have so many nodes, up to where each of
// them but the last is through. A node takes 2 s; of the last wave half are through.
func events(at *time.Time, bake time.Duration, waves ...int) (out []engine.Event) {
	outlook := &engine.Outlook{Bake: engine.Duration(bake), ChangesPerMinute: 600}
	for _, n := range waves {
		outlook.Waves = append(outlook.Waves, engine.WaveOutlook{Nodes: n, Changes: n, AtOnce: 100})
	}
	tell := func(e engine.Event) {
		e.Time = *at
		out = append(out, e)
	}
	tell(engine.Event{Kind: engine.EventRun, Run: "r", Outlook: outlook})
	node := 0
	for i, n := range waves {
		tell(engine.Event{Kind: engine.EventWave, Wave: i + 1, Nodes: n, Text: fmt.Sprintf("wave %d of %d: web-%d", i+1, len(waves), node+1)})
		through := n
		if i == len(waves)-1 {
			through = n / 2
		}
		for done := 0; done < through; {
			batch := min(100, through-done)
			for k := range batch {
				tell(engine.Event{Kind: engine.EventNode, Node: fmt.Sprintf("web-%d", node+k+1), State: engine.NodeApplying})
			}
			*at = at.Add(2 * time.Second)
			for k := range batch {
				name := fmt.Sprintf("web-%d", node+k+1)
				tell(engine.Event{Kind: engine.EventChange, Node: name, Op: "route.add 10.20.0.0/16"})
				tell(engine.Event{Kind: engine.EventNode, Node: name, State: engine.NodeDone})
			}
			done, node = done+batch, node+batch
		}
		for k := range min(100, n-through) {
			tell(engine.Event{Kind: engine.EventNode, Node: fmt.Sprintf("web-%d", node+k+1), State: engine.NodeApplying})
		}
	}
	return out
}

// TestFrames has the live view at moments of several runs.
func TestFrames(t *testing.T) {
	for name, style := range map[string]tui.Style{"progress.text": {}, "progress.colour": {Colour: true}} {
		var b strings.Builder
		scene := func(name string, events []engine.Event, asked bool, now time.Time, width, height int) {
			fmt.Fprintf(&b, "-- %s, %dx%d --\n", name, width, height)
			for _, l := range tui.Frame(events, asked, now, width, height, style) {
				b.WriteString(l + "\n")
			}
		}
		at := start
		one := events(&at, time.Minute, 1, 10, 100)
		scene("before the first node is through", one[:3], false, start.Add(time.Second), 80, 24)
		scene("one node is through, and a wait begins", append(one[:5:5], engine.Event{Kind: engine.EventGate, Op: "gate"},
			engine.Event{Kind: engine.EventBake, Time: start.Add(2 * time.Second), For: engine.Duration(time.Minute)}), false, start.Add(20*time.Second), 80, 24)
		scene("in the last wave", one, false, at.Add(time.Second), 80, 24)
		scene("narrow", one, false, at.Add(time.Second), 40, 24)
		scene("low", one, false, at.Add(time.Second), 80, 6)
		scene("people are asked", one, true, at.Add(time.Second), 80, 24)
		scene("it is stopped", append(one[:len(one):len(one)], engine.Event{Kind: engine.EventStopping}), false, at.Add(time.Second), 80, 24)
		scene("a node hangs", one, false, at.Add(30*time.Second), 80, 24)

		at = start
		mixed := append(events(&at, 0, 1, 6),
			engine.Event{Kind: engine.EventUnchanged, Node: "web-5", Op: "route.add 10.21.0.0/16"},
			engine.Event{Kind: engine.EventConfirmed, Node: "web-6"},
			engine.Event{Kind: engine.EventPutBack, Node: "web-7", Op: "route.add 10.20.0.0/16"},
			engine.Event{Kind: engine.EventNode, Time: at.Add(1500 * time.Millisecond), Node: "web-7", State: engine.NodeFailed, Err: &engine.Error{Cause: "no"}},
			engine.Event{Kind: engine.EventNode, Node: "db-1", State: engine.NodeSame},
			engine.Event{Kind: engine.EventPace, Time: at, Node: "web-8", For: engine.Duration(41 * time.Second)})
		scene("a failure, and a wait for the pace", mixed, false, at.Add(2*time.Second), 80, 24)
		scene("at the end", append(mixed, engine.Event{Kind: engine.EventEnd}), false, at, 80, 24)

		at = start
		fleet := events(&at, time.Minute, 1, 1000, 9000)
		scene("10,000 nodes", fleet, false, at.Add(time.Second), 80, 24)
		golden(t, name, b.String())
	}
}

// However many nodes there are, and whatever they are called, the view fits the terminal.
func TestFramesFit(t *testing.T) {
	at := start
	all := events(&at, time.Minute, 1, 30, 300)
	for _, name := range []string{strings.Repeat("long", 50), "\x1b[2J\x1b[H", "名前名前名前名前名前名前", "a\nb", "\u202eevil"} {
		all = append(all, engine.Event{Kind: engine.EventNode, Node: name, State: engine.NodeApplying, Time: at},
			engine.Event{Kind: engine.EventChange, Node: name, Op: "exec " + name, Time: at})
	}
	all = append(all, engine.Event{Kind: engine.EventPace, Node: "\x1b[5A", Time: at, For: engine.Duration(time.Minute)})
	for width := 1; width < 140; width += 7 {
		for height := 1; height < 40; height++ {
			for step := 0; step < len(all); step += len(all)/3 + 1 {
				frame := tui.Frame(all[step:], false, at.Add(3*time.Second), width, height, tui.Style{})
				if len(frame) > max(height-1, 1) || len(frame) > 12 {
					t.Fatalf("%dx%d: %d lines", width, height, len(frame))
				}
				for _, l := range frame {
					if w := ansi.StringWidth(l); w > max(width-1, 1) || strings.ContainsAny(l, "\x1b\n\r\u202e") {
						t.Fatalf("%dx%d: %d columns: %q", width, height, w, l)
					}
				}
			}
		}
	}
}

// What is said of the time that is left is near the truth, and nothing is said that is not known.
func TestTimeLeft(t *testing.T) {
	at := start
	said := func(events []engine.Event, now time.Time) string {
		_, after, ok := strings.Cut(tui.Frame(events, false, now, 200, 24, tui.Style{})[0], "about ")
		if !ok {
			return "?"
		}
		return strings.TrimSuffix(after, " left")
	}
	of := func(bake time.Duration, waves ...int) ([]engine.Event, time.Time) {
		at = start
		e := events(&at, bake, waves...)
		return e, at
	}
	long, end := of(0, 10, 1000) // 500 are left, a hundred at a time take 2 s
	if got := said(long, end); got != "10s" {
		t.Errorf("five rounds of 2 s: about %s", got)
	}
	waves, _ := of(10*time.Minute, 1, 100, 100)
	if got := said(waves[:5], start.Add(2*time.Second)); got != "20m" {
		t.Errorf("before two waits of 10 minutes: about %s", got)
	}
	outlook := *waves[0].Outlook
	outlook.ChangesPerMinute = 40 // 200 changes: 40 at once, the rest in 4 minutes
	waves[0].Outlook, outlook.Bake = &outlook, 0
	if got := said(waves[:5], start.Add(2*time.Second)); got != "4m" {
		t.Errorf("at 40 changes a minute: about %s", got)
	}
	if got := said(waves[:3], start.Add(time.Hour)); got != "?" {
		t.Errorf("before any node is through: about %s", got)
	}
	if got := said(long, end.Add(time.Hour)); got != "?" {
		t.Errorf("while a node hangs: about %s", got)
	}
	taken := append([]engine.Event{waves[0], {Kind: engine.EventWave, Nodes: 3, Text: "in hand when the run ended: web-9"}}, waves[2:5]...)
	if got := said(taken, start.Add(2*time.Second)); got != "4m" { // 201 changes are still ahead
		t.Errorf("while nodes are taken up: about %s", got)
	}
}
