//go:build linux

package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// putBackWithin bounds the whole of a put-back.
const putBackWithin = 2 * time.Minute

// driftTries is how often a change is looked at anew because somebody was faster.
const driftTries = 5

// putBack takes back what stands of r, newest first, and ends it. Unlike a
// controller it does not stop at what it must leave: the node is to be reached again, and what
// is older may be the way to it. The caller holds the lock.
func (n *Node) putBack(ctx context.Context, r *record, why string) error {
	ctx, cancel := context.WithTimeout(ctx, putBackWithin)
	defer cancel()
	o := &outcome{Began: n.folder.now(), Why: why}
	if err := n.finish(ctx, r); err != nil {
		o.Failed = append(o.Failed, err.Error())
	}
	for _, c := range slices.Backward(r.Changes) {
		if c.Capture != nil {
			n.bringUp(ctx, c, o)
		}
		n.takeBack(ctx, c, o)
	}
	o.At = n.folder.now()
	for _, c := range r.Changes {
		n.folder.amend(c.Edit, func(all []entry, i int) []entry {
			all[i].Outcome = o.String()
			all[i].Ended = all[i].Ended && c.Edit.Restart != "" // which cannot be taken back
			return all
		})
	}
	return n.conclude(r, o)
}

// takeBack takes c back where the node holds what it left, and says in o what
// came of that.
func (n *Node) takeBack(ctx context.Context, c change, o *outcome) {
	now, err := n.kernel.Apply(ctx, engine.Edit{Query: c.Edit.Query})
	for range driftTries {
		if err != nil {
			break
		}
		back, left := c.Edit.TakeBack(c.Found, now)
		if len(back.Want) == 0 {
			o.Left += left.String()
			return
		}
		back.Settle = min(back.Settle, engine.Duration(finishWithin))
		var found resource.State
		found, err = n.kernel.Apply(ctx, back)
		var drift *engine.DriftError
		if errors.As(err, &drift) {
			now, err = drift.Found, nil
			continue
		}
		o.Left += left.String()
		if err != nil {
			n.piecemeal(ctx, back.Want, o)
			return
		}
		o.PutBack++
		if d := resource.Compare(back.After, found); len(d) > 0 {
			o.Failed = append(o.Failed, "the node answered otherwise than expected: "+d.String())
		}
		return
	}
	if err == nil {
		err = errors.New("it changes all the time")
	}
	o.Failed = append(o.Failed, fmt.Sprintf("%s: %v", c.Edit.Diff(), err))
}

// bringUp makes what it can of what the restart c has lost, where that cannot be finished as a whole.
func (n *Node) bringUp(ctx context.Context, c change, o *outcome) {
	now, err := n.kernel.Apply(ctx, engine.Edit{Query: c.Edit.Query})
	if err != nil {
		o.Failed = append(o.Failed, err.Error())
		return
	}
	want := resource.State{}
	for _, d := range resource.Compare(c.Edit.Before, now) {
		if _, lost := c.Edit.Lost[d.Key]; lost || d.Key == resource.LinkKey(c.Edit.Restart) {
			want[d.Key] = d.Before
		}
	}
	n.piecemeal(ctx, want, o)
}

// piecemeal makes what it can of want, where not all of it can be made: a link
// that is up without one of its routes is better than one that is down. What
// rests on something else is tried again after it.
func (n *Node) piecemeal(ctx context.Context, want resource.State, o *outcome) {
	left := want.Clone()
	refused := map[resource.Key]error{}
	for before := len(left) + 1; len(left) < before; {
		before = len(left)
		for _, k := range left.Keys() {
			_, refused[k] = n.kernel.Apply(ctx, engine.Edit{Want: resource.State{k: left[k]}})
			if refused[k] == nil {
				delete(left, k)
			}
		}
	}
	if len(left) < len(want) {
		o.PutBack++
	}
	for _, k := range left.Keys() {
		o.Failed = append(o.Failed, fmt.Sprintf("%s: %v", k, refused[k]))
	}
}
