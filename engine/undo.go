package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"runbook/engine/resource"
)

// This file takes a run's changes back: an undo is a program without a script,
// which asks each node for one operation for each change that the run made there,
// newest first. So it is predicted, shown, confirmed, guarded and recorded as every run is.

// The names of the one operation of an undo, and of one of an undo: it does
// again what that took back. No runbook has them.
const (
	PutBackName = "put back"
	DoAgainName = "do again"
)

// PutBack takes one change of a run back, where the node still holds what the run left.
type PutBack struct {
	Run   string `json:"run"`
	Nth   int    `json:"nth"`             // of the node's changes in the run
	Op    string `json:"op"`              // what was done, or taken back: "route.add 10.20.0.0/16"
	Again bool   `json:"again,omitempty"` // the run took Op back: this does it again
	Force bool   `json:"force,omitempty"` // also where the node holds something else by now

	edit    Edit
	asItWas bool          // see [Edit]
	left    resource.Diff // what was changed since: from what the run left to what is there
	refused *NodeError    // the kernel would not take it back, as the node is by now
	stays   string        // the newer change, left alone, that rests on this one, which stays for it
}

func (o *PutBack) String() string { return o.Op }

// Name is [PutBackName] or [DoAgainName].
func (o *PutBack) Name() string {
	if o.Again {
		return DoAgainName
	}
	return PutBackName
}

// bound is an operation that is for one machine, and no other that has its name by now.
type bound interface{ bound(machine string) error }

// bound is an error where machine is another than the one that the run changed.
// Where either is not known, nothing tells them apart.
func (o *PutBack) bound(machine string) error {
	was := o.edit.Machine
	if o.Force || was == "" || machine == "" || was == machine {
		return nil
	}
	return &Error{
		Code: Differs, Cause: fmt.Sprintf("this is another machine than the one that run %s changed (machine %s, was %s)", o.Run, machine, was),
		Hint: "is it installed anew, or does its name mean another by now? --force NODE takes back all the same",
	}
}

// machine is what s says of [resource.Facts.Machine], or "".
func machine(s resource.State) string {
	f, _ := s[resource.FactsKey].(resource.Facts)
	return f.Machine
}

// Plan implements [Change]. What somebody has changed since is left alone.
func (o *PutBack) Plan(ctx context.Context, n Reader) (resource.State, error) {
	now, err := n.Read(ctx, o.edit.Query)
	if err != nil {
		return nil, err
	}
	o.left, o.asItWas = nil, false
	if o.stays != "" {
		return nil, nil
	}
	back, left := o.edit.TakeBack(nil, now)
	want, follows := back.Want, o.edit.followers()
	asLeft := resource.Equal(o.edit.After, now) // all that it rests on: it can be just as it was
	if o.asItWas = asLeft && o.edit.leads(); o.asItWas {
		return want, nil
	}
	for k := range follows {
		if r, wanted := want[k]; wanted && r == nil {
			delete(want, k) // it goes with its link or address
		}
	}
	if asLeft {
		return want, nil
	}
	for _, c := range left {
		switch {
		case follows[c.Key]:
		case o.Force:
			want[c.Key] = o.edit.Before[c.Key]
		default:
			o.left = append(o.left, c)
		}
	}
	if slices.ContainsFunc(o.left, func(c resource.Change) bool { return c.Key.Kind() == resource.KindLink }) {
		return nil, nil // the rest of the change is what the link brought or took
	}
	for k, r := range want {
		if follows[k] {
			delete(want, k)
		}
		if a, ok := r.(resource.Addr); ok {
			a.Place = 0 // among others than those that there were
			want[k] = a
		}
	}
	return want, nil
}

// followers are the routes among what e changed that the kernel makes and
// drops by itself, with the links and addresses that e changed.
func (e Edit) followers() map[resource.Key]bool {
	if !e.leads() {
		return nil
	}
	out := map[resource.Key]bool{}
	for _, c := range e.Diff() {
		r, isRoute := c.Before.(resource.Route)
		if c.Before == nil {
			r, isRoute = c.After.(resource.Route)
		}
		if isRoute && r.Proto == resource.ProtoKernel {
			out[c.Key] = true
		}
	}
	return out
}

// leads reports whether e changed links or addresses, with which the kernel changes more.
func (e Edit) leads() bool {
	return slices.ContainsFunc(e.Diff(), func(c resource.Change) bool {
		return c.Key.Kind() == resource.KindLink || c.Key.Kind() == resource.KindAddr
	})
}

// restsOn reports whether e looked at what the older change changed.
func (e Edit) restsOn(older Edit) bool {
	for _, c := range older.Diff() {
		_, before := e.Before[c.Key]
		_, after := e.After[c.Key]
		if before || after {
			return true
		}
	}
	return false
}

// Shape implements [Shaper].
func (o *PutBack) Shape(e *Edit) { e.Undo, e.AsItWas = true, o.asItWas }

// Result implements [Change].
func (o *PutBack) Result(changed bool, _ resource.State) any {
	return map[string]any{"changed": changed, "left": o.left}
}

// alone says, line by line, what was left alone and why, and what cannot be taken back; it is
// nothing where nothing was.
func (o *PutBack) alone() []string {
	if o.stays != "" {
		return []string{"left alone: " + o.Op, "  " + o.stays + " rests on it, and was changed since"}
	}
	if o.refused != nil {
		return []string{"left alone, for the kernel refuses it by now: " + o.Op, "  kernel: " + o.refused.Words}
	}
	var out []string
	if n := o.edit.ended(); n > 0 {
		out = append(out, cannotReturn(o.Op, n))
	}
	for _, c := range o.left {
		out = append(out, "changed since, and left alone: "+o.Op,
			fmt.Sprintf("  the run left %s", words(c.Key, c.Before)), fmt.Sprintf("  and there is %s", words(c.Key, c.After)))
	}
	return out
}

func words(k resource.Key, r resource.Resource) string {
	if r == nil {
		return "no " + string(k.Kind())
	}
	return string(k.Kind()) + " " + r.String()
}

var (
	_ Change = (*PutBack)(nil)
	_ Shaper = (*PutBack)(nil)
)

// Undo is the program that takes a run back.
type Undo struct {
	header Header
	nodes  map[string][]*PutBack // newest first
}

var _ Program = (*Undo)(nil)

// NewUndo returns the program that takes back what the entries of run say that
// it did. The nodes of force are put back even where they have been changed since.
func NewUndo(run RunRecord, entries []Entry, force []string) *Undo {
	u := &Undo{nodes: map[string][]*PutBack{}}
	u.header.Doc = "Take back what run " + run.ID + " did."
	stands := map[string]map[int]Entry{}
	for _, e := range entries {
		switch e.Kind {
		case EntryIntent:
			if stands[e.Node] == nil {
				stands[e.Node] = map[int]Entry{}
			}
			stands[e.Node][e.Nth] = e // until something says otherwise: it may have been made
		case EntryUndone:
			delete(stands[e.Node], e.Nth)
		}
	}
	most, all := 0, 0
	for node, changes := range stands {
		for nth, e := range changes {
			if e.Edit == nil || len(e.Edit.Diff()) == 0 { // a restart leaves nothing to take back
				continue
			}
			o := &PutBack{Run: run.ID, Nth: nth, Op: e.Op, Force: slices.Contains(force, node), edit: *e.Edit}
			if op, was := strings.CutPrefix(o.Op, PutBackName+" "); was {
				o.Op, o.Again = op, true
			}
			o.Op = strings.TrimPrefix(o.Op, DoAgainName+" ")
			u.nodes[node] = append(u.nodes[node], o)
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
	if most > u.header.Limits.N(LimitChangesPerMinute) { // the run was allowed more in a minute, and a node's changes go out together
		u.header.Limits[LimitChangesPerMinute] = Bound{N: int64(most), Source: source}
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
	var kept []*PutBack // what was left alone
	for _, o := range u.nodes[node.Name] {
		o.stays = ""
		for _, newer := range kept {
			if !o.Force && newer.edit.restsOn(o.edit) {
				o.stays = newer.Op
			}
		}
		args, err := json.Marshal(o)
		if err != nil {
			return err
		}
		_, err = h.Do(ctx, Call{Name: o.Name(), Args: args, Op: o})
		if o.refused = nil; err != nil && !errors.As(err, &o.refused) {
			return err
		}
		lines := o.alone()
		if o.stays != "" || o.refused != nil || len(o.left) > 0 {
			kept = append(kept, o)
		}
		for _, l := range lines {
			if err := h.Print("", l); err != nil {
				return err
			}
		}
	}
	return nil
}

// LeftAlone is the error for an undo that left something alone, or nil. It is
// for after the last Run.
func (u *Undo) LeftAlone() *Error {
	changed, refused, last := 0, 0, "" // nodes
	for name, changes := range u.nodes {
		if slices.ContainsFunc(changes, func(o *PutBack) bool { return len(o.left) > 0 }) {
			changed++
			last = name
		}
		if slices.ContainsFunc(changes, func(o *PutBack) bool { return o.refused != nil }) {
			refused++
		}
	}
	if changed+refused == 0 {
		return nil
	}
	e := &Error{Code: Differs}
	var causes []string
	if changed > 0 {
		causes = append(causes, fmt.Sprintf("nodes that were changed since the run: %d; what was changed there was left alone", changed))
		e.Hint = "--force NODE puts it back all the same"
		if IsTarget(last) {
			last = strconv.Quote(last)
		}
		if changed == 1 {
			e.Hint = fmt.Sprintf("--force %s puts it back all the same", last)
		}
	}
	if refused > 0 {
		causes = append(causes, fmt.Sprintf("nodes whose kernel refuses to take something back, as they are by now: %d; that was left alone", refused))
	}
	e.Cause = strings.Join(causes, "; ")
	return e
}
