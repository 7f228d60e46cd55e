package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file is how before and after change what nodes share: each target that such a
// hook asks has a pass of its own, for that call of the hook. So its changes are predicted,
// confirmed, recorded and put back as those of a node are. There is one hook at a time, and so
// one prediction of a target.

// calls are the passes of one call of a hook, by their targets.
type calls struct {
	run    *Run
	live   bool
	plans  []*engine.NodePlan // in the order in which the targets were asked first
	passes map[string]*engine.Pass
}

// predicting are the passes of a call that predicts.
func (r *Run) predicting() *calls { return &calls{run: r, passes: map[string]*engine.Pass{}} }

// bound are the passes of a live call, which can do what was predicted and nothing else.
func (r *Run) bound(plans []*engine.NodePlan) *calls {
	return &calls{run: r, live: true, plans: plans, passes: map[string]*engine.Pass{}}
}

// pass is that of a target.
func (c *calls) pass(ctx context.Context, target string) (*engine.Pass, error) {
	if p := c.passes[target]; p != nil {
		return p, nil
	}
	n, err := c.run.fleet.node(ctx, c.run.Dialer, target)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(c.plans, func(p *engine.NodePlan) bool { return p.Node == target })
	if i < 0 {
		i = len(c.plans)
		c.plans = append(c.plans, &engine.NodePlan{Node: target, Created: time.Now().UTC()})
	}
	terms := c.run.terms(engine.NodeInfo{Name: target})
	terms.Base = c.run.numbered(target)
	if c.live {
		c.passes[target] = engine.NewLive(c.plans[i], c.run.Limits(), n, c.run.Journal, c.run.ID, c.run.Tell).Under(terms)
	} else {
		c.passes[target] = engine.NewPrediction(c.plans[i], c.run.Limits(), c.run.Model(n), c.run.Tell).Under(terms)
	}
	return c.passes[target], nil
}

// numbered is the number of the next change of a target: of this process, and of those that drove the run before.
func (r *Run) numbered(target string) int {
	n := r.Past[target].Numbered()
	for _, p := range r.changed {
		if p.Node == target {
			n += len(p.Steps)
		}
	}
	return n
}

// flush does what was asked of targets so far: what the hook looks at next may be its effect.
func (c *calls) flush(ctx context.Context) error {
	if c == nil {
		return nil
	}
	for _, p := range c.passes {
		if err := p.Sleep(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// finish wants every predicted change to have been made.
func (c *calls) finish(ctx context.Context) error {
	for _, p := range c.plans {
		pass := c.passes[p.Node]
		if pass == nil { // it was asked when it was predicted, and is not now
			if len(p.Changes()) > 0 {
				return &engine.Error{Code: engine.Differs, Node: p.Node, Cause: "what was predicted was not asked for"}
			}
			continue
		}
		if err := pass.Finish(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Asked is a server that a hook has asked.
type Asked struct {
	engine.Target
	Own bool // it is the own one of the node Via, and not what nodes share
}

// Asked are the servers that hooks have asked, in the order in which they were first.
func (r *Run) Asked() []Asked { return r.asked }

// Server is one of them, to look at it.
func (r *Run) Server(ctx context.Context, a Asked) (engine.Reader, error) {
	if a.Own {
		return r.fleet.node(ctx, r.Dialer, a.Via)
	}
	return r.Target(ctx, a.Target.String())
}

// Target is the target called name, to look at it.
func (r *Run) Target(ctx context.Context, name string) (engine.Reader, error) {
	return r.fleet.node(ctx, r.Dialer, name)
}

// asks notes that a hook asks the server of c, if it is of one.
func (r *Run) asks(c engine.Call) {
	t, shared := engine.ParseTarget(c.Node)
	if !shared {
		var args struct{ Server string }
		if json.Unmarshal(c.Args, &args) != nil || args.Server == "" {
			return
		}
		t.Domain, _, _ = strings.Cut(c.Name, ".")
		t.Server, t.Via = args.Server, c.Node
	}
	if a := (Asked{t, !shared}); !slices.Contains(r.asked, a) {
		r.asked = append(r.asked, a)
	}
}

// Targets are what before is to change, as the last [Run.Watch] has predicted it.
func (r *Run) Targets() []*engine.NodePlan { return r.targets }

// change calls a hook that has changes to make, which were predicted as plans. It reports whether the run goes on.
func (a *application) change(ctx context.Context, hook string, plans []*engine.NodePlan, wave, waves int) bool {
	for i, p := range plans {
		if len(p.Changes()) == 0 || a.Confirm == nil || a.Asks != nil && !a.Asks(a.info(p.Node)) {
			continue
		}
		answer, err := a.ask(ctx, Question{Plan: p, Hook: hook, Wave: wave, Waves: waves, Nth: i + 1, Of: len(plans), Alike: 1})
		if err == nil && (answer == Quit || answer == Skip) { // the hook cannot do without
			err = &engine.Error{Code: engine.Interrupted, Cause: fmt.Sprintf("%s was not confirmed", hook)}
		}
		if err != nil {
			a.quit(err)
			return false
		}
	}
	if len(plans) > 0 && time.Since(plans[0].Created) > staleAfter {
		again := a.predicting()
		if e := a.look(ctx, hook, wave, waves, again); e != nil {
			a.quit(e)
			return false
		}
		if e := driftedTargets(plans, again.plans); e != nil {
			a.quit(e)
			return false
		}
	}
	for _, p := range plans {
		if len(p.Changes()) > 0 {
			done, ok := a.pace.start(ctx, a.Stop, p, func(time.Duration) {})
			defer done()
			if !ok || !a.goesOn(ctx) {
				return false
			}
			a.set(p.Node, engine.NodeApplying, nil)
		}
	}
	c := a.bound(plans)
	e := a.look(ctx, hook, wave, waves, c)
	a.changed = append(a.changed, plans...)
	for _, p := range slices.Backward(c.plans) {
		pass := c.passes[p.Node]
		switch {
		case len(p.Changes()) == 0:
		case e == nil:
			a.set(p.Node, engine.NodeDone, nil)
		case pass == nil || pass.Changed() == 0:
			a.set(p.Node, engine.NodeFailed, e)
		default:
			a.rescue(ctx, p, pass, nodeError(e, p.Node))
		}
		a.fleet.release(p.Node)
	}
	if e != nil {
		a.quit(e)
	}
	return e == nil
}

// driftedTargets is the error of targets that would be changed otherwise now than was predicted, or nil.
func driftedTargets(was, now []*engine.NodePlan) *engine.Error {
	for _, p := range was {
		other := &engine.NodePlan{Node: p.Node}
		for _, n := range now {
			if n.Node == p.Node {
				other = n
			}
		}
		if e := Drifted(p, other); e != nil {
			return e
		}
	}
	return nil
}

// members are the nodes of the run, for an operation that looks at all of them.
type members struct{ run *Run }

// ReadAll implements [engine.Fleet].
func (m members) ReadAll(ctx context.Context, q resource.Query) (found map[string]resource.State, missing map[string]error) {
	found, missing = map[string]resource.State{}, map[string]error{}
	var mu sync.Mutex
	each(len(m.run.Nodes), parallel, func(i int) {
		name := m.run.Nodes[i].Name
		n, err := m.run.fleet.node(ctx, m.run.Dialer, name)
		var s resource.State
		if err == nil {
			s, err = n.Read(ctx, q)
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			missing[name] = err
		} else {
			found[name] = s
		}
	})
	return found, missing
}

// ask does a call of a hook to a target.
func (h *watching) ask(ctx context.Context, c engine.Call) (any, error) {
	if o, looks := c.Op.(engine.OnFleet); looks {
		c.Op = o.OnFleet(members{h.run})
	}
	h.run.asks(c)
	if h.calls != nil {
		pass, err := h.calls.pass(ctx, c.Node)
		if err != nil {
			return nil, err
		}
		if len(h.calls.passes) > 1 { // another may see what this one does
			if err := h.calls.flush(ctx); err != nil {
				return nil, err
			}
		}
		return pass.Do(ctx, c)
	}
	probe, looks := c.Op.(engine.Probe)
	if !looks {
		return nil, &engine.Error{Code: engine.Invalid, Cause: fmt.Sprintf("%s changes a server, and %s may only look", c.Name, h.hook), Hint: "before and after may change what nodes share"}
	}
	if h.nodes[c.Node] == nil {
		h.nodes[c.Node] = engine.NewBudget(c.Node, h.run.Limits(), h.run.tally)
	}
	if err := h.nodes[c.Node].Call(); err != nil {
		return nil, err
	}
	n, err := h.run.fleet.node(ctx, h.run.Dialer, c.Node)
	if err != nil {
		return nil, err
	}
	return probe.Look(ctx, n)
}
