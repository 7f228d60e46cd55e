package tui_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"runbook/engine"
	"runbook/tui"
)

// large is a run on 10,000 nodes in several waves, which is asked about.
func large(b testing.TB, width, height int, s tui.Style) (*tui.Scene, []engine.Event) {
	b.Helper()
	x := tui.NewScene(tui.Options{Title: "run add_route.star"}, width, height, s)
	ends := []int{1, 100, 1000, 10_000}
	out := []engine.Event{{Kind: engine.EventPredict, Time: start, Nodes: 10_000}}
	for i := range 10_000 {
		wave := 1 + slices.IndexFunc(ends, func(end int) bool { return i < end })
		name := fmt.Sprintf("web-%d", i+1)
		if i%50 == 49 {
			name = fmt.Sprintf("edge-%d", i+1)
		}
		out = append(out, engine.Event{Kind: engine.EventPlanned, Time: start, Node: name, Nth: i + 1, Wave: wave, Plan: nodePlan(name), Info: &engine.NodeInfo{Name: name, Groups: []string{"prod"}}})
	}
	out = append(out, engine.Event{Kind: engine.EventRun, Time: start, Run: runID, Limits: theLimits, Used: engine.Used{engine.LimitChanges: 19_800},
		Outlook: &engine.Outlook{Waves: outlook(1, 99, 900, 9000)}})
	return x, out
}

// A frame has 16 ms, as many as a screen shows: more, and what is scrolled does not follow the fingers.
const frameTime = 16 * time.Millisecond

func report(b *testing.B) {
	each := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	b.ReportMetric(each/1e6, "ms/frame")
	b.ReportMetric(each/float64(frameTime.Nanoseconds()), "of-16ms")
}

// BenchmarkFleet draws the screen of 10,000 nodes: as it opens, at each step of scrolling, and as it is filtered.
func BenchmarkFleet(b *testing.B) {
	for _, size := range sizes {
		name := fmt.Sprintf("%dx%d", size[0], size[1])
		b.Run("opening/"+name, func(b *testing.B) { // the first frame of a plan of which all has come at once
			_, all := large(b, size[0], size[1], tui.Style{Colour: true})
			for b.Loop() {
				b.StopTimer()
				x := tui.NewScene(tui.Options{}, size[0], size[1], tui.Style{Colour: true})
				x.Queue(all...)
				b.StartTimer()
				x.Fresh()
				x.Frame()
			}
			report(b)
		})
		x, all := large(b, size[0], size[1], tui.Style{Colour: true})
		x.Tell(all...)
		x.Drawn()
		for what, keys := range map[string][]string{"line": {"down"}, "page": {"pgdown"}, "ends": {"G", "g"}} {
			b.Run("scrolling/"+what+"/"+name, func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					x.Key(keys[i%len(keys)])
					x.Frame()
				}
				report(b)
			})
		}
		b.Run("filtering/"+name, func(b *testing.B) {
			x.Key("/")
			for i := 0; b.Loop(); i++ {
				x.Key([]string{"e", "backspace"}[i%2])
				x.Frame()
			}
			x.Key("esc")
			report(b)
		})
		b.Run("moving/"+name, func(b *testing.B) { // a node has come to another state
			for i := 0; b.Loop(); i++ {
				x.Tell(engine.Event{Kind: engine.EventNode, Time: start, Node: all[1+i%9000].Node, State: engine.NodeDone})
				x.Frame()
			}
			report(b)
		})
	}
}
