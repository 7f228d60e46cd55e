package engine

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"runbook/engine/resource"
)

// This file is how a live pass does what was predicted: changes wait in a queue, go to the node together,
// and are judged by what it holds then. What is in the journal at each point is decided here.

// queued is what a live pass has yet to do or to tell: a planned change, or a print.
type queued struct {
	change PlannedChange
	nth    int // in plan.Steps; -1: a print
	print  string
}

// maxQueue bounds what is sent to a node in one request.
const maxQueue = 100

func (p *Pass) enqueue(ctx context.Context, c PlannedChange) error {
	p.queue = append(p.queue, queued{change: c, nth: p.next - 1})
	if len(p.queue) < maxQueue {
		return nil
	}
	return p.flush(ctx)
}

// flush does the queued changes to the node: their intents, the changes in one
// request, their outcomes.
//
// A script need not wait for each of its changes, because it can make nothing
// of the answer: what it is told is what was predicted, and where the node says
// otherwise the pass is over and the node put back. So changes wait until the
// script looks at the node, sleeps, or ends, and then cost one round trip together.
func (p *Pass) flush(ctx context.Context) error {
	queue := p.queue
	p.queue = nil
	changes := slices.DeleteFunc(slices.Clone(queue), func(q queued) bool { return q.nth < 0 })
	ok := 0 // how many of them are as predicted
	if len(changes) > 0 {
		found, err := p.send(ctx, changes)
		if err == nil || !errors.Is(err, errUnsent) {
			found, err = p.lookAgain(ctx, changes, found, err)
			if ok, err = p.judge(changes, found, err); err == nil {
				if err = p.confirm(ctx); err != nil {
					ok = p.firstGuarded(changes)
				}
			}
			err = errors.Join(err, p.recordOutcomes(ctx, changes, ok, err))
		}
		if err != nil {
			p.tell(queue, changes[min(ok, len(changes)-1)].nth)
			return p.fail(changes[min(ok, len(changes)-1)].change, err)
		}
	}
	p.tell(queue, len(p.plan.Steps))
	return nil
}

// errUnsent is in the error of changes that no node was asked for.
var errUnsent = errors.New("nothing was sent")

// send records the intents and has the node do the changes.
func (p *Pass) send(ctx context.Context, changes []queued) ([]resource.State, error) {
	var edits []Edit
	var intents []Entry
	for _, q := range changes {
		e := q.change.Edit
		if e.Happens() {
			intents = append(intents, p.entry(EntryIntent, q.nth))
			e = p.own(e)
			e.ID = p.changeID(q.nth)
			if e.Guard != nil {
				e.Guard = p.guard(*e.Guard)
			}
		} else {
			e.Want = nil // it is compared with the node, and no more
		}
		e.Cuts = nil // they are for people
		edits = append(edits, e)
	}
	if len(intents) > 0 {
		if err := p.recordIntents(ctx, intents); err != nil {
			return nil, errors.Join(err, errUnsent)
		}
	}
	return ApplyAll(ctx, p.node, edits)
}

// own is e as an edit of this run, which has the node to itself.
func (p *Pass) own(e Edit) Edit {
	e.Run, e.By, e.Node = p.run, p.terms.By, p.plan.Node
	return e
}

// recordIntents writes what is about to be done, and with it, in one go, what a
// run that is taken up again wants to know: the plan, before the first, and what probes have answered.
func (p *Pass) recordIntents(ctx context.Context, intents []Entry) error {
	entries := append(p.looks, intents...)
	if !p.recorded {
		e := p.entry(EntryPlan, 0)
		var err error
		if e.Data, err = json.Marshal(p.plan); err != nil {
			return err
		}
		entries = append([]Entry{e}, entries...)
	}
	if err := p.journal.Append(ctx, entries...); err != nil {
		return err
	}
	p.recorded, p.looks = true, nil
	return nil
}

// judge compares what the node answered with what was predicted. found has the
// states of the changes that were made; failed is why the next one was not. It
// returns how many are as predicted, and what is wrong with the one after them.
func (p *Pass) judge(changes []queued, found []resource.State, failed error) (ok int, err error) {
	for i, s := range found {
		p.made(changes[i], s)
		if spared := changes[i].change.Edit.spared(s); len(spared) > 0 {
			p.spared[changes[i].nth] = spared
		}
		if d := resource.Compare(changes[i].change.Edit.After, s); len(d) > 0 {
			return i, &Error{Code: Differs, Cause: "the node answered otherwise than predicted", Drift: d}
		}
	}
	if len(found) == len(changes) { // an error beside that would be about nothing
		return len(found), nil
	}
	var drift *DriftError
	var refused *NodeError
	switch {
	case failed == nil:
		failed = Unreachable.Errorf("the node answered to %d of %d changes", len(found), len(changes))
	case errors.As(failed, &drift):
		return len(found), drifted(resource.Compare(changes[len(found)].change.Edit.Before, drift.Found))
	case errors.As(failed, &refused): // the dry run said that it would not: no script may make light of that
		return len(found), &Error{Code: Differs, Cause: "the kernel refused what was predicted to succeed", Kernel: refused.Words}
	}
	var known *Error
	if errors.As(failed, &known) && known.Left == NothingChanged { // the node has refused to begin
		return len(found), failed
	}
	for _, q := range changes[len(found):] { // the answer was lost: any of them may have been made
		p.made(q, nil)
	}
	return len(found), failed
}

// recordOutcomes writes what became of the changes: the first ok are done.
func (p *Pass) recordOutcomes(ctx context.Context, changes []queued, ok int, failed error) error {
	var outcomes []Entry
	for _, q := range changes[:ok] {
		if q.change.Edit.Happens() {
			done := p.entry(EntryDone, q.nth)
			done.Text = strings.Join(p.spared[q.nth], "; ")
			outcomes = append(outcomes, done)
		}
	}
	if p.last && failed == nil {
		outcomes = append(outcomes, p.end())
	}
	for i, q := range changes[ok:] {
		if failed == nil || !q.change.Edit.Happens() && i > 0 {
			continue
		}
		o := p.entry(EntryFailed, q.nth)
		why := *AsError(failed)
		why.Node = "" // the entry has it
		if o.Text = why.Error(); i > 0 {
			o.Text = "sent after one that failed"
		}
		outcomes = append(outcomes, o)
		if q.change.Edit.Happens() && !slices.ContainsFunc(p.done, func(d doneChange) bool { return d.nth == q.nth }) {
			outcomes = append(outcomes, p.entry(EntryUndone, q.nth)) // the node said that it did not do it
		}
	}
	if len(outcomes) == 0 {
		return nil
	}
	return p.journal.Append(context.WithoutCancel(ctx), outcomes...)
}

func (p *Pass) entry(kind string, nth int) Entry {
	return Entry{Run: p.run, Time: time.Now(), Node: p.plan.Node, Kind: kind, Nth: p.terms.Base + nth}
}

// tell emits the events of what was queued, in order, up to the change that is
// number end of the plan.
func (p *Pass) tell(queue []queued, end int) {
	for _, q := range queue {
		c := q.change
		switch diff := c.Edit.Diff(); {
		case q.nth < 0:
			p.emit(Event{Kind: EventPrint, Node: p.plan.Node, Text: q.print})
		case q.nth >= end:
			return
		case !c.Edit.Happens():
			p.emit(Event{Kind: EventUnchanged, Node: p.plan.Node, Op: c.Title(), Pos: c.Pos})
		default:
			p.emit(Event{Kind: EventChange, Node: p.plan.Node, Op: c.Title(), Pos: c.Pos, Diff: diff})
			for _, s := range p.spared[q.nth] {
				p.emit(Event{Kind: EventPrint, Node: p.plan.Node, Text: s})
			}
		}
	}
}
