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
	Op      string          `json:"op"`
	Args    json.RawMessage `json:"args"`
	Value   json.RawMessage `json:"value,omitempty"`
	Refused *NodeError      `json:"refused,omitempty"` // in place of a value
}

// Past is what is known of one node of a run that is taken up again.
type Past struct {
	Plan  *NodePlan // what was confirmed; nil: nothing is known of that
	State NodeState // at its end; "": it has not come to that
	looks []Look
	steps map[int]string // what became last of each change that was begun: the kind of an entry
	why   string         // it failed
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
			p.Plan = &NodePlan{}
			err = json.Unmarshal(e.Data, p.Plan)
		case EntryLook:
			var l Look
			err = json.Unmarshal(e.Data, &l)
			p.looks = append(p.looks, l)
		case EntryEnd:
			if p.State = NodeState(e.Text); p.State == NodeUntried { // it was put back when it was interrupted
				delete(out, e.Node)
			}
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

// Charged is how many changes the node was charged with.
func (p *Past) Charged() int {
	if p.InHand() {
		return len(p.Plan.Changes())
	}
	return len(p.steps)
}

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

// TakeUp makes a live pass go on from where past ends. It finds out what became of
// changes of which only the intent is known. The error ends the pass: what was done is then to be put back.
func (p *Pass) TakeUp(ctx context.Context, past *Past) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.past, p.recorded, p.passed = past, true, map[int]bool{}
	var doubtful []queued
	for _, nth := range slices.Sorted(maps.Keys(past.steps)) {
		if nth < 0 || nth >= len(p.plan.Steps) {
			return p.fail(PlannedChange{}, Internal.Errorf("the record has a change %d, which the plan has not", nth))
		}
		switch q := (queued{change: p.plan.Steps[nth], nth: nth}); past.steps[nth] {
		case EntryUndone:
		case EntryDone:
			p.stands(q)
		default:
			doubtful = append(doubtful, q)
		}
	}
	err := error(nil)
	if failing := past.failing(); failing != nil {
		err = failing
	} else if len(doubtful) > 0 {
		var made int
		made, err = p.decide(ctx, doubtful)
		if err == nil {
			err = p.recordDecision(ctx, doubtful, made)
		}
		if err == nil {
			for _, q := range doubtful[:made] {
				p.stands(q)
			}
			return nil
		}
	}
	if err == nil {
		return nil
	}
	for _, q := range doubtful { // any of them may have been made
		p.made(q, nil)
	}
	at := PlannedChange{}
	if len(doubtful) > 0 {
		at = doubtful[0].change
	}
	return p.fail(at, err)
}

// stands keeps a change that was made before this pass.
func (p *Pass) stands(q queued) {
	p.made(q, q.change.Edit.After)
	p.passed[q.nth] = true
	p.through = q.nth + 1
}

// recordDecision writes what was found out about changes of which the first made were made.
func (p *Pass) recordDecision(ctx context.Context, doubtful []queued, made int) error {
	var out []Entry
	for i, q := range doubtful {
		e := p.entry(EntryUndone, q.nth)
		e.Text = "it had not been made when the run was taken up again"
		if i < made {
			e.Kind, e.Text = EntryDone, "it had been made when the run was taken up again"
		}
		out = append(out, e)
	}
	return p.journal.Append(ctx, out...)
}

// decide finds out how many of changes were made, which are in the order of the plan
// and of which no outcome is known. An ensure is decided by what the node holds, an event by what the node remembers.
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
		if q.change.Edit.Restart == "" || !ok || m.ID != p.changeID(q.nth) {
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
		if !missing && len(resource.Compare(after(changes, made), now)) == 0 {
			return made, nil
		}
	}
	return 0, drifted(resource.Compare(after(changes, 0), now))
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

// after is what the footprint of changes holds when the first made of them are made.
func after(changes []queued, made int) resource.State {
	out := resource.State{}
	for _, q := range changes {
		for k, r := range q.change.Edit.Before {
			if _, known := out[k]; !known {
				out[k] = r
			}
		}
	}
	for _, q := range changes[:made] {
		for _, c := range q.change.Edit.Diff() {
			out[c.Key] = c.After
		}
	}
	return out
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
