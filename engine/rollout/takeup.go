package rollout

import (
	"context"
	"fmt"
	"time"

	"runbook/engine"
)

// This file is what is different about a run that is taken up again: see engine/past.go.

// TakeUp goes on with the nodes that were in hand when the run ended, before all
// else and without a question: they were confirmed, and are not left half done. Where more nodes have
// failed than may, they are put back. Then each is through, and Past says so. The error is the worst that happened.
func (r *Run) TakeUp(ctx context.Context) *engine.Error {
	begun := r.inHand()
	if len(begun) == 0 {
		return nil
	}
	r.tally = engine.NewTally(r.charged())
	r.deadline.set(time.Now().Add(r.Limits().Duration()))
	a := r.application(begun)
	a.overdrawn = r.overdrawn()
	defer a.heed()()
	a.Tell(engine.Event{Kind: engine.EventWave, Nodes: len(begun), Text: "in hand when the run ended: " + list(begun)})
	each(len(begun), parallel, func(i int) { // whatever becomes of the others
		done, ok := a.pace.start(ctx, a.Stop, begun[i], func(time.Duration) {})
		defer done()
		if ok {
			a.node(ctx, 0, begun[i])
		}
	})
	for _, p := range begun {
		if s := a.states[p.Node]; s != engine.NodeUntried && s != engine.NodeApplying { // else it was stopped before
			r.Past[p.Node].End(s)
		}
	}
	if len(r.inHand()) > 0 && a.first == nil {
		a.interrupted()
	}
	return a.outcome()
}

// told reports whether the operator has stopped the run.
func (a *application) told(ctx context.Context) bool {
	select {
	case <-a.Stop:
	case <-ctx.Done():
	default:
		return false
	}
	return true
}

// inHand are the nodes that were in hand when the run ended.
func (r *Run) inHand() (out []*engine.NodePlan) {
	for _, n := range r.Nodes {
		if past := r.Past[n.Name]; past.InHand() {
			out = append(out, past.Left())
		}
	}
	return out
}

// Idle reports whether no node was in hand when the run ended.
func (r *Run) Idle() bool { return len(r.inHand()) == 0 }

// overdrawn is the error of a run in which more nodes have failed than may, or nil.
func (r *Run) overdrawn() *engine.Error {
	failed := r.failedBefore()
	if failed <= r.Allowed() {
		return nil
	}
	return &engine.Error{
		Code: engine.GateFailed, Cause: fmt.Sprintf("nodes that failed in this run: %d, and %d may", failed, r.Allowed()),
		Hint: "it cannot go on; a new run predicts every node anew",
	}
}

// Before is where the nodes stood when the run was taken up again.
func (r *Run) Before() map[string]engine.NodeState {
	out := map[string]engine.NodeState{}
	for _, n := range r.Nodes {
		switch past := r.Past[n.Name]; {
		case past.Ended():
			out[n.Name] = past.State
		case past.InHand():
			out[n.Name] = engine.NodeInDoubt
		default:
			out[n.Name] = engine.NodeUntried
		}
	}
	return out
}

// charged is how many changes were charged to the run before it was taken up again.
func (r *Run) charged() int {
	n := 0
	for _, p := range r.Past {
		n += p.Charged()
	}
	return n
}

// failedBefore is how many nodes of the run have failed already.
func (r *Run) failedBefore() int {
	n := 0
	for _, p := range r.Past {
		if p.State == engine.NodeFailed || p.State == engine.NodeInDoubt {
			n++
		}
	}
	return n
}
