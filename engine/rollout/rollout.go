// Package rollout takes a runbook to a fleet: it predicts every node, and then
// changes them wave by wave.
//
// Nothing starts before every selected node has been predicted ([Run.Predict]).
// A runbook that hits a limit on one node, or a prediction that fails on more
// nodes than the rollout allows, is refused with nothing changed anywhere
// ([Refusal]). Then [Run.Apply] goes through the waves: inside a wave nodes are
// changed in parallel, unless somebody confirms them one by one. A node that
// fails is put back and counted; past max_failures no further node starts.
package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"runbook/engine"
)

// Run is one run of a runbook on a fleet.
type Run struct {
	Program engine.Program
	Nodes   []engine.NodeInfo // in the order of the rollout
	Dialer  engine.Dialer
	Model   func(engine.Reader) engine.Model
	Emit    func(engine.Event)
	Journal engine.Journal
	ID      string // of the journal's record

	// Confirm asks before a node is changed; nil asks nothing.
	Confirm func(ctx context.Context, q Question) (Answer, error)
	// Stop, once closed, lets no further node start; those in hand are finished.
	Stop <-chan struct{}

	fleet fleet
}

// parallel is how many nodes are connected to and predicted at a time. It
// bounds memory and open files on the controller, and what a bastion's
// MaxStartups has to bear.
const parallel = 100

// staleAfter is the age at which a prediction is made anew before its wave.
const staleAfter = 15 * time.Minute

// putBackWithin bounds how long a failed node is given to be put back.
const putBackWithin = 30 * time.Second

// Predict connects to every node and predicts it in full. What a node could
// not be predicted for is in its NodePlan; the error is for what concerns the
// run as a whole.
func (r *Run) Predict(ctx context.Context) ([]*engine.NodePlan, error) {
	limits := r.Program.Header().Limits
	if n := len(r.Nodes); n > limits.Nodes {
		return nil, limits.Exceeded("nodes", limits.Nodes, fmt.Sprintf("%d nodes are selected", n))
	}
	plans := make([]*engine.NodePlan, len(r.Nodes))
	each(len(r.Nodes), parallel, func(i int) { plans[i] = r.predict(ctx, r.Nodes[i]) })
	return plans, ctx.Err()
}

func (r *Run) predict(ctx context.Context, info engine.NodeInfo) *engine.NodePlan {
	plan := &engine.NodePlan{Node: info.Name, Created: time.Now().UTC()}
	n, err := r.fleet.node(ctx, r.Dialer, info.Name)
	if err == nil {
		pass := engine.NewPrediction(plan, r.Program.Header().Limits, r.Model(n), r.emit)
		err = r.Program.Run(ctx, info, pass)
	}
	if err != nil {
		plan.Err = nodeError(err, info.Name)
		plan.Err.Left = engine.NothingChanged
	}
	return plan
}

// nodeError is a copy of err as an engine.Error that names its node.
func nodeError(err error, node string) *engine.Error {
	e := *engine.AsError(err)
	if e.Node == "" {
		e.Node = node
	}
	return &e
}

// Refusal says why a run that was predicted as plans must not start, or nil.
// Limits, scripts that are wrong and interrupts refuse it on any node; other
// failures where there are more than the rollout allows.
func Refusal(plans []*engine.NodePlan, allowed int) *engine.Error {
	var worst *engine.Error
	failed := 0
	for _, p := range plans {
		if p.Err == nil {
			continue
		}
		failed++
		if worst == nil || engine.Worst(worst.Code, p.Err.Code) != worst.Code {
			worst = p.Err
		}
	}
	if worst == nil {
		return nil
	}
	switch worst.Code {
	case engine.Unreachable, engine.Differs:
		if failed <= allowed {
			return nil
		}
	}
	return worst
}

// Close ends the connections to the nodes.
func (r *Run) Close() { r.fleet.close() }

func (r *Run) emit(e engine.Event) {
	e.Version, e.Time, e.Run = engine.EventVersion, time.Now().UTC(), r.ID
	r.Emit(e)
}

// fleet keeps one connection to each node for the length of a run.
type fleet struct {
	mu    sync.Mutex
	nodes map[string]engine.Node
}

func (f *fleet) node(ctx context.Context, d engine.Dialer, name string) (engine.Node, error) {
	f.mu.Lock()
	n := f.nodes[name]
	f.mu.Unlock()
	if n != nil {
		return n, nil
	}
	n, err := d.Dial(ctx, name)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.nodes == nil {
		f.nodes = map[string]engine.Node{}
	}
	f.nodes[name] = n
	return n, nil
}

func (f *fleet) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	var nodes []engine.Node
	for _, n := range f.nodes {
		nodes = append(nodes, n)
	}
	each(len(nodes), parallel, func(i int) { nodes[i].Close() })
	f.nodes = nil
}

// each calls f(0) … f(n-1), at most limit at a time, and waits for all.
func each(n, limit int, f func(int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, limit)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}

// canceled reports whether err says that somebody stopped the run.
func canceled(err error) bool { return errors.Is(err, context.Canceled) }
