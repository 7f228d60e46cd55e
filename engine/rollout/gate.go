package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"runbook/engine"
)

// This file calls the hooks of a runbook: before, gate and after. They see the
// whole fleet and change nothing on it; what nodes share is another matter (target.go).

// hook calls the hook of that name, if the runbook has it, and tells how that ended. wave
// is how many waves of waves are through; c has the passes of targets, nil where the hook may change none.
// The error is a gate's, unless it is a limit's or the operator's.
func (r *Run) hook(ctx context.Context, name string, states map[string]engine.NodeState, wave, waves int, c *calls) *engine.Error {
	program, can := r.Program.(engine.Watcher)
	if !can || r.Program.Header().Hooks[name] == "" {
		return nil
	}
	f := engine.FleetInfo{Wave: wave, Waves: waves}
	for _, n := range r.Nodes {
		state := states[n.Name]
		if state == "" {
			state = engine.NodeUntried
		}
		f.Nodes = append(f.Nodes, engine.FleetNode{NodeInfo: n, State: state})
	}
	h := &watching{run: r, hook: name, nodes: map[string]*engine.Budget{}, calls: c}
	for _, n := range r.Nodes {
		h.nodes[n.Name] = engine.NewBudget(n.Name, r.Limits(), r.tally)
	}
	err := program.RunHook(ctx, name, f, h)
	if err == nil && c != nil && c.live {
		err = c.finish(ctx)
	}
	var e *engine.Error
	if err != nil {
		e = failedHook(ctx, name, err)
	}
	r.Tell(engine.Event{Kind: engine.EventGate, Op: name, Wave: wave, Err: e})
	return e
}

// failedHook is err as the error of a hook.
func failedHook(ctx context.Context, name string, err error) *engine.Error {
	if ctx.Err() != nil {
		err = ended(ctx, err)
	}
	e := *engine.AsError(err)
	switch e.Code {
	case engine.Invalid, engine.LimitHit, engine.Internal, engine.Interrupted:
	default:
		e.Code = engine.GateFailed
	}
	e.Cause = name + ": " + e.Cause
	return &e
}

// watching is what a hook can reach: every node of the run, to look at it.
type watching struct {
	run   *Run
	hook  string
	nodes map[string]*engine.Budget // what it has asked of each
	calls *calls                    // nil: it may change nothing
}

// Do implements [engine.Host].
func (h *watching) Do(ctx context.Context, c engine.Call) (any, error) {
	v, err := h.look(ctx, c)
	if err == nil {
		return v, nil
	}
	e := *engine.AsError(err)
	e.Pos, e.Node = c.Pos, c.Node
	if e.Op == "" {
		e.Op = c.Name
	}
	var refused *engine.NodeError
	if errors.As(err, &refused) { // the script may handle it
		e.Code, e.Kernel = engine.Unreachable, refused.Words
	}
	return nil, &e
}

func (h *watching) look(ctx context.Context, c engine.Call) (any, error) {
	if engine.IsTarget(c.Node) {
		return h.ask(ctx, c)
	}
	probe, looks := c.Op.(engine.Probe)
	switch {
	case !looks:
		return nil, &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("%s changes a node, and %s may only look", c.Name, h.hook), Hint: "run(node, p) is what changes nodes"}
	case h.nodes[c.Node] == nil:
		return nil, engine.Invalid.Errorf("%q is no node of this run", c.Node)
	}
	if err := h.nodes[c.Node].Call(); err != nil {
		return nil, err
	}
	if err := h.calls.flush(ctx); err != nil {
		return nil, err
	}
	n, err := h.run.fleet.node(ctx, h.run.Dialer, c.Node)
	if err != nil {
		return nil, err
	}
	h.run.asks(c)
	return probe.Look(ctx, n)
}

// Print implements [engine.Host]. Nothing of it is predicted, so that it is charged as it comes.
func (h *watching) Print(pos, line string) error {
	b := engine.Budget{Limits: h.run.Limits(), Tally: h.run.tally}
	if err := b.Print(line); err != nil {
		e := *engine.AsError(err)
		e.Pos, e.Op = pos, "print"
		return &e
	}
	h.run.Tell(engine.Event{Kind: engine.EventPrint, Op: h.hook, Text: line})
	return nil
}

// Observe implements [engine.Observer]. It is charged as a line is.
func (h *watching) Observe(pos, name string, value float64) error {
	b := engine.Budget{Limits: h.run.Limits(), Tally: h.run.tally}
	if err := b.Print(name); err != nil {
		e := *engine.AsError(err)
		e.Pos, e.Op = pos, "observe"
		return &e
	}
	h.run.Tell(engine.Event{Kind: engine.EventValue, Op: h.hook, Text: name, Value: &value})
	return nil
}

// Sleep implements [engine.Host].
func (h *watching) Sleep(ctx context.Context, d time.Duration) error {
	if err := h.calls.flush(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Watch calls the hooks that must pass before anything is changed, as they are
// called again right before that, and predicts what before changes. The error refuses the run.
func (r *Run) Watch(ctx context.Context) *engine.Error {
	ends, err := Waves(r.Program.Header().Rollout.Waves, len(r.Nodes))
	if err != nil {
		return engine.Invalid.Errorf("%w", err)
	}
	ctx, cancel := context.WithDeadlineCause(ctx, r.deadline.at(), r.Limits().Exceeded(engine.LimitDuration, "the run has taken longer than it may"))
	defer cancel()
	before := r.predicting()
	e := r.hook(ctx, engine.HookBefore, r.Before(), 0, len(ends), before)
	if e == nil {
		e = r.hook(ctx, engine.HookGate, r.Before(), 0, len(ends), nil)
	}
	r.targets = before.plans // also as far as a hook got that failed
	for _, p := range r.targets {
		r.Planned(p)
	}
	if e != nil {
		e.Left = engine.NothingChanged
	}
	return e
}

// gate calls a hook between waves. It reports whether the run goes on.
func (a *application) gate(ctx context.Context, name string, wave, waves int) bool {
	if !a.goesOn(ctx) {
		return false
	}
	if e := a.look(ctx, name, wave, waves, nil); e != nil {
		a.quit(e)
		return false
	}
	return true
}

// before calls the first of the hooks, with the changes that were predicted of it.
func (a *application) before(ctx context.Context, wave, waves int) bool {
	return a.goesOn(ctx) && a.change(ctx, engine.HookBefore, a.targets, wave, waves)
}

// after calls the last of the hooks. What it changes is predicted now: it rests on what the waves have made of the fleet.
func (a *application) after(ctx context.Context, waves int) bool {
	if !a.goesOn(ctx) {
		return false
	}
	predicted := a.predicting()
	e := a.look(ctx, engine.HookAfter, waves, waves, predicted)
	if e != nil {
		a.quit(e)
		return false
	}
	changes := false
	for _, p := range predicted.plans {
		if changes = changes || len(p.Changes()) > 0; len(p.Changes()) > 0 {
			a.Planned(p)
		}
	}
	return !changes || a.change(ctx, engine.HookAfter, predicted.plans, waves, waves)
}

// look calls a hook while the run goes on.
func (a *application) look(ctx context.Context, name string, wave, waves int, c *calls) *engine.Error {
	ctx, cancel := context.WithDeadlineCause(ctx, a.deadline.at(), a.limits.Exceeded(engine.LimitDuration, "the run has taken longer than it may"))
	defer cancel()
	if c == nil || !c.live {
		var done func()
		ctx, done = a.untilStopped(ctx)
		defer done()
	}
	a.mu.Lock()
	states := map[string]engine.NodeState{}
	for n, s := range a.states {
		states[n] = s
	}
	a.mu.Unlock()
	e := a.hook(ctx, name, states, wave, waves, c)
	if e != nil && e.Code == engine.Invalid && a.watched { // a script that is wrong, found out too late to say that nothing was changed
		e.Code = engine.GateFailed
	}
	return e
}
