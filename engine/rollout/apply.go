package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"runbook/engine"
)

// Question is put before a node is changed.
type Question struct {
	Plan  *engine.NodePlan
	Wave  int // from 1
	Waves int
	Nth   int // of the nodes of this wave that need an answer, from 1
	Of    int
	Alike int // of those that are left of it, this one included, to which the same would be done
}

// Answer is what the operator decided.
type Answer int

// The answers.
const (
	Yes  Answer = iota
	Skip        // leave this node as it is
	All         // this node and those of the rest of its wave that are alike: see [Question]
	Quit        // no further node
)

func (a Answer) String() string {
	return [...]string{"yes", "skip", "all alike in this wave", "stop"}[a]
}

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

// waves changes the nodes of one wave after another; ends is after how many nodes each is over.
func (a *application) waves(ctx context.Context, ends []int, left map[string]*engine.NodePlan) {
	start := 0
	for i, end := range ends {
		var wave []*engine.NodePlan
		for _, n := range a.Nodes[start:end] {
			if p := left[n.Name]; p != nil {
				wave = append(wave, p)
			}
		}
		start = end
		first, rest := a.canary(ends[0], wave)
		if !a.through(ctx, i, len(ends), first) || len(rest) > 0 && !a.through(ctx, i, len(ends), rest) {
			break
		}
	}
	if a.watched {
		a.after(ctx, len(ends))
	}
}

// canary parts the first wave in which there is something to do, where that is a later one: there was nothing
// to do on the nodes of those before it, or they could not be reached. As many nodes go first as the first wave was
// to try: or nothing at all would be known when most of the fleet is changed.
func (a *application) canary(size int, wave []*engine.NodePlan) (first, rest []*engine.NodePlan) {
	if a.tried || !pending(wave) || a.charged() > 0 {
		return wave, nil
	}
	a.tried = true
	for i, p := range wave {
		if size == 0 {
			return wave[:i], wave[i:]
		}
		if pending([]*engine.NodePlan{p}) {
			size--
		}
	}
	return wave, nil
}

// through waits and looks as it must before a wave, of which i are through, changes its nodes, and looks again. It
// reports whether the run goes on.
func (a *application) through(ctx context.Context, i, waves int, wave []*engine.NodePlan) bool {
	if i > 0 && !a.bake(ctx, i, waves, wave) {
		return false
	}
	if first := !a.watched && (pending(wave) || pending(a.targets)); first {
		if !a.before(ctx, i, waves) || !a.gate(ctx, engine.HookGate, i, waves) {
			return false
		}
		a.watched = true
	}
	a.wave(ctx, i+1, waves, wave)
	return !pending(wave) || a.gate(ctx, engine.HookGate, i+1, waves)
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

// bake waits between two waves, where the wave to come has something to do, and
// looks at the gate meanwhile. wave is how many are through. It reports whether the run goes on.
func (a *application) bake(ctx context.Context, wave, waves int, next []*engine.NodePlan) bool {
	if !a.goesOn(ctx) {
		return false
	}
	r := a.Program.Header().Rollout
	if r.Bake == 0 || !pending(next) {
		return true
	}
	a.Tell(engine.Event{Kind: engine.EventBake, Text: r.Bake.String(), For: r.Bake})
	every := time.Duration(r.GateEvery)
	if every == 0 {
		every = engine.DefaultGateEvery
	}
	for end := time.Now().Add(time.Duration(r.Bake)); ; {
		select {
		case <-ctx.Done():
		case <-a.Stop:
		case <-time.After(min(every, time.Until(end))):
		}
		if !a.gate(ctx, engine.HookGate, wave, waves) {
			return false
		}
		if !time.Now().Before(end) {
			return true
		}
	}
}

func pending(plans []*engine.NodePlan) bool {
	for _, p := range plans {
		if p.Err == nil && len(p.Changes()) > 0 {
			return true
		}
	}
	return false
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

// wave changes the nodes of one wave.
func (a *application) wave(ctx context.Context, nth, of int, plans []*engine.NodePlan) {
	var todo []*engine.NodePlan
	for _, p := range plans {
		switch {
		case p.Err != nil:
		case len(p.Changes()) == 0:
			for _, line := range p.Prints {
				a.Tell(engine.Event{Kind: engine.EventPrint, Node: p.Node, Text: line})
			}
			a.set(p.Node, engine.NodeSame, nil)
		default:
			todo = append(todo, p)
		}
	}
	if len(todo) == 0 {
		return
	}
	a.Tell(engine.Event{Kind: engine.EventWave, Wave: nth, Nodes: len(todo), Text: fmt.Sprintf("wave %d of %d: %s", nth, of, list(todo))})
	todo = a.unasked(ctx, nth, todo)
	of1 := len(todo)
	for len(todo) > 0 {
		if !a.goesOn(ctx) {
			return
		}
		p := todo[0]
		alike, others := a.alike(todo)
		answer, err := a.ask(ctx, Question{Plan: p, Wave: nth, Waves: of, Nth: of1 - len(todo) + 1, Of: of1, Alike: len(alike)})
		todo = todo[1:]
		switch {
		case err != nil:
			a.quit(err)
			return
		case answer == Quit:
			a.quit(&engine.Error{Code: engine.Interrupted, Cause: "stopped by the operator"})
			return
		case answer == All:
			a.parallel(ctx, nth, alike)
			todo = others
		case answer == Skip:
			a.end(p.Node, engine.NodeSkipped, nil)
		default:
			a.paced(ctx, nth, p)
		}
	}
}

// alike is the first node of todo and those to which the same would be done, and the others:
// who has seen one diff has not confirmed another.
func (a *application) alike(todo []*engine.NodePlan) (alike, others []*engine.NodePlan) {
	for _, p := range todo {
		if a.does[p] == "" {
			a.does[p] = p.Does()
		}
		if a.does[p] == a.does[todo[0]] {
			alike = append(alike, p)
		} else {
			others = append(others, p)
		}
	}
	return alike, others
}

// unasked changes the nodes that nobody is asked about, and returns the others.
func (a *application) unasked(ctx context.Context, wave int, todo []*engine.NodePlan) (asked []*engine.NodePlan) {
	var free []*engine.NodePlan
	for _, p := range todo {
		if a.Confirm != nil && (a.Asks == nil || a.Asks(a.info(p.Node))) {
			asked = append(asked, p)
		} else {
			free = append(free, p)
		}
	}
	a.parallel(ctx, wave, free)
	return asked
}

// list is the first of some nodes, and how many more there are.
func list(plans []*engine.NodePlan) string {
	var names []string
	for _, p := range plans[:min(len(plans), 3)] {
		names = append(names, p.Node)
	}
	s := strings.Join(names, ", ")
	if n := len(plans) - len(names); n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// untilStopped is ctx, but for what changes nothing: it ends when the run is stopped.
func (a *application) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-a.Stop:
			cancel(&engine.Error{Code: engine.Interrupted, Cause: "interrupted"})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// ask puts q, and takes the question back when the run is stopped.
func (a *application) ask(ctx context.Context, q Question) (Answer, error) {
	ctx, cancel := a.untilStopped(ctx)
	defer cancel()
	a.Tell(engine.Event{Kind: engine.EventQuestion, Wave: q.Wave, Node: q.Plan.Node, Nodes: q.Alike, Text: fmt.Sprintf("node %d of %d", q.Nth, q.Of)})
	asked := time.Now()
	defer func() { a.deadline.extend(time.Since(asked)) }()
	answer, err := a.Confirm(ctx, q)
	if err == nil {
		a.Tell(engine.Event{Kind: engine.EventAnswer, Wave: q.Wave, Node: q.Plan.Node, Text: answer.String()})
	}
	return answer, err
}

func (a *application) parallel(ctx context.Context, wave int, todo []*engine.NodePlan) {
	each(len(todo), a.atOnce(), func(i int) {
		a.paced(ctx, wave, todo[i])
	})
}

// atOnce is how many nodes may be changed at a time.
func (r *Run) atOnce() int {
	if n := r.Program.Header().Rollout.Parallel; n > 0 {
		return min(parallel, n)
	}
	return parallel
}

// paced changes a node when the limits on how fast things go let it, unless the
// run has ended by then.
func (a *application) paced(ctx context.Context, wave int, p *engine.NodePlan) {
	if !a.goesOn(ctx) {
		return
	}
	within, cancel := context.WithDeadline(ctx, a.deadline.at())
	defer cancel()
	done, ok := a.pace.start(within, a.Stop, p, func(wait time.Duration) {
		a.Tell(engine.Event{Kind: engine.EventPace, Node: p.Node, Text: wait.Round(time.Second).String(), For: engine.Duration(wait)})
	})
	defer done()
	if a.goesOn(ctx) && ok {
		a.node(ctx, wave, p)
	}
}

func (a *application) quit(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	a.blame(engine.AsError(err))
}

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
		err.Left = fmt.Sprintf("changes put back: %d", changed)
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

// set moves a node to a state and tells of it.
func (a *application) set(node string, s engine.NodeState, err *engine.Error) {
	a.mu.Lock()
	a.states[node] = s
	a.mu.Unlock()
	a.Tell(engine.Event{Kind: engine.EventNode, Node: node, State: s, Err: err})
}

func (a *application) info(name string) engine.NodeInfo {
	if at, known := a.places()[name]; known {
		return *at.info
	}
	return engine.NodeInfo{Name: name}
}

// Drifted is the error of a node that is no longer as it was when was was made, or nil.
func Drifted(was, now *engine.NodePlan) *engine.Error {
	e := &engine.Error{
		Code: engine.Differs, Node: now.Node, Left: engine.NothingChanged,
		Cause: "the node has drifted since it was planned", Hint: "make a new plan",
	}
	if was.Err != nil {
		e.Cause = "the node could not be predicted when the plan was made"
		return e
	}
	d, same := was.Drift(now)
	if same {
		return nil
	}
	e.Drift = d
	return e
}
