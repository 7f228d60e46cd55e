package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"runbook/engine"
)

// This file changes one node, and puts it back where that fails.

// node changes one node and, where that fails, puts it back.
func (a *application) node(ctx context.Context, wave int, p *engine.NodePlan) {
	ctx, cancel := context.WithDeadlineCause(ctx, a.deadline.at(),
		a.limits.Exceeded(engine.LimitDuration, "the run has taken longer than it may"))
	defer cancel()
	info, past := a.info(p.Node), a.Past[p.Node]
	if past.InHand() {
		p = past.Plan
	} else if time.Since(p.Created) > staleAfter {
		now := a.predict(ctx, info, nil) // what it uses was charged the first time, or it has drifted
		if now.Err == nil {
			now.Err = Drifted(p, now)
		}
		if now.Err != nil {
			a.count(now.Err)
			a.end(p.Node, engine.NodeFailed, now.Err)
			return
		}
	}
	a.set(p.Node, engine.NodeApplying, nil)
	defer a.fleet.release(p.Node)
	n, err := a.fleet.node(ctx, a.Dialer, p.Node)
	if err != nil {
		e := nodeError(err, p.Node)
		e.Left = engine.NothingChanged
		a.count(e)
		if past.InHand() { // what it holds is not known: it stays in hand
			e.Left = "it may still hold what was begun"
			a.set(p.Node, engine.NodeInDoubt, e)
			return
		}
		a.end(p.Node, engine.NodeFailed, e)
		return
	}
	pass := engine.NewLive(p, a.limits, n, a.Journal, a.ID, func(e engine.Event) {
		e.Wave = wave
		a.Tell(e)
	}).Under(a.terms(info))
	if past.InHand() {
		err = pass.TakeUp(ctx, past)
		if err == nil && a.overdrawn != nil { // it is not gone on with, but put back
			err = a.overdrawn
		}
	}
	if err == nil {
		err = a.Program.Run(ctx, info, pass)
	}
	if err == nil {
		err = pass.Finish(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ended(ctx, err)
		}
		a.rescue(ctx, p, pass, nodeError(err, p.Node))
		return
	}
	if a.Controls != nil {
		a.mu.Lock()
		a.passes[p.Node] = pass
		a.mu.Unlock()
	}
	a.set(p.Node, engine.NodeDone, nil)
}

// rescue puts a failed node back and says in err what that left behind.
func (a *application) rescue(ctx context.Context, p *engine.NodePlan, pass *engine.Pass, err *engine.Error) {
	if canceled(err) {
		err.Code, err.Cause = engine.Interrupted, "interrupted"
	}
	a.count(err) // first of all: no further node starts while this one is put back
	changed := pass.Changed()
	if a.keeps(err) && changed > 0 && pass.GuardedUntil().IsZero() {
		err.Left = "changes that it keeps, as on_failure says: " + strings.Join(pass.Standing(), ", ")
		a.end(p.Node, engine.NodeFailed, err)
		return
	}
	within := putBackWithin + time.Duration(changed)*putBackEach
	until := pass.GuardedUntil()
	if !until.IsZero() {
		within += time.Until(until)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	n, back := a.fleet.node(ctx, a.Dialer, p.Node) // another connection, where this one is lost
	for back != nil && time.Now().Before(until) {  // a node that is cut off comes back by itself
		time.Sleep(confirmEvery)
		n, back = a.fleet.node(ctx, a.Dialer, p.Node)
	}
	if back == nil {
		pass.Reconnect(n)
		back = pass.PutBack(ctx)
	}
	state := engine.NodeFailed
	switch {
	case pass.Changed() > 0:
		state = engine.NodeInDoubt
		err.Left = mayHold(pass, back)
	case changed > 0:
		err.Left = putBack(changed, pass.Gone())
	default:
		err.Left = engine.NothingChanged
	}
	switch {
	case engine.IsInDoubt(err) && pass.Changed() == 0:
		state = engine.NodeInDoubt
		a.end(p.Node, state, err)
	case pass.Changed() > 0: // whoever takes the run up again puts it back
		a.set(p.Node, state, err)
	default:
		a.end(p.Node, state, err)
	}
}

// putBack says what became of so many changes, of which those that gone is about have ended what is gone.
func putBack(changes int, gone []string) string {
	if changes == len(gone) {
		return strings.Join(gone, "; ")
	}
	return strings.Join(append([]string{fmt.Sprintf("changes put back: %d", changes-len(gone))}, gone...), "; ")
}

// mayHold says what is left on a node that could not be put back, because of err.
func mayHold(pass *engine.Pass, err error) string {
	return fmt.Sprintf("changes that it may still hold: %s, because they could not be put back: %s", strings.Join(pass.Standing(), ", "), engine.AsError(err).Cause)
}

// keeps reports whether a node that failed with err is left with what was changed on it.
func (a *application) keeps(err *engine.Error) bool {
	switch err.Code {
	case engine.Differs, engine.Interrupted, engine.Internal:
		return false
	}
	return a.Program.Header().Rollout.OnFailure == engine.FailedKeep
}

// end moves a node to its last state, and records that. Where it cannot be
// recorded, a run that is taken up again looks at the node once more.
func (a *application) end(node string, s engine.NodeState, err *engine.Error) {
	e := engine.Entry{Run: a.ID, Node: node, Kind: engine.EntryEnd, Text: string(s)}
	if err != nil && err.Code == engine.Interrupted {
		e.Text = string(engine.NodeUntried) // it was put back, and may be tried again
	}
	if err != nil {
		e.Data, _ = json.Marshal(err) // its fields are texts, numbers and a diff
	}
	a.Journal.Append(context.Background(), e) //nolint:errcheck // as said
	a.set(node, s, err)
}

// set moves a node to a state and tells of it.
func (a *application) set(node string, s engine.NodeState, err *engine.Error) {
	a.mu.Lock()
	a.states[node] = s
	a.mu.Unlock()
	a.Tell(engine.Event{Kind: engine.EventNode, Node: node, State: s, Err: err})
}

// Drifted is the error of a node that is no longer as it was when was was made, or nil.
func Drifted(was, now *engine.NodePlan) *engine.Error {
	e := &engine.Error{
		Code: engine.Differs, Node: now.Node, Left: engine.NothingChanged,
		Cause: "the node has drifted since it was planned", Hint: "make a new plan",
	}
	if engine.IsTarget(now.Node) {
		e.Cause = "the server has drifted since it was planned"
	}
	if was.Err != nil {
		e.Cause = "the node could not be predicted when the plan was made"
		return e
	}
	d, same := was.Drift(now)
	if same {
		return nil
	}
	if len(was.Changes()) > 0 && len(now.Steps) > 0 && len(now.Changes()) == 0 {
		e.Hint = "nothing of the plan is left to be done here: has it been applied? runbook runs lists what has been"
	}
	e.Drift = d
	return e
}
