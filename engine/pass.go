package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"runbook/engine/resource"
)

// Pass is one node's way through a runbook. Every operation that the script
// calls goes through [Pass.Do], in one of two kinds of pass:
//
//   - predicting ([NewPrediction]): on a model of the node. It writes the plan.
//   - live ([NewLive]): on the node itself. It is bound to the plan: a change
//     must be the next one that was predicted, on the same footprint. A script
//     that fails does less; none does more or other.
//
// This file is the life of a change, up to where it waits to be made; queue.go is the rest. Nothing else in runbook changes a node.
type Pass struct {
	mu     sync.Mutex // a node does one thing at a time
	plan   *NodePlan
	budget Budget
	emit   func(Event)
	fatal  *Error // ended the pass: every later call gets it again

	model Model // nil in a live pass

	terms Terms

	node    Node // nil while predicting
	journal Journal
	run     string
	guarded []string     // tokens of changes that the node waits to have confirmed
	until   time.Time    // when it stops waiting
	queue   []queued     // what is yet to be done and told
	next    int          // index in plan.Steps of the next change that may be called
	done    []doneChange // what was changed and stands, oldest first
	gone    []string     // what putting back could not make good, newest first

	spared map[int][]string // of steps that were to end sessions: which of them live on, and why

	recorded bool    // the plan is in the journal
	last     bool    // what is sent now is the last
	ended    bool    // that it is done is in the journal
	looks    []Entry // what probes have answered since the last change, for the journal

	past     *Past        // of a run that is taken up again: see past.go
	passed   map[int]bool // the steps that were made before, and are passed over
	through  int          // the script goes the way that it went before until next is this
	recalled int          // how many of past.looks it was told again
}

// Terms are what holds for all changes of a pass, beside the limits.
type Terms struct {
	ConfirmWithin time.Duration // see [Rollout]; 0: the default
	Tally         *Tally        // of the run, for limits that all nodes share
	Repeat        bool          // the operator wants what a node would refuse as a repeat: --repeat-anyway
	// Allow is an error where the operator may not have the node changed by this
	// operation. nil: everything is allowed.
	Allow func(op string, args json.RawMessage) *Error
	By    string // who runs it: user@machine
	Base  int    // the changes of this pass are numbered from here on: the run has had others on its node
	Run   string // for which it predicts; "": for a plan, which no other run keeps off
	// Target returns what a target holds, to look at it. nil: none is within reach.
	Target func(ctx context.Context, name string) (Reader, error)
	// Confirm reaches the node over a new connection and has it keep what it
	// guards under token; it tries until that works or deadline has passed. It
	// returns the new connection. nil: nothing can be confirmed, and nothing is guarded.
	Confirm func(ctx context.Context, token string, deadline time.Time) (Node, error)
}

// Under sets the terms of p, before its first call.
func (p *Pass) Under(t Terms) *Pass {
	if t.ConfirmWithin == 0 {
		t.ConfirmWithin = DefaultConfirmWithin
	}
	p.terms, p.budget.Tally = t, t.Tally
	p.run = or(p.run, t.Run)
	return p
}

// NewPrediction returns a pass that predicts on m and writes plan.
func NewPrediction(plan *NodePlan, l Limits, m Model, emit func(Event)) *Pass {
	return &Pass{plan: plan, budget: *NewBudget(plan.Node, l, nil), model: m, emit: emit}
}

// NewLive returns a pass that does what plan holds to n, and records it as part of run.
func NewLive(plan *NodePlan, l Limits, n Node, j Journal, run string, emit func(Event)) *Pass {
	return &Pass{plan: plan, budget: *NewBudget(plan.Node, l, nil), node: n, journal: j, run: run, emit: emit, spared: map[int][]string{}}
}

// Print takes a line that the script printed. It is charged while predicting.
func (p *Pass) Print(pos, line string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fatal != nil {
		return p.fatal
	}
	if p.model != nil {
		if err := p.budget.Print(line); err != nil {
			return p.fail(PlannedChange{Op: "print", Pos: pos}, err)
		}
		p.plan.Prints = append(p.plan.Prints, line)
		return nil
	}
	if p.replays() {
		return nil // it was told before
	}
	p.queue = append(p.queue, queued{nth: -1, print: line}) // after the changes that it may speak of
	return nil
}

// Sleep waits for d, but not in a prediction: nothing changes meanwhile in a model.
func (p *Pass) Sleep(ctx context.Context, d time.Duration) error {
	if p.model != nil {
		return nil
	}
	p.mu.Lock()
	replays := p.replays()
	err := p.flush(ctx) // what the script waits for may be their effect
	p.mu.Unlock()
	if err != nil || replays {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Do is the life of a call: it is charged, then looks, or changes.
//
// A change is foreseen: its footprint is read and its outcome predicted, or
// both are taken from the plan. In a live pass it is then queued, and the
// script is told at once what the plan says it will find: see [Pass.flush].
// The error is an [*Error] that names the call and the node.
func (p *Pass) Do(ctx context.Context, c Call) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fatal != nil {
		return nil, p.fatal
	}
	named := PlannedChange{Op: c.Name, Args: c.Args, Object: object(c.Op), Pos: c.Pos}
	if err := p.budget.Call(); err != nil {
		return nil, p.fail(named, err)
	}
	switch op := c.Op.(type) {
	case Probe:
		if err := p.flush(ctx); err != nil {
			return nil, err
		}
		v, recalled, err := p.recall(named)
		if !recalled {
			v, err = p.look(ctx, c, op)
		}
		if p.node != nil && !recalled {
			p.noteLook(named, v, err)
		}
		if err != nil {
			return nil, p.fail(named, err)
		}
		return v, nil
	case Change:
		if IsTarget(c.Node) && c.Node != p.plan.Node {
			return nil, p.fail(named, &Error{Code: Invalid, Cause: c.Name + " changes what several nodes share", Hint: "before and after may do that, once for all nodes"})
		}
		planned, err := p.foresee(ctx, named, op)
		if err != nil {
			return nil, p.fail(named, p.explain(ctx, op, err))
		}
		if p.node != nil && !p.passed[p.next-1] {
			if err := p.enqueue(ctx, planned); err != nil {
				return nil, err
			}
		}
		if t, tells := op.(Teller); tells {
			return t.Tell(planned.Edit), nil
		}
		return op.Result(planned.Edit.Happens(), planned.Edit.After), nil
	default:
		return nil, p.fail(named, fmt.Errorf("%s is neither a probe nor a change", c.Name))
	}
}

// Finish does what is still queued, and wants every predicted change to have
// been made. A live pass that did not fail is not over before it.
func (p *Pass) Finish(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fatal != nil {
		return p.fatal
	}
	left := slices.IndexFunc(p.plan.Steps[p.next:], func(s PlannedChange) bool { return s.Edit.Happens() })
	p.last = left < 0
	if err := p.flush(ctx); err != nil || p.node == nil {
		return err
	}
	if left >= 0 {
		return p.fail(p.plan.Steps[p.next+left], &Error{Code: Differs, Cause: "the script ended without this change, which was predicted"})
	}
	if p.recorded && !p.ended {
		return p.journal.Append(ctx, p.end())
	}
	return nil
}

func (p *Pass) end() Entry {
	e := p.entry(EntryEnd, 0)
	e.Text, p.ended = string(NodeDone), true
	return e
}

// look asks the node, or the target that c is about.
func (p *Pass) look(ctx context.Context, c Call, op Probe) (any, error) {
	if !IsTarget(c.Node) || c.Node == p.plan.Node {
		return op.Look(ctx, p.reader())
	}
	if p.terms.Target == nil {
		return nil, Invalid.Errorf("no server is within reach here")
	}
	t, err := p.terms.Target(ctx, c.Node)
	if err != nil {
		return nil, err
	}
	return op.Look(ctx, t)
}

func (p *Pass) reader() Reader {
	if p.model != nil {
		return p.model
	}
	return p.node
}

// foresee returns what c will do: predicted on the model and written to the
// plan, or, in a live pass, the next entry of the plan that is this call.
func (p *Pass) foresee(ctx context.Context, c PlannedChange, op Change) (PlannedChange, error) {
	if p.node != nil {
		return p.planned(c)
	}
	if p.terms.Allow != nil {
		if err := p.terms.Allow(c.Op, c.Args); err != nil {
			return PlannedChange{}, err
		}
	}
	if b, ok := op.(bound); ok {
		known, err := p.model.Read(ctx, resource.Query{{Kind: resource.KindFacts}})
		if err != nil {
			return PlannedChange{}, err
		}
		if err := b.bound(machine(known)); err != nil {
			return PlannedChange{}, err
		}
	}
	rec := &recorder{from: p.model, state: resource.State{}}
	want, err := op.Plan(ctx, rec)
	if err != nil {
		return PlannedChange{}, err
	}
	planned := c
	planned.Edit = Edit{Want: want, Query: rec.query, Before: rec.state, After: rec.state, Settle: Duration(DefaultSettle)}
	if s, ok := op.(Shaper); ok {
		s.Shape(&planned.Edit)
	}
	if planned.Edit.Restart != "" || !resource.Equal(keep(rec.state, want), want) {
		var refused *NodeError
		err := p.model.Predict(ctx, &planned.Edit)
		if errors.As(err, &refused) { // the script may go on without it, here and in the live pass
			planned.Refused = refused
			p.plan.Steps = append(p.plan.Steps, planned)
		}
		if err != nil {
			return PlannedChange{}, err
		}
	}
	if planned.Edit.Happens() {
		// By what is done, not by the arguments: one change can be asked for in many ways.
		if err := p.budget.change(c.Op+"\n"+result(planned.Edit), planned.Edit.Count(), planned.Edit.Disrupts != ""); err != nil {
			return PlannedChange{}, err
		}
		if err := p.admit(ctx, &planned.Edit); err != nil {
			return PlannedChange{}, err
		}
	}
	p.plan.Steps = append(p.plan.Steps, planned)
	return planned, nil
}

// admit asks whether the node would refuse e for what it remembers, and has e
// guarded where it may cut the node off.
func (p *Pass) admit(ctx context.Context, e *Edit) error {
	e.Repeat = p.terms.Repeat
	known, err := p.model.Read(ctx, resource.Query{{Kind: resource.KindMemory}, {Kind: resource.KindFacts}})
	if err != nil {
		return err
	}
	e.Machine = machine(known)
	for _, m := range resource.All[resource.Memory](known) {
		if err := RefusePending(m, p.run); err != nil {
			return err
		}
		if err := RefuseHeld(m, p.run, p.plan.Node); err != nil && p.run != "" {
			return err
		}
		if err := RefuseRepeat(m, *e); err != nil {
			return err
		}
	}
	if e.CutsOwn() {
		e.Guard = &Guard{Within: Duration(p.terms.ConfirmWithin)}
	}
	return nil
}

// result is what e makes of the resources that it changes.
func result(e Edit) string {
	var b strings.Builder
	if e.Restart != "" {
		b.WriteString("restart " + e.Restart + "\n")
	}
	for _, c := range e.Diff() {
		b.WriteString(string(c.Key))
		if c.After != nil {
			b.WriteString(" is " + c.After.String())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// keep returns what s says of the keys of of.
func keep(s, of resource.State) resource.State {
	out := make(resource.State, len(of))
	for k := range of {
		out[k] = s[k]
	}
	return out
}

// planned finds c in the plan, at or after the place that was reached.
func (p *Pass) planned(c PlannedChange) (PlannedChange, error) {
	for i := p.next; i < len(p.plan.Steps); i++ {
		if s := p.plan.Steps[i]; s.Op == c.Op && bytes.Equal(s.Args, c.Args) {
			p.next = i + 1
			if s.Refused != nil {
				return s, s.Refused
			}
			return s, nil
		} else if s.Edit.Happens() {
			break // this one would have to come first
		}
	}
	return PlannedChange{}, &Error{
		Code:  Differs,
		Cause: fmt.Sprintf("this call was not predicted, with these arguments: %s", c.Args),
		Hint:  "the script took another way than in its dry run; make a new plan",
	}
}

func drifted(d resource.Diff) *Error {
	return &Error{Code: Differs, Cause: "the node has drifted since it was predicted", Drift: d}
}

// explain adds to a kernel's refusal what the operation knows about it.
func (p *Pass) explain(ctx context.Context, op Change, err error) error {
	var refused *NodeError
	var known *Error
	if !errors.As(err, &refused) || errors.As(err, &known) {
		return err
	}
	e := &Error{Code: Unreachable, Cause: "refused by the kernel", Kernel: refused.Words, Err: err}
	if x, ok := op.(Explainer); ok {
		if cause, hint := x.Explain(ctx, p.reader(), refused); cause != "" {
			e.Cause, e.Hint = cause, hint
		}
	}
	return e
}

// fail completes err with the call and the node, and ends the pass where the
// script must not be allowed to go on: only a node's refusal may be handled.
func (p *Pass) fail(c PlannedChange, err error) error {
	var refused *NodeError
	if errors.Is(err, ErrUnpredictable) {
		err = &Error{Code: Unreachable, Cause: err.Error(), Err: err}
	}
	e := *AsError(err) // a copy: the same error may have come from elsewhere
	if e.Op == "" {
		e.Op = c.Title()
	}
	if e.Pos == "" {
		e.Pos = c.Pos
	}
	if e.Node == "" {
		e.Node = p.plan.Node
	}
	if !errors.As(err, &refused) {
		p.fatal = &e
	}
	return &e
}

func object(op Operation) string {
	if s, ok := op.(fmt.Stringer); ok {
		return s.String()
	}
	return ""
}

// recorder is a Reader that keeps what was read through it: a footprint.
type recorder struct {
	from  Reader
	query resource.Query
	state resource.State
}

func (r *recorder) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	s, err := r.from.Read(ctx, q)
	if err == nil {
		r.query = append(r.query, q...)
		maps.Copy(r.state, s)
	}
	return s, err
}
