package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"runbook/engine/resource"
)

// This file is how a run is taken up again that ended before it was through: its
// controller was killed, or told to stop. What the journal says of each node is its [Past].
//
// A node that was in hand is given to the script again, from the beginning, in a live pass
// that is bound to the plan of that time. As far as the record goes, nothing is done: a change
// that stands is passed over, and a probe answers what it answered then, so that the script takes
// the way that it took. From there on the pass is as every live pass.

// Look is what a probe told the script in a live pass.
type Look struct {
	nth     int             // the step of the plan that came next
	Op      string          `json:"op"`
	Args    json.RawMessage `json:"args"`
	Value   json.RawMessage `json:"value,omitempty"`
	Refused *NodeError      `json:"refused,omitempty"` // in place of a value
}

// Past is what is known of one node of a run that is taken up again.
type Past struct {
	Plan  *NodePlan // what was confirmed; nil: nothing is known of that
	bound *NodePlan // what was planned before the run, which is all that it may do; nil: it was predicted by the run itself
	State NodeState // at its end; "": it has not come to that
	looks []Look
	steps map[int]string // what became last of each change that was begun: the kind of an entry
	why   string         // it failed

	charged int // for a node that was in hand and is through since
}

// PastOf is what the entries of a run say of its nodes. Of a node that is not
// there nothing was begun.
func PastOf(entries []Entry) (map[string]*Past, error) {
	out := map[string]*Past{}
	for _, e := range entries {
		if e.Node == "" {
			continue
		}
		p := out[e.Node]
		if p == nil {
			p = &Past{steps: map[int]string{}}
			out[e.Node] = p
		}
		var err error
		switch e.Kind {
		case EntryPlan:
			if len(p.steps) == 0 { // the first of two is that of apply; the other comes with what is begun
				p.bound = p.Plan
			}
			p.Plan = &NodePlan{}
			err = json.Unmarshal(e.Data, p.Plan)
		case EntryLook:
			l := Look{nth: e.Nth}
			err = json.Unmarshal(e.Data, &l)
			p.looks = append(p.looks, l)
		case EntryEnd:
			if p.State = NodeState(e.Text); p.State == NodeUntried { // it was put back when it was interrupted, or nothing was begun
				delete(out, e.Node)
				if plan := p.planned(); plan != nil {
					out[e.Node] = &Past{Plan: plan, steps: map[int]string{}}
				}
			}
		case EntryUndone:
			p.undone(e.Nth)
		case EntryFailed:
			p.why = or(p.why, e.Text)
			p.steps[e.Nth] = e.Kind
		default:
			if p.State == NodeDone && (e.Kind == EntryUndo || e.Kind == EntryUndone) { // the operator wants it to be taken back
				p.State = ""
			}
			p.steps[e.Nth] = e.Kind
		}
		if err != nil {
			return nil, Internal.Errorf("entry %d of run %s is damaged: %w", e.Seq, e.Run, err)
		}
	}
	return out, nil
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// InHand reports whether the node was being changed when the run ended.
func (p *Past) InHand() bool { return p != nil && p.State == "" && len(p.steps) > 0 }

// Ended reports whether the node is through.
func (p *Past) Ended() bool { return p != nil && p.State != "" }

// Planned reports whether nothing was begun of what is known to have been planned.
func (p *Past) Planned() bool { return p != nil && p.State == "" && len(p.steps) == 0 && p.Plan != nil }

// Numbered is the number that the next change of the run on the node has.
func (p *Past) Numbered() int {
	n := 0
	if p != nil {
		for nth := range p.steps {
			n = max(n, nth+1)
		}
	}
	return n
}

// planned is what was planned for the node before the run, or nil.
func (p *Past) planned() *NodePlan {
	if len(p.steps) == 0 {
		return p.Plan
	}
	return p.bound
}

// Charged is how many changes the node was charged with.
func (p *Past) Charged() int {
	if p.InHand() {
		return p.Plan.Count()
	}
	return max(p.charged, len(p.steps))
}

// End says that a node that was in hand is through. It stays charged with its whole
// plan, of which the record from before says only the part that was begun.
func (p *Past) End(s NodeState) { p.charged, p.State = p.Charged(), s }

// failing is the error of a node that was being put back, or nil.
func (p *Past) failing() *Error {
	for _, kind := range p.steps {
		if kind == EntryFailed || kind == EntryUndo || kind == EntryUndone {
			return &Error{Code: Unreachable, Cause: or(p.why, "it was being put back when the run ended")}
		}
	}
	return nil
}

// Left is the plan of what is left to do to a node in hand.
func (p *Past) Left() *NodePlan {
	left := &NodePlan{Node: p.Plan.Node, Created: time.Now().UTC()} // it is as good as new: what is left is compared with the node
	if p.failing() != nil {
		return left
	}
	for nth, s := range p.Plan.Steps {
		if p.steps[nth] != EntryDone {
			left.Steps = append(left.Steps, s)
		}
	}
	return left
}

// doubtTime is how long it may take until a node that was left in the middle of a
// change has settled, beyond what the change itself may take.
const doubtTime = 5 * time.Second

// TakeUp makes a live pass go on from where past ends. It finds out what became of the
// changes that were begun: also those that the record says were made, for the node may have lost them
// since, or was put back when that could not be recorded. The error ends the pass: what was done is then to be put back.
func (p *Pass) TakeUp(ctx context.Context, past *Past) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.past, p.recorded, p.passed = past, true, map[int]bool{}
	p.tellReplaced(ctx)
	var begun []queued
	for _, nth := range slices.Sorted(maps.Keys(past.steps)) {
		if nth < 0 || nth >= len(p.plan.Steps) {
			return p.fail(PlannedChange{}, Internal.Errorf("the record has a change %d, which the plan has not", nth))
		}
		if past.steps[nth] != EntryUndone {
			begun = append(begun, queued{change: p.plan.Steps[nth], nth: nth})
		}
	}
	made, err := 0, error(nil)
	if failing := past.failing(); failing != nil {
		err = failing
	} else if len(begun) > 0 {
		if made, err = p.decide(ctx, begun); err == nil {
			err = p.recordDecision(ctx, begun, made)
		}
	}
	if err == nil {
		for i, q := range begun {
			if i < made {
				p.stands(q)
			} else {
				past.undone(q.nth)
			}
		}
		return nil
	}
	at := PlannedChange{}
	for _, q := range begun {
		switch {
		case past.did(q):
			p.stands(q)
			continue
		case at.Op == "":
			at = q.change
		}
		p.made(q, nil) // it may have been
	}
	return p.fail(at, err)
}

// tellReplaced tells of an agent of this run that is still on the node: the first edit ends it.
func (p *Pass) tellReplaced(ctx context.Context) {
	s, err := p.node.Read(ctx, resource.Query{{Kind: resource.KindMemory}})
	if err != nil {
		return // what comes next says so
	}
	for _, m := range resource.All[resource.Memory](s) {
		if !m.Held || m.Run != p.run {
			continue
		}
		text := fmt.Sprintf("process %d, there for %s", m.PID, m.Age.Round(time.Second))
		if m.Stopped {
			text += ", which is stopped"
		}
		p.emit(Event{Kind: EventReplacing, Node: p.plan.Node, Text: text})
	}
}

// did reports whether the record says that a change was made.
func (p *Past) did(q queued) bool { return p != nil && p.steps[q.nth] == EntryDone }

// undone keeps of a change that the node does not have it. What the script saw after it, it will see anew.
func (p *Past) undone(nth int) {
	p.steps[nth] = EntryUndone
	p.looks = slices.DeleteFunc(p.looks, func(l Look) bool { return l.nth > nth })
}

// stands keeps a change that was made before this pass.
func (p *Pass) stands(q queued) {
	p.made(q, q.change.Edit.After)
	p.passed[q.nth] = true
	p.through = q.nth + 1
}

// recordDecision writes what was found out about changes of which the node has the first made.
func (p *Pass) recordDecision(ctx context.Context, changes []queued, made int) error {
	var out []Entry
	for i, q := range changes {
		e := p.entry(EntryUndone, q.nth)
		switch did := p.past.did(q); {
		case did && i < made:
			continue
		case did:
			e.Text = "the node did not hold it any more when the run was taken up again"
		case i < made:
			e.Kind, e.Text = EntryDone, "it had been made when the run was taken up again"
		default:
			e.Text = "it had not been made when the run was taken up again"
		}
		out = append(out, e)
	}
	return p.journal.Append(ctx, out...)
}

// decide finds out how many of changes the node has, which were begun and are in the order of the
// plan. An ensure is decided by what the node holds, an event by what the record says, or the node remembers.
func (p *Pass) decide(ctx context.Context, changes []queued) (made int, err error) {
	all, wait := footprint(changes), doubtTime
	for _, q := range changes {
		wait = max(wait, doubtTime+time.Duration(q.change.Edit.Settle))
		if g := q.change.Edit.Guard; g != nil { // which nobody will confirm: it is waited for
			wait = max(wait, doubtTime+time.Duration(g.Within))
		}
	}
	for deadline := time.Now().Add(wait); ; {
		now, err := p.node.Apply(ctx, p.own(Edit{Query: all})) // which waits for what may still be going on, and ends the agent of that time
		if err != nil {
			return 0, err
		}
		memory, err := p.node.Read(ctx, resource.Query{{Kind: resource.KindMemory}})
		if err != nil {
			return 0, err
		}
		made, err := p.outcomeOf(changes, now, memory)
		if err == nil || time.Now().After(deadline) {
			return made, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// outcomeOf is how many of changes a node has made that holds now, and remembers memory.
func (p *Pass) outcomeOf(changes []queued, now, memory resource.State) (made int, err error) {
	for _, m := range resource.All[resource.Memory](memory) {
		if m.Pending && m.Run == p.run {
			return 0, RefusePending(m, "")
		}
	}
	begun := make([]bool, len(changes)) // of the events
	for i, q := range changes {
		m, ok := resource.Get[resource.Memory](memory, resource.MemoryKey(q.change.Edit.Disrupts))
		if begun[i] = q.change.Edit.Restart != "" && p.past.did(q); begun[i] || q.change.Edit.Restart == "" || !ok || m.ID != p.changeID(q.nth) {
			continue
		}
		if begun[i] = true; !m.Ended {
			return 0, &Error{
				Code: Unreachable, Cause: fmt.Sprintf("%s of %s was begun and not seen to its end, and is never done twice: %s", m.Verb, m.Of, or(m.Outcome, "nothing more is known")),
				Err: errInDoubt,
			}
		}
	}
	for made = len(changes); made >= 0; made-- {
		if slices.Contains(begun[made:], true) {
			break // the events after it were begun
		}
		missing := slices.ContainsFunc(changes[:made], func(q queued) bool {
			return q.change.Edit.Restart != "" && !begun[slices.IndexFunc(changes, func(o queued) bool { return o.nth == q.nth })]
		})
		if !missing && len(p.past.differs(changes, made, now)) == 0 {
			return made, nil
		}
	}
	return 0, drifted(p.past.differs(changes, 0, now))
}

// errInDoubt is in the error of a node of which it is not known whether an event has happened.
var errInDoubt = errors.New("in doubt")

// IsInDoubt reports whether err is that of an event of which it is not known whether it has happened.
func IsInDoubt(err error) bool { return errors.Is(err, errInDoubt) }

// footprint is that of all changes together.
func footprint(changes []queued) (all resource.Query) {
	for _, q := range changes {
		all = append(all, q.change.Edit.Query...)
	}
	return all
}

// differs is what is not as it would be where the first made of changes were made. What a change
// looked at counts, but only what it changed where the record says that it was made: the rest may have moved on since.
func (p *Past) differs(changes []queued, made int, now resource.State) resource.Diff {
	want, looked := resource.State{}, resource.Query{}
	for _, q := range changes {
		before := q.change.Edit.Before
		if p.did(q) {
			before = q.change.Edit.Diff().Before()
		} else {
			looked = append(looked, q.change.Edit.Query...)
		}
		for k, r := range before {
			if _, known := want[k]; !known {
				want[k] = r
			}
		}
	}
	for _, q := range changes[:made] {
		maps.Copy(want, q.change.Edit.Diff().After())
	}
	found := now.Select(looked)
	for k := range want {
		if r, holds := now[k]; holds {
			found[k] = r
		}
	}
	return resource.Compare(want, found)
}

// changeID names a change to the node, which does each once.
func (p *Pass) changeID(nth int) string { return fmt.Sprintf("%s/%d", p.run, p.terms.Base+nth) }

// replays reports whether the script is still on the way that it went before.
func (p *Pass) replays() bool { return p.past != nil && p.next < p.through }

// recall is what the probe c answered before, or false where it is to look now.
func (p *Pass) recall(c PlannedChange) (value any, ok bool, err error) {
	if p.past == nil || p.recalled == len(p.past.looks) {
		return nil, false, nil
	}
	l := p.past.looks[p.recalled]
	p.recalled++
	if l.Op != c.Op || string(l.Args) != string(c.Args) {
		return nil, true, &Error{
			Code: Differs, Cause: fmt.Sprintf("the script took another way than before: it asked for %s %s here", l.Op, l.Args),
			Hint: "has a variable of the node changed in the inventory?",
		}
	}
	if l.Refused != nil {
		return nil, true, l.Refused
	}
	return l.Value, true, nil
}

// noteLook keeps what a probe answered, to be recorded with the next change: it is
// only for the sake of one that a run is to take the same way again.
func (p *Pass) noteLook(c PlannedChange, value any, failed error) {
	l := Look{Op: c.Op, Args: c.Args}
	if failed != nil && !errors.As(failed, &l.Refused) {
		return // it ends the pass
	}
	var err1, err2 error
	if failed == nil {
		l.Value, err1 = json.Marshal(value)
	}
	e := p.entry(EntryLook, p.next)
	if e.Data, err2 = json.Marshal(l); err1 == nil && err2 == nil { // or the script is told so anyway
		e.Op, e.Pos = c.Title(), c.Pos
		p.looks = append(p.looks, e)
	}
}
