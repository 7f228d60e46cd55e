package engine

import (
	"context"
	"errors"
	"fmt"

	"runbook/engine/resource"
)

// This file is how a live pass that failed leaves its node: as it was.

// doneChange is a change that stands on the node, or may.
type doneChange struct {
	nth   int
	edit  Edit
	found resource.State // what the node answered after it; nil where the answer was lost
}

// Changed reports how many changes of a live pass stand on the node, or may.
func (p *Pass) Changed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.done)
}

// Standing names the changes that [Pass.Changed] counts, oldest first: "route.add 10.20.0.0/16".
func (p *Pass) Standing() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, d := range p.done {
		out = append(out, p.plan.Steps[d.nth].Title())
	}
	return out
}

// Gone says, of each change that [Pass.PutBack] took back as far as it could, what cannot be put back.
func (p *Pass) Gone() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// Reconnect gives a pass whose connection was lost another one to its node.
func (p *Pass) Reconnect(n Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.node = n
}

// made keeps what must be put back if the pass fails.
func (p *Pass) made(q queued, found resource.State) {
	if q.change.Edit.Happens() {
		p.done = append(p.done, doneChange{q.nth, q.change.Edit, found})
	}
}

// PutBack takes back what a live pass changed, newest first, so that a node
// ends either done or as it was. It stops at the first change that it cannot
// take back, for older ones may rest on it.
func (p *Pass) PutBack(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.queue { // what was printed is told; what was not sent is not
		if q.nth < 0 {
			p.emit(Event{Kind: EventPrint, Node: p.plan.Node, Text: q.print})
		}
	}
	p.queue = nil
	for len(p.done) > 0 {
		c := p.done[len(p.done)-1]
		// Not a Read: an Apply waits for what may still be going on at the node.
		now, err := p.node.Apply(ctx, p.own(Edit{Query: c.edit.Query}))
		if err != nil {
			return err
		}
		back, err := c.reverse(now)
		if err != nil {
			return err
		}
		if len(back.Want) > 0 {
			if err := p.takeBack(ctx, c.nth, back); err != nil {
				return err
			}
			p.emit(Event{Kind: EventPutBack, Node: p.plan.Node, Op: p.plan.Steps[c.nth].Title(), Diff: back.Diff()})
		} else {
			p.journal.Append(ctx, p.entry(EntryUndone, c.nth)) //nolint:errcheck // see takeBack
		}
		if n := c.edit.ended(); n > 0 {
			p.gone = append(p.gone, cannotReturn(p.plan.Steps[c.nth].Title(), n))
			p.emit(Event{Kind: EventPrint, Node: p.plan.Node, Text: p.gone[len(p.gone)-1]})
		}
		p.done = p.done[:len(p.done)-1]
	}
	p.disarm(ctx)
	return nil
}

// reverse is the edit that takes c back where the node holds now. A key that
// somebody has changed since is drift.
func (c doneChange) reverse(now resource.State) (Edit, error) {
	back, left := c.edit.TakeBack(c.found, now)
	if len(left) > 0 {
		return Edit{}, drifted(left)
	}
	return back, nil
}

// TakeBack is the edit that takes e back where the node holds now, of e.Query.
// Only the keys that e changed are put back, and only where nobody has changed
// them since: where they hold what e was to make of them, or what was found after it (nil:
// not known). Those that hold something else are left, from what e made of them to what they hold.
// A session that e has ended cannot be put back, and is neither.
func (e Edit) TakeBack(found, now resource.State) (back Edit, left resource.Diff) {
	want, after := resource.State{}, now.Clone()
	is := func(k resource.Key, s resource.State) bool {
		return len(resource.Compare(resource.State{k: now[k]}, resource.State{k: s[k]})) == 0
	}
	for _, d := range e.changes(now) {
		switch {
		case d.Ends(), is(d.Key, e.Before):
		case is(d.Key, e.After), found != nil && is(d.Key, found):
			want[d.Key] = d.Before
			delete(after, d.Key)
			if d.Before != nil {
				after[d.Key] = d.Before
			}
		default:
			left = append(left, resource.Change{Key: d.Key, Before: d.After, After: now[d.Key]})
		}
	}
	resource.MoveUpRules(after) // those that somebody has added behind
	return Edit{Want: want, Query: e.Query, Before: now, After: after, Settle: e.Settle, Undo: true, Run: e.Run, By: e.By}, left
}

// ended is how many sessions e was to end, which cannot be put back.
func (e Edit) ended() int {
	n := 0
	for _, c := range e.Diff() {
		if c.Ends() {
			n++
		}
	}
	return n
}

// cannotReturn says of the call op, which was to end n sessions, that these are gone.
func cannotReturn(op string, n int) string {
	return fmt.Sprintf("cannot be put back: %s has ended sessions, %d at most", op, n)
}

// changes is what e changed: what it was to, and what a restart lost for good.
func (e Edit) changes(now resource.State) resource.Diff {
	d := e.Diff()
	for _, l := range resource.Compare(e.Before, now) {
		if _, restarted := e.Lost[l.Key]; restarted {
			d = append(d, resource.Change{Key: l.Key, Before: l.Before, After: l.After})
		}
	}
	return d
}

func (p *Pass) takeBack(ctx context.Context, nth int, back Edit) error {
	e := p.entry(EntryUndo, nth)
	e.Edit, e.Diff = &back, back.Diff().String()
	// Where it cannot be recorded, it is done all the same: the change itself is
	// in the journal, and a node that is as it was needs no record to be safe.
	p.journal.Append(ctx, e) //nolint:errcheck // as said
	found, err := p.node.Apply(ctx, p.own(back))
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
	p.journal.Append(ctx, p.entry(EntryUndone, nth)) //nolint:errcheck // as above
	return nil
}
