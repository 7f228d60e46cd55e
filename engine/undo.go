package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"runbook/engine/resource"
)

// This file takes a run's changes back: an undo is a program without a script,
// which asks each node for one operation for each change that the run made there,
// newest first. So it is predicted, shown, confirmed, guarded and recorded as every run is.

// PutBackName is the name of the one operation of an undo. No runbook has it.
const PutBackName = "put back"

// PutBack takes one change of a run back, where the node still holds what the run left.
type PutBack struct {
	Run   string `json:"run"`
	Nth   int    `json:"nth"`             // of the node's changes in the run
	Op    string `json:"op"`              // what was done: "route.add 10.20.0.0/16"
	Force bool   `json:"force,omitempty"` // also where the node holds something else by now

	edit   Edit
	repeat bool
	left   resource.Diff // what was changed since: from what the run left to what is there
}

func (o *PutBack) String() string { return o.Op }

// Plan implements [Change]. What somebody has changed since is left alone.
func (o *PutBack) Plan(ctx context.Context, n Reader) (resource.State, error) {
	now, err := n.Read(ctx, o.edit.Query)
	if err != nil {
		return nil, err
	}
	var back Edit
	back, o.left = o.edit.TakeBack(nil, now)
	if o.Force {
		was := o.edit.Diff().Before()
		for _, c := range o.left {
			back.Want[c.Key] = was[c.Key]
		}
		o.left = nil
	}
	return back.Want, nil
}

// Shape implements [Shaper].
func (o *PutBack) Shape(e *Edit) { e.Undo, e.Repeat = true, o.repeat }

// Result implements [Change].
func (o *PutBack) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed, "left": o.left}
}

var (
	_ Change = (*PutBack)(nil)
	_ Shaper = (*PutBack)(nil)
)

// Undo is the program that takes a run back.
type Undo struct {
	header Header
	nodes  map[string][]*PutBack // newest first

	mu   sync.Mutex
	left map[string]bool // nodes on which something was left alone
}

var _ Program = (*Undo)(nil)

// NewUndo returns the program that takes back what the entries of run say that
// it did. The nodes of force are put back even where they have been changed since.
func NewUndo(run RunRecord, entries []Entry, force []string, repeat bool) *Undo {
	u := &Undo{nodes: map[string][]*PutBack{}, left: map[string]bool{}}
	u.header.Doc = "Take back what run " + run.ID + " did."
	stands := map[string]map[int]Entry{}
	for _, e := range entries {
		switch e.Kind {
		case "intent":
			if stands[e.Node] == nil {
				stands[e.Node] = map[int]Entry{}
			}
			stands[e.Node][e.Nth] = e // until something says otherwise: it may have been made
		case "undone":
			delete(stands[e.Node], e.Nth)
		}
	}
	most, all := 0, 0
	for node, changes := range stands {
		for nth, e := range changes {
			if e.Edit == nil || len(e.Edit.Diff()) == 0 { // a restart leaves nothing to take back
				continue
			}
			u.nodes[node] = append(u.nodes[node], &PutBack{
				Run: run.ID, Nth: nth, Op: e.Op, Force: slices.Contains(force, node), edit: *e.Edit, repeat: repeat,
			})
		}
		slices.SortFunc(u.nodes[node], func(a, b *PutBack) int { return b.Nth - a.Nth })
		most, all = max(most, len(u.nodes[node])), all+len(u.nodes[node])
		if len(u.nodes[node]) == 0 {
			delete(u.nodes, node)
		}
	}
	source := "run " + run.ID
	u.header.Limits = Limits{ // it may do what the run did, and no more
		LimitNodes: {N: int64(len(u.nodes)), Source: source}, LimitChanges: {N: int64(all), Source: source},
		LimitChangesPerNode: {N: int64(most), Source: source}, LimitCallsPerNode: {N: int64(max(1, most)), Source: source},
		LimitRepeats: {N: int64(max(1, most)), Source: source},
	}
	u.header.Rollout = Rollout{Waves: []string{"1", "100%"}, MaxFailures: len(u.nodes)} // one that cannot be put back keeps no other from it
	return u
}

// Nodes are the names of those that have something to be taken back.
func (u *Undo) Nodes() []string {
	var out []string
	for n := range u.nodes {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// Header implements [Program].
func (u *Undo) Header() Header { return u.header }

// Usage implements [Program].
func (u *Undo) Usage() Usage { return Usage{} }

// Close implements [Program].
func (u *Undo) Close() error { return nil }

// Run implements [Program].
func (u *Undo) Run(ctx context.Context, node NodeInfo, h Host) error {
	for _, o := range u.nodes[node.Name] {
		args, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if _, err := h.Do(ctx, Call{Name: PutBackName, Args: args, Op: o}); err != nil {
			return err
		}
		for _, c := range o.left {
			u.mu.Lock()
			u.left[node.Name] = true
			u.mu.Unlock()
			if err := h.Print("", fmt.Sprintf("left alone, changed since: %s", change(c))); err != nil {
				return err
			}
		}
	}
	return nil
}

func change(c resource.Change) string {
	show := func(r resource.Resource) string {
		if r == nil {
			return "nothing"
		}
		return r.String()
	}
	return fmt.Sprintf("%s: the run left %s, and there is %s", c.Key.Kind(), show(c.Before), show(c.After))
}

// LeftAlone is the error for an undo that left something alone, or nil.
func (u *Undo) LeftAlone() *Error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.left) == 0 {
		return nil
	}
	return &Error{
		Code: Differs, Cause: fmt.Sprintf("nodes that were changed since the run: %d; what was changed there was left alone", len(u.left)),
		Hint: "--force NODE puts it back all the same",
	}
}
