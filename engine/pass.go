package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"runbook/engine/resource"
)

// Pass is one node's way through a runbook. Every operation that the script
// calls goes through [Pass.Do], in one of two kinds of pass:
//
//   - predicting ([NewPrediction]): on a model of the node. It writes the plan.
//   - live ([NewLive]): on the node itself. It is bound to the plan: a change
//     must be the next one that was predicted, on the same footprint. The
//     script may do less than predicted, never more or other.
//
// This file is the life of a change. Nothing else in runbook changes a node.
type Pass struct {
	mu     sync.Mutex // a node does one thing at a time
	plan   *NodePlan
	budget Budget
	emit   func(Event)
	fatal  *Error // ended the pass: every later call gets it again

	model Model // nil in a live pass

	node    Node // nil while predicting
	journal Journal
	run     string
	next    int          // index in plan.Steps of the next change that may be called
	done    []doneChange // what was changed and stands, oldest first
}

type doneChange struct {
	nth   int
	edit  Edit
	found resource.State // what the node answered after it; nil where the answer was lost
}

// NewPrediction returns a pass that predicts on m and writes plan.
func NewPrediction(plan *NodePlan, l Limits, m Model, emit func(Event)) *Pass {
	return &Pass{plan: plan, budget: Budget{Limits: l}, model: m, emit: emit}
}

// NewLive returns a pass that does what plan holds to n, and records it as part of run.
func NewLive(plan *NodePlan, l Limits, n Node, j Journal, run string, emit func(Event)) *Pass {
	return &Pass{plan: plan, budget: Budget{Limits: l}, node: n, journal: j, run: run, emit: emit}
}

// Changed reports how many changes of a live pass stand on the node, or may.
func (p *Pass) Changed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.done)
}

// Print takes a line that the script printed.
func (p *Pass) Print(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.model != nil {
		p.plan.Prints = append(p.plan.Prints, line)
		return
	}
	p.emit(Event{Kind: EventPrint, Node: p.plan.Node, Text: line})
}

// Sleep waits for d, but not in a prediction: nothing changes meanwhile in a model.
func (p *Pass) Sleep(ctx context.Context, d time.Duration) error {
	if p.model != nil {
		return nil
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
// A change is foreseen (its footprint read and its outcome predicted, or taken
// from the plan), charged, and in a live pass performed. The error is an
// [*Error] that names the call and the node.
func (p *Pass) Do(ctx context.Context, c Call) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fatal != nil {
		return nil, p.fatal
	}
	if err := p.budget.call(); err != nil {
		return nil, p.fail(c, err)
	}
	switch op := c.Op.(type) {
	case Probe:
		v, err := op.Look(ctx, p.reader())
		if err != nil {
			return nil, p.fail(c, err)
		}
		return v, nil
	case Change:
		planned, err := p.foresee(ctx, c, op)
		if err != nil {
			return nil, p.fail(c, p.explain(ctx, op, err))
		}
		state := planned.Edit.After
		if p.node != nil {
			if state, err = p.perform(ctx, planned); err != nil {
				return nil, p.fail(c, p.explain(ctx, op, err))
			}
		}
		return op.Result(len(planned.Edit.Diff()) > 0, state), nil
	default:
		return nil, p.fail(c, fmt.Errorf("%s is neither a probe nor a change", c.Name))
	}
}

func (p *Pass) reader() Reader {
	if p.model != nil {
		return p.model
	}
	return p.node
}

// foresee returns what c will do: predicted on the model and written to the
// plan, or, in a live pass, the next entry of the plan that is this call.
func (p *Pass) foresee(ctx context.Context, c Call, op Change) (PlannedChange, error) {
	if p.node != nil {
		return p.planned(c)
	}
	rec := &recorder{from: p.model, state: resource.State{}}
	want, err := op.Plan(ctx, rec)
	if err != nil {
		return PlannedChange{}, err
	}
	e := Edit{Want: want, Query: rec.query, Before: rec.state, After: rec.state, Settle: Duration(DefaultSettle)}
	planned := PlannedChange{Op: c.Name, Args: c.Args, Object: object(op), Pos: c.Pos, Edit: e}
	if len(resource.Compare(keep(rec.state, want), want)) > 0 {
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
	if len(planned.Edit.Diff()) > 0 {
		if err := p.budget.change(c.Name + string(c.Args)); err != nil {
			return PlannedChange{}, err
		}
	}
	p.plan.Steps = append(p.plan.Steps, planned)
	return planned, nil
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
func (p *Pass) planned(c Call) (PlannedChange, error) {
	for i := p.next; i < len(p.plan.Steps); i++ {
		if s := p.plan.Steps[i]; s.Op == c.Name && bytes.Equal(s.Args, c.Args) {
			p.next = i + 1
			if s.Refused != nil {
				return s, s.Refused
			}
			return s, nil
		}
	}
	return PlannedChange{}, &Error{
		Code:  Differs,
		Cause: fmt.Sprintf("this call was not predicted, with these arguments: %s", c.Args),
		Hint:  "the script took another way than in its dry run; make a new plan",
	}
}

// perform does one planned change to the node: intent, change, outcome.
func (p *Pass) perform(ctx context.Context, c PlannedChange) (resource.State, error) {
	diff := c.Edit.Diff()
	if len(diff) == 0 {
		found, err := p.node.Read(ctx, c.Edit.Query)
		if err != nil {
			return nil, err
		}
		if d := resource.Compare(c.Edit.Before, found); len(d) > 0 {
			return nil, drifted(d)
		}
		p.emit(Event{Kind: EventUnchanged, Node: p.plan.Node, Op: title(c), Pos: c.Pos})
		return found, nil
	}

	nth := p.next - 1
	record := func(kind, text string) error {
		e := Entry{Run: p.run, Time: time.Now(), Node: p.plan.Node, Kind: kind, Nth: nth, Text: text}
		if kind == "intent" {
			e.Op, e.Pos, e.Edit, e.Diff = title(c), c.Pos, &c.Edit, diff.String()
		}
		return p.journal.Append(ctx, e)
	}
	if err := record("intent", ""); err != nil {
		return nil, err
	}
	found, err := p.node.Apply(ctx, c.Edit)
	if err != nil {
		var drift *DriftError
		var refused *NodeError
		switch {
		case errors.As(err, &drift):
			err = drifted(resource.Compare(c.Edit.Before, drift.Found))
		case errors.As(err, &refused): // the dry run said that it would not: no script may make light of that
			err = &Error{Code: Differs, Cause: "the kernel refused what was predicted to succeed", Kernel: refused.Words}
		default: // the answer was lost: it may have been done
			p.done = append(p.done, doneChange{nth, c.Edit, nil})
		}
		return nil, errors.Join(err, record("failed", err.Error()))
	}
	p.done = append(p.done, doneChange{nth, c.Edit, found})
	if d := resource.Compare(c.Edit.After, found); len(d) > 0 {
		err := &Error{Code: Differs, Cause: "the node answered otherwise than predicted", Drift: d}
		return nil, errors.Join(err, record("failed", err.Error()))
	}
	if err := record("done", ""); err != nil {
		return nil, err
	}
	p.emit(Event{Kind: EventChange, Node: p.plan.Node, Op: title(c), Pos: c.Pos, Diff: diff})
	return found, nil
}

// PutBack takes back what a live pass changed, newest first, so that a node
// ends either done or as it was. It stops at the first change that it cannot
// take back, for older ones may rest on it.
func (p *Pass) PutBack(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.done) > 0 {
		c := p.done[len(p.done)-1]
		d := resource.Compare(c.edit.Before, c.found)
		if c.found == nil {
			found, err := p.node.Read(ctx, c.edit.Query)
			if err != nil {
				return err
			}
			// Only our own keys: what else has moved meanwhile is not ours to put back.
			c.found = found
			ours := c.edit.Diff().Before()
			d = resource.Compare(ours, keep(found, ours))
		}
		if len(d) > 0 {
			back := Edit{Want: d.Before(), Query: c.edit.Query, Before: c.found, After: c.edit.Before, Settle: c.edit.Settle}
			if err := p.takeBack(ctx, c.nth, back); err != nil {
				return err
			}
			p.emit(Event{Kind: EventPutBack, Node: p.plan.Node, Op: title(p.plan.Steps[c.nth]), Diff: back.Diff()})
		}
		p.done = p.done[:len(p.done)-1]
	}
	return nil
}

func (p *Pass) takeBack(ctx context.Context, nth int, back Edit) error {
	e := Entry{Run: p.run, Time: time.Now(), Node: p.plan.Node, Nth: nth, Kind: "undo", Edit: &back, Diff: back.Diff().String()}
	if err := p.journal.Append(ctx, e); err != nil {
		return err
	}
	found, err := p.node.Apply(ctx, back)
	var drift *DriftError
	switch {
	case errors.As(err, &drift):
		return drifted(resource.Compare(back.Before, drift.Found))
	case err != nil:
		return err
	}
	if d := resource.Compare(back.After, found); len(d) > 0 {
		return &Error{Code: Differs, Cause: "the node could not be put back as it was", Drift: d}
	}
	return p.journal.Append(ctx, Entry{Run: p.run, Time: time.Now(), Node: p.plan.Node, Nth: nth, Kind: "undone"})
}

func drifted(d resource.Diff) *Error {
	return &Error{Code: Differs, Cause: "the node has drifted since it was predicted", Drift: d}
}

// explain adds to a kernel's refusal what the operation knows about it.
func (p *Pass) explain(ctx context.Context, op Change, err error) error {
	var refused *NodeError
	if !errors.As(err, &refused) {
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
func (p *Pass) fail(c Call, err error) error {
	var refused *NodeError
	if errors.Is(err, ErrUnpredictable) {
		err = &Error{Code: Unreachable, Cause: err.Error(), Err: err}
	}
	e := *AsError(err) // a copy: the same error may have come from elsewhere
	if e.Op == "" {
		e.Op = title(PlannedChange{Op: c.Name, Object: object(c.Op)})
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

func title(c PlannedChange) string {
	if c.Object == "" {
		return c.Op
	}
	return c.Op + " " + c.Object
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
