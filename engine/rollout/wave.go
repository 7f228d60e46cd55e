package rollout

import (
	"context"
	"fmt"
	"strings"
	"time"

	"runbook/engine"
)

// This file goes through the waves of a run, and through the nodes of one: waiting, looking, asking.

// Question is put before a node is changed.
type Question struct {
	Plan  *engine.NodePlan
	Hook  string // which is to change it, and without which the run does not go on; "": it is changed in a wave
	Wave  int    // from 1
	Waves int
	Nth   int // of the nodes of this wave that need an answer, from 1
	Of    int
	Alike int // of those that are left of it, this one included, to which the same would be done
}

// Answer is what the operator decided.
type Answer int

// The answers.
const (
	Yes  Answer = iota
	Skip        // leave this node as it is
	All         // this node and those of the rest of its wave that are alike: see [Question]
	Quit        // no further node
)

func (a Answer) String() string {
	return [...]string{"yes", "skip", "all alike in this wave", "stop"}[a]
}

// waves changes the nodes of one wave after another; ends is after how many nodes each is over.
func (a *application) waves(ctx context.Context, ends []int, left map[string]*engine.NodePlan) {
	start := 0
	for i, end := range ends {
		var wave []*engine.NodePlan
		for _, n := range a.Nodes[start:end] {
			if p := left[n.Name]; p != nil {
				wave = append(wave, p)
			}
		}
		start = end
		first, rest := a.canary(ends[0], wave)
		if !a.through(ctx, i, len(ends), first) || len(rest) > 0 && !a.through(ctx, i, len(ends), rest) {
			break
		}
	}
	if a.watched {
		a.after(ctx, len(ends))
	}
}

// canary parts the first wave in which there is something to do, where that is a later one: there was nothing
// to do on the nodes of those before it, or they could not be reached. As many nodes go first as the first wave was
// to try: or nothing at all would be known when most of the fleet is changed.
func (a *application) canary(size int, wave []*engine.NodePlan) (first, rest []*engine.NodePlan) {
	if a.tried || !pending(wave) || a.charged() > 0 {
		return wave, nil
	}
	a.tried = true
	for i, p := range wave {
		if size == 0 {
			return wave[:i], wave[i:]
		}
		if pending([]*engine.NodePlan{p}) {
			size--
		}
	}
	return wave, nil
}

// through waits and looks as it must before a wave, of which i are through, changes its nodes, and looks again. It
// reports whether the run goes on.
func (a *application) through(ctx context.Context, i, waves int, wave []*engine.NodePlan) bool {
	if i > 0 && !a.bake(ctx, i, waves, wave) {
		return false
	}
	if first := !a.watched && (pending(wave) || pending(a.targets)); first {
		if !a.before(ctx, i, waves) || !a.gate(ctx, engine.HookGate, i, waves) {
			return false
		}
		a.watched = true
	}
	a.wave(ctx, i+1, waves, wave)
	return !pending(wave) || a.gate(ctx, engine.HookGate, i+1, waves)
}

// bake waits between two waves, where the wave to come has something to do, and
// looks at the gate meanwhile. wave is how many are through. It reports whether the run goes on.
func (a *application) bake(ctx context.Context, wave, waves int, next []*engine.NodePlan) bool {
	if !a.goesOn(ctx) {
		return false
	}
	r := a.Program.Header().Rollout
	if r.Bake == 0 || !pending(next) {
		return true
	}
	a.Tell(engine.Event{Kind: engine.EventBake, Text: r.Bake.String(), For: r.Bake})
	every := time.Duration(r.GateEvery)
	if every == 0 {
		every = engine.DefaultGateEvery
	}
	for end := time.Now().Add(time.Duration(r.Bake)); ; {
		select {
		case <-ctx.Done():
		case <-a.Stop:
		case <-time.After(min(every, time.Until(end))):
		}
		if !a.gate(ctx, engine.HookGate, wave, waves) {
			return false
		}
		if !time.Now().Before(end) {
			return true
		}
	}
}

func pending(plans []*engine.NodePlan) bool {
	for _, p := range plans {
		if p.Err == nil && len(p.Changes()) > 0 {
			return true
		}
	}
	return false
}

// wave changes the nodes of one wave.
func (a *application) wave(ctx context.Context, nth, of int, plans []*engine.NodePlan) {
	var todo []*engine.NodePlan
	for _, p := range plans {
		switch {
		case p.Err != nil:
		case len(p.Changes()) == 0:
			for _, line := range p.Prints {
				a.Tell(engine.Event{Kind: engine.EventPrint, Node: p.Node, Text: line})
			}
			a.set(p.Node, engine.NodeSame, nil)
		default:
			todo = append(todo, p)
		}
	}
	if len(todo) == 0 {
		return
	}
	a.Tell(engine.Event{Kind: engine.EventWave, Wave: nth, Nodes: len(todo), Text: fmt.Sprintf("wave %d of %d: %s", nth, of, list(todo))})
	todo = a.unasked(ctx, nth, todo)
	of1 := len(todo)
	for len(todo) > 0 {
		if !a.goesOn(ctx) {
			return
		}
		p := todo[0]
		alike, others := a.alike(todo)
		answer, err := a.ask(ctx, Question{Plan: p, Wave: nth, Waves: of, Nth: of1 - len(todo) + 1, Of: of1, Alike: len(alike)})
		todo = todo[1:]
		switch {
		case err != nil:
			a.quit(err)
			return
		case answer == Quit:
			a.quit(&engine.Error{Code: engine.Interrupted, Cause: "stopped by the operator"})
			return
		case answer == All:
			a.parallel(ctx, nth, alike)
			todo = others
		case answer == Skip:
			a.end(p.Node, engine.NodeSkipped, nil)
		default:
			a.paced(ctx, nth, p)
		}
	}
}

// alike is the first node of todo and those to which the same would be done, and the others:
// who has seen one diff has not confirmed another.
func (a *application) alike(todo []*engine.NodePlan) (alike, others []*engine.NodePlan) {
	for _, p := range todo {
		if a.does[p] == "" {
			a.does[p] = p.Does()
		}
		if a.does[p] == a.does[todo[0]] {
			alike = append(alike, p)
		} else {
			others = append(others, p)
		}
	}
	return alike, others
}

// unasked changes the nodes that nobody is asked about, and returns the others.
func (a *application) unasked(ctx context.Context, wave int, todo []*engine.NodePlan) (asked []*engine.NodePlan) {
	var free []*engine.NodePlan
	for _, p := range todo {
		if a.Confirm != nil && (a.Asks == nil || a.Asks(a.info(p.Node))) {
			asked = append(asked, p)
		} else {
			free = append(free, p)
		}
	}
	a.parallel(ctx, wave, free)
	return asked
}

// list is the first of some nodes, and how many more there are.
func list(plans []*engine.NodePlan) string {
	var names []string
	for _, p := range plans[:min(len(plans), 3)] {
		names = append(names, p.Node)
	}
	s := strings.Join(names, ", ")
	if n := len(plans) - len(names); n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// untilStopped is ctx, but for what changes nothing: it ends when the run is stopped.
func (a *application) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-a.Stop:
			cancel(&engine.Error{Code: engine.Interrupted, Cause: "interrupted"})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// ask puts q, and takes the question back when the run is stopped.
func (a *application) ask(ctx context.Context, q Question) (Answer, error) {
	ctx, cancel := a.untilStopped(ctx)
	defer cancel()
	a.Tell(engine.Event{Kind: engine.EventQuestion, Wave: q.Wave, Node: q.Plan.Node, Nodes: q.Alike, Text: fmt.Sprintf("node %d of %d", q.Nth, q.Of)})
	asked := time.Now()
	defer func() { a.deadline.extend(time.Since(asked)) }()
	answer, err := a.Confirm(ctx, q)
	if err == nil {
		a.Tell(engine.Event{Kind: engine.EventAnswer, Wave: q.Wave, Node: q.Plan.Node, Text: answer.String()})
	}
	return answer, err
}

func (a *application) parallel(ctx context.Context, wave int, todo []*engine.NodePlan) {
	each(len(todo), a.atOnce(), func(i int) {
		a.paced(ctx, wave, todo[i])
	})
}

// atOnce is how many nodes may be changed at a time.
func (r *Run) atOnce() int {
	if n := r.Program.Header().Rollout.Parallel; n > 0 {
		return min(parallel, n)
	}
	return parallel
}

// paced changes a node when the limits on how fast things go let it, unless the
// run has ended by then.
func (a *application) paced(ctx context.Context, wave int, p *engine.NodePlan) {
	if !a.goesOn(ctx) {
		return
	}
	within, cancel := context.WithDeadline(ctx, a.deadline.at())
	defer cancel()
	done, ok := a.pace.start(within, a.Stop, p, func(wait time.Duration) {
		a.Tell(engine.Event{Kind: engine.EventPace, Node: p.Node, Text: wait.Round(time.Second).String(), For: engine.Duration(wait)})
	})
	defer done()
	if a.goesOn(ctx) && ok {
		a.node(ctx, wave, p)
	}
}
