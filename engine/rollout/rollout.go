// Package rollout takes a runbook to a fleet: it predicts every node, and then
// changes them wave by wave.
//
// Nothing starts before every selected node has been predicted ([Run.Predict]).
// A runbook that hits a limit on one node, or a prediction that fails on more
// nodes than the rollout allows, is refused with nothing changed anywhere
// ([Refusal]). Then [Run.Apply] goes through the waves: inside a wave nodes are
// changed in parallel, unless somebody confirms them one by one. A node that
// fails is put back and counted; past max_failures no further node starts.
package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"runbook/engine"
)

// Run is one run of a runbook on a fleet.
type Run struct {
	Program engine.Program
	Nodes   []engine.NodeInfo // in the order of the rollout
	Dialer  engine.Dialer
	Model   func(engine.Reader) engine.Model
	Emit    func(engine.Event)
	Journal engine.Journal
	ID      string // of the journal's record

	// Repeat does what nodes would refuse because they were disrupted in the same place lately.
	Repeat bool
	By     string // who runs it, as nodes remember it: user@machine
	// Confirm asks before a node is changed; nil asks nothing. Asks says about
	// which nodes; nil: about every one.
	Asks    func(node engine.NodeInfo) bool
	Confirm func(ctx context.Context, q Question) (Answer, error)
	// Controls let the operator pause the run, and take back what it did to a node; nil: nobody does.
	Controls *Controls
	// Stop, once closed, lets no further node start; those in hand are finished.
	Stop <-chan struct{}

	// Allow is an error where node may not be changed by an operation, Permit where no
	// node may be changed now; nil: it may.
	Allow  func(node engine.NodeInfo, op string, args json.RawMessage) *engine.Error
	Permit func() *engine.Error
	// Ceilings are what policies and the command line allow at most, whatever the runbook's header says.
	Ceilings engine.Limits
	// Past is what is known of the nodes of a run that is taken up again; nil: it is a new one.
	Past map[string]*engine.Past

	targets []*engine.NodePlan // see [Run.Targets]
	asked   []Asked            // see [Run.Asked]
	changed []*engine.NodePlan // of targets, by the hooks that are through

	fleet    fleet
	first    atomic.Pointer[engine.NodePlan] // that was predicted: the others share what they have in common with it
	tally    *engine.Tally
	placed   sync.Once
	place    map[string]place
	deadline deadline // limit duration; waiting for an answer does not count
}

// deadline is a moment that people's time moves.
type deadline struct {
	mu  sync.Mutex
	end time.Time
}

func (d *deadline) set(end time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end = end
}

func (d *deadline) extend(by time.Duration) { d.set(d.at().Add(by)) }

func (d *deadline) at() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.end
}

// parallel is how many nodes are connected to and predicted at a time. It
// bounds memory and open files on the controller, and what a bastion's
// MaxStartups has to bear.
const parallel = 100

// staleAfter is the age at which a prediction is made anew before its wave.
const staleAfter = 15 * time.Minute

// A failed node is given this long to be put back, and as much again as
// putBackEach for each of its changes.
const (
	putBackWithin = 30 * time.Second
	putBackEach   = time.Second
)

// Predict connects to every node and predicts it in full. What a node could
// not be predicted for is in its NodePlan; the error is for what concerns the
// run as a whole. Of a run that is taken up again, nodes that are through have no plan.
func (r *Run) Predict(ctx context.Context) ([]*engine.NodePlan, error) {
	limits := r.Limits()
	r.tally = engine.NewTally(r.charged())
	r.deadline.set(time.Now().Add(limits.Duration()))
	if n := len(r.Nodes); n > limits.N(engine.LimitNodes) {
		return nil, limits.Exceeded(engine.LimitNodes, fmt.Sprintf("%d nodes are selected", n))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Duration(),
		limits.Exceeded(engine.LimitDuration, "predicting has taken longer than the run may"))
	defer cancel()
	plans := make([]*engine.NodePlan, len(r.Nodes))
	r.Tell(engine.Event{Kind: engine.EventPredict, Nodes: r.unpredicted()})
	each(len(r.Nodes), parallel, func(i int) {
		if plans[i] = r.foresee(ctx, r.Nodes[i]); plans[i] != nil {
			r.Planned(plans[i])
		}
	})
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return plans, context.Canceled
	}
	plans = slices.DeleteFunc(plans, func(p *engine.NodePlan) bool { return p == nil })
	r.tally.Note(engine.LimitFailures, int64(r.failedBefore()+failures(plans)))
	return plans, nil // a limit that was hit is each node's error
}

// unpredicted is how many nodes have not come to their end, nor are in hand.
func (r *Run) unpredicted() int {
	n := 0
	for _, info := range r.Nodes {
		if past := r.Past[info.Name]; !past.Ended() && !past.InHand() {
			n++
		}
	}
	return n
}

// Planned tells what was predicted for a node.
func (r *Run) Planned(p *engine.NodePlan) {
	at := r.places()[p.Node]
	e := engine.Event{Kind: engine.EventPlanned, Node: p.Node, Wave: at.wave, Nth: at.nth, Err: p.Err, Plan: p, Info: at.info}
	for _, c := range p.Changes() {
		e.Diff = append(e.Diff, c.Edit.Diff()...)
	}
	r.Tell(e)
}

// place is where a node stands in the rollout.
type place struct {
	info *engine.NodeInfo
	nth  int // from 1
	wave int // from 1; 0 where the rollout is wrong, as Apply says
}

func (r *Run) places() map[string]place {
	r.placed.Do(func() {
		r.place = make(map[string]place, len(r.Nodes))
		ends, err := Waves(r.Program.Header().Rollout.Waves, len(r.Nodes))
		for i := range r.Nodes {
			at := place{info: &r.Nodes[i], nth: i + 1}
			if err == nil {
				at.wave = 1 + sort.SearchInts(ends, i+1)
			}
			r.place[r.Nodes[i].Name] = at
		}
	})
	return r.place
}

// foresee predicts one node, unless it is through: then nil.
func (r *Run) foresee(ctx context.Context, info engine.NodeInfo) *engine.NodePlan {
	switch past := r.Past[info.Name]; {
	case past.Ended(), past.InHand(): // see [Run.TakeUp]
		return nil
	case past.Planned(): // it may do what was planned then, and nothing else
		now := r.predict(ctx, info, r.tally)
		if now.Err == nil {
			now.Err = Drifted(past.Plan, now)
		}
		return now
	}
	return r.predict(ctx, info, r.tally)
}

// predict predicts one node, and charges t with what that uses of the limits of all nodes together.
func (r *Run) predict(ctx context.Context, info engine.NodeInfo, t *engine.Tally) *engine.NodePlan {
	plan := &engine.NodePlan{Node: info.Name, Created: time.Now().UTC()}
	n, err := r.fleet.node(ctx, r.Dialer, info.Name)
	if err == nil {
		terms := r.terms(info)
		terms.Tally = t
		pass := engine.NewPrediction(plan, r.Limits(), r.Model(n), r.Tell).Under(terms)
		err = r.Program.Run(ctx, info, pass)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ended(ctx, err)
		}
		plan.Err = nodeError(err, info.Name)
		plan.Err.Left = engine.NothingChanged
	}
	if first := r.first.Load(); first != nil {
		plan.Share(first)
	} else if err == nil {
		r.first.CompareAndSwap(nil, plan)
	}
	return plan
}

// Limits are those in force: the header's, held to the ceilings.
func (r *Run) Limits() engine.Limits { return r.Program.Header().Limits.Lower(r.Ceilings) }

// Allowed is how many nodes may fail.
func (r *Run) Allowed() int {
	return min(r.Program.Header().Rollout.MaxFailures, r.Limits().N(engine.LimitFailures))
}

// Used is how much of its limits the run has used.
func (r *Run) Used() engine.Used {
	u := r.tally.Used()
	u[engine.LimitNodes] = int64(len(r.Nodes))
	program := r.Program.Usage()
	u[engine.LimitSteps] = program.Steps
	if program.Memory > 0 {
		u[engine.LimitMemory] = program.Memory
	}
	if end := r.deadline.at(); !end.IsZero() {
		u[engine.LimitDuration] = int64(r.Limits().Duration() - time.Until(end))
	}
	return u
}

// terms are those of a pass on a node.
func (r *Run) terms(node engine.NodeInfo) engine.Terms {
	var allow func(string, json.RawMessage) *engine.Error
	if r.Allow != nil {
		allow = func(op string, args json.RawMessage) *engine.Error { return r.Allow(node, op, args) }
	}
	return engine.Terms{
		Allow: allow,
		Tally: r.tally, ConfirmWithin: time.Duration(r.Program.Header().Rollout.ConfirmWithin), Repeat: r.Repeat, By: r.By, Run: r.ID,
		Target: r.Target,
		Confirm: func(ctx context.Context, token string, deadline time.Time) (engine.Node, error) {
			return r.confirm(ctx, node.Name, token, deadline)
		},
	}
}

// confirmEvery is the wait between two tries to reach a node over a new connection.
const confirmEvery = 500 * time.Millisecond

// confirm reaches a node over a new connection, which takes the place of the one
// that there is, and has it keep what it guards under token, if any.
func (r *Run) confirm(ctx context.Context, name, token string, deadline time.Time) (engine.Node, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for {
		n, err := r.fleet.fresh(ctx, r.Dialer, name)
		if err == nil && token != "" {
			if err = n.Confirm(ctx, token); err == nil || !n.Lost() {
				return n, err // the node has answered: trying again would change nothing
			}
		}
		if err == nil {
			return n, nil
		}
		select {
		case <-time.After(confirmEvery):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func lost(n engine.Node) bool {
	l, can := n.(engine.Line)
	return can && l.Lost()
}

// nodeError is a copy of err as an engine.Error that names its node.
func nodeError(err error, node string) *engine.Error {
	e := *engine.AsError(err)
	if e.Node == "" {
		e.Node = node
	}
	return &e
}

// Refusal says why a run that was predicted as plans must not start, or nil.
// Nodes that are unreachable or have drifted refuse it where they are more than
// allowed; anything else, a limit or a script that is wrong, on any node.
func Refusal(plans []*engine.NodePlan, allowed int) *engine.Error {
	var worst *engine.Error
	failed, tolerable := 0, true
	for _, p := range plans {
		if p.Err == nil {
			continue
		}
		failed++
		tolerable = tolerable && (p.Err.Code == engine.Unreachable || p.Err.Code == engine.Differs)
		if worst == nil || engine.Worst(worst.Code, p.Err.Code) != worst.Code {
			worst = p.Err
		}
	}
	if tolerable && failed <= allowed {
		return nil
	}
	return worst
}

// Refusal says why this run must not start, or nil: see [Refusal].
func (r *Run) Refusal(plans []*engine.NodePlan) *engine.Error {
	if e := r.overdrawn(); e != nil {
		return e
	}
	e := Refusal(plans, r.Allowed()-r.failedBefore())
	if e == nil {
		return nil
	}
	return hinted(e, r.OverBudget(plans))
}

// OverBudget is what the limit on failures has to do with a refusal: "" where
// it is not what stops the run.
func (r *Run) OverBudget(plans []*engine.NodePlan) string { return r.overBudget(failures(plans)) }

func (r *Run) overBudget(failed int) string {
	bound := r.Limits().N(engine.LimitFailures)
	if failed <= bound || bound >= r.Program.Header().Rollout.MaxFailures {
		return "" // the rollout's own max_failures allows no more
	}
	what := fmt.Sprintf("%d nodes failed", failed)
	if failed == 1 {
		what = "1 node failed"
	}
	return r.Limits().Exceeded(engine.LimitFailures, what).Cause
}

// hinted is e with one more hint, if there is one.
func hinted(e *engine.Error, hint string) *engine.Error {
	if hint == "" {
		return e
	}
	out := *e
	out.Hint = strings.TrimPrefix(out.Hint+"; "+hint, "; ")
	return &out
}

func failures(plans []*engine.NodePlan) int {
	n := 0
	for _, p := range plans {
		if p.Err != nil {
			n++
		}
	}
	return n
}

// Close ends the connections to the nodes.
func (r *Run) Close() { r.fleet.close() }

// Tell emits e as an event of the run.
func (r *Run) Tell(e engine.Event) {
	e.Version, e.Time, e.Run = engine.EventVersion, time.Now().UTC(), r.ID
	r.Emit(e)
}
