package nodetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// takeBack takes what was done back, newest first, in one of the two ways in which runbook does:
// that of a run that failed, or that of an undo, which is predicted as a whole before. The node must each time be as it was.
func (s *sequences) takeBack(t *testing.T, rt *rapid.T, n engine.Node, done []doneEdit) {
	done = slices.DeleteFunc(done, func(m doneEdit) bool { return len(m.edit.Diff()) == 0 }) // a restart leaves nothing to take back
	var backs []engine.Edit
	if rapid.Bool().Draw(rt, "taken back by an undo") {
		backs = predictUndo(t, rt, n, done)
	}
	for i, m := range slices.Backward(done) {
		var back engine.Edit
		if backs != nil {
			back = backs[len(done)-1-i]
		} else {
			var left resource.Diff
			if back, left = m.edit.TakeBack(nil, read(t, n, m.edit.Query)); len(left) > 0 {
				rt.Fatalf("not to be taken back\n%s\nit holds:\n%s", m.edit.Diff(), left)
			}
		}
		found, err := n.Apply(t.Context(), back)
		if err != nil {
			rt.Fatalf("take back\n%s: %v", m.edit.Diff(), err)
		}
		if d := resource.Compare(back.After, found); len(d) > 0 {
			rt.Fatalf("take back\n%s\nfrom the prediction to what was found:\n%s", m.edit.Diff(), d)
		}
		sameNode(t, rt, back.Want, "from before to after taking back", m.before, await(t, n, m.before))
		s.Undone++
	}
}

// predictUndo returns the edits of an undo of all that was done, newest first.
func predictUndo(t *testing.T, rt *rapid.T, n engine.Node, done []doneEdit) []engine.Edit {
	var entries []engine.Entry
	for i, m := range done {
		entries = append(entries, engine.Entry{Node: "node", Kind: "intent", Nth: i, Op: fmt.Sprint("operation ", i), Edit: &m.edit})
	}
	u := engine.NewUndo(engine.RunRecord{ID: "random"}, entries, nil)
	h := &undoing{model: sim.Over(n)}
	err := u.Run(t.Context(), engine.NodeInfo{Name: "node"}, h)
	if err == nil && u.LeftAlone() != nil {
		err = u.LeftAlone()
	}
	if err != nil || len(h.edits) != len(done) {
		last := ""
		if i := len(done) - 1 - len(h.edits); i >= 0 {
			last = done[i].edit.Diff().String()
		}
		rt.Fatalf("the undo of %d operations, of which %d were predicted: %v\n%s\n%s", len(done), len(h.edits), err, h.said, last)
	}
	return h.edits
}

// undoing is the host of an undo that is predicted.
type undoing struct {
	model *sim.Node
	edits []engine.Edit
	said  string
}

// Do implements [engine.Host].
func (h *undoing) Do(ctx context.Context, c engine.Call) (any, error) {
	r := &reads{Reader: h.model}
	op := c.Op.(engine.Change)
	want, err := op.Plan(ctx, r)
	if err != nil {
		return nil, err
	}
	e := engine.Edit{Want: want, Query: r.query, Settle: engine.Duration(engine.DefaultSettle)}
	op.(engine.Shaper).Shape(&e)
	if err := h.model.Predict(ctx, &e); err != nil {
		return nil, err
	}
	h.edits = append(h.edits, e)
	return nil, nil
}

// Print implements [engine.Host].
func (h *undoing) Print(_, line string) error {
	h.said += line + "\n"
	return nil
}

// Sleep implements [engine.Host].
func (h *undoing) Sleep(context.Context, time.Duration) error { return nil }

// reads keeps what was read.
type reads struct {
	engine.Reader
	query resource.Query
}

func (r *reads) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	r.query = append(r.query, q...)
	return r.Reader.Read(ctx, q)
}
