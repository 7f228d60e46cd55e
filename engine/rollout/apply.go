package rollout

import (
	"context"
	"sync"
	"time"

	"runbook/engine"
)

// application is the state of one [Run.Apply].
type application struct {
	*Run
	plans  []*engine.NodePlan
	limits engine.Limits
	pace   *pace

	mu        sync.Mutex
	states    map[string]engine.NodeState
	failures  int
	code      engine.Code
	first     *engine.Error               // that decided code
	stopped   bool                        // no further node starts
	overdrawn *engine.Error               // see [Run.overdrawn]
	tried     bool                        // a wave had something to do
	watched   bool                        // what must pass before the first change has passed
	does      map[*engine.NodePlan]string // see [engine.NodePlan.Does]; of those that somebody is asked about
	pausing   int                         // how many wait because the run is paused
	passes    map[string]*engine.Pass     // of nodes that are done, where somebody could want them to be taken back
}

func (r *Run) application(plans []*engine.NodePlan) *application {
	a := &application{Run: r, plans: plans, limits: r.Limits(), pace: newPace(r.Limits(), r.tally), states: map[string]engine.NodeState{}, passes: map[string]*engine.Pass{}, does: map[*engine.NodePlan]string{}}
	for _, p := range plans {
		if !engine.IsTarget(p.Node) || len(p.Changes()) > 0 { // others are only looked at
			a.states[p.Node] = engine.NodeUntried
		}
	}
	return a
}

// Apply does what plans hold to the nodes, wave by wave, and returns how that
// ended: the exit code, the error that decided it, and where each node stands.
// Nodes that could not be predicted count as failures and are not touched.
func (r *Run) Apply(ctx context.Context, plans []*engine.NodePlan) (map[string]engine.NodeState, *engine.Error) {
	h := r.Program.Header()
	a := r.application(plans)
	if a.deadline.at().IsZero() { // the plans are not from Predict
		a.deadline.set(time.Now().Add(a.limits.Duration()))
	}
	if n := r.failedBefore(); n > 0 {
		a.failures = n
		a.blame(engine.Unreachable.Errorf("nodes that failed before the run was taken up again: %d", n))
	}
	for name, past := range r.Past {
		if past.Ended() {
			a.states[name] = past.State
		}
	}
	left := map[string]*engine.NodePlan{}
	for _, p := range plans {
		left[p.Node] = p
		if p.Err != nil { // within the failure budget: see Refusal
			a.failures++
			a.blame(p.Err)
			a.set(p.Node, engine.NodeFailed, p.Err)
		}
	}
	ends, err := Waves(h.Rollout.Waves, len(r.Nodes))
	if err != nil {
		return a.states, engine.Invalid.Errorf("%w", err)
	}
	defer a.heed()()
	through := a.takingBack(ctx)
	a.waves(ctx, ends, left)
	through()
	return a.states, a.outcome()
}

// heed tells of a stop as soon as it comes, where nodes are in hand: finishing
// them takes its time, and who sees nothing happen would stop it again, which
// puts them back. The function that it returns ends that.
func (a *application) heed() func() {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-over:
			return
		case <-a.Stop:
		}
		if busy := a.applying(); len(busy) > 0 {
			a.Tell(engine.Event{Kind: engine.EventStopping, Text: list(busy)})
		}
	}()
	return func() { close(over); <-ended }
}

// applying is the nodes that are being changed.
func (a *application) applying() (busy []*engine.NodePlan) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.plans {
		if a.states[p.Node] == engine.NodeApplying {
			busy = append(busy, p)
		}
	}
	return busy
}

// outcome is the error that the run ends with. Nodes that were left untried
// because of the failures make it the budget's.
func (a *application) outcome() *engine.Error {
	if a.first == nil {
		return nil
	}
	untried := 0
	for _, s := range a.states {
		if s == engine.NodeUntried {
			untried++
		}
	}
	e := *hinted(a.first, a.overBudget(a.failures))
	if untried > 0 && engine.Worst(a.code, engine.GateFailed) == engine.GateFailed {
		e.Code = engine.GateFailed
	}
	return &e
}

// goesOn reports whether a further node may start, once nobody pauses the run.
func (a *application) goesOn(ctx context.Context) bool {
	a.whilePaused(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told(ctx) {
		a.interrupted()
	}
	if !a.stopped && a.Permit != nil {
		if err := a.Permit(); err != nil {
			a.stopped = true
			a.blame(err)
		}
	}
	if !a.stopped && time.Now().After(a.deadline.at()) {
		a.stopped = true
		a.blame(a.limits.Exceeded(engine.LimitDuration, "the run has taken longer than it may"))
	}
	return !a.stopped
}

func (a *application) interrupted() {
	if !a.stopped {
		a.stopped = true
		a.blame(&engine.Error{Code: engine.Interrupted, Cause: "interrupted"})
	}
}

// blame keeps the worst error. The caller holds mu.
func (a *application) blame(e *engine.Error) {
	if a.first == nil || engine.Worst(a.code, e.Code) != a.code {
		a.code, a.first = e.Code, e
	}
}

func (a *application) quit(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	a.blame(engine.AsError(err))
}

// count counts a failure. Past the allowed number no further node starts; nor
// does one where a node answered otherwise than predicted, for what the dry run
// says of the others cannot be trusted either, or where the program has ended.
func (a *application) count(err *engine.Error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures++
	a.tally.Note(engine.LimitFailures, int64(a.failures))
	a.blame(err)
	mortal, _ := a.Program.(interface{ Ended() bool })
	if a.failures > a.Allowed() || err.Code == engine.Differs || mortal != nil && mortal.Ended() {
		a.stopped = true
	}
}

func (a *application) info(name string) engine.NodeInfo {
	if at, known := a.places()[name]; known {
		return *at.info
	}
	return engine.NodeInfo{Name: name}
}
