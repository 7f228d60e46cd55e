package rollout

import (
	"context"
	"sync"
	"time"

	"runbook/engine"
)

// This file is how an operator steers a run while it goes on, beside the answers to its
// questions: nothing new is begun for a while, or a node that was changed is taken back.

// Controls steer a run. They may be used at any time, by several goroutines at once; before
// a run, and after it, they do nothing.
type Controls struct {
	mu     sync.Mutex
	paused bool
	moved  chan struct{} // closed when paused changes
	undo   chan string   // nil: no run takes any
}

// Pause lets no further node start, nor hook look, until it is called with false. Nodes in hand are finished.
func (c *Controls) Pause(paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused != paused && c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
	c.paused = paused
}

// Undo takes back what this run has changed on a node that is done. It reports false
// where no run is going on that could; whether that could be done, events say.
func (c *Controls) Undo(node string) bool {
	c.mu.Lock()
	to := c.undo
	c.mu.Unlock()
	if to == nil {
		return false
	}
	select {
	case to <- node:
		return true
	default: // an impatient operator has asked for more than fleets have nodes
		return false
	}
}

// hold returns nil, or what is closed when the operator lets the run go on.
func (c *Controls) hold() <-chan struct{} {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.paused {
		return nil
	}
	if c.moved == nil {
		c.moved = make(chan struct{})
	}
	return c.moved
}

// undos is what the operator wants to be taken back, from now on until the run ends (nil).
func (c *Controls) undos(nodes int, on bool) chan string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.undo = nil; on {
		c.undo = make(chan string, nodes)
	}
	return c.undo
}

// whilePaused waits until the operator lets the run go on, or it is stopped. That
// is his time, and no part of the run's.
func (a *application) whilePaused(ctx context.Context) {
	began := time.Now()
	for on := a.Controls.hold(); on != nil; on = a.Controls.hold() {
		a.mu.Lock()
		if a.pausing++; a.pausing == 1 {
			a.Tell(engine.Event{Kind: engine.EventPaused})
		}
		a.mu.Unlock()
		stopped := false
		select {
		case <-on:
		case <-a.Stop:
			stopped = true
		case <-ctx.Done():
			stopped = true
		}
		a.mu.Lock()
		if a.pausing--; a.pausing == 0 {
			a.deadline.extend(time.Since(began))
			a.Tell(engine.Event{Kind: engine.EventUnpaused})
		}
		a.mu.Unlock()
		if stopped {
			return
		}
	}
}

// takingBack takes back what the operator wants to be taken back, one node after another, until the
// function that it returns is called: that waits for the one in hand.
func (a *application) takingBack(ctx context.Context) (end func()) {
	if a.Controls == nil {
		return func() {}
	}
	undos, over, ended := a.Controls.undos(2*len(a.plans)+1, true), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				for {
					select {
					case node := <-undos: // said before the run was over
						a.takeBack(ctx, node)
					default:
						return
					}
				}
			case node := <-undos:
				a.takeBack(ctx, node)
			}
		}
	}()
	return func() {
		a.Controls.undos(0, false)
		close(over)
		<-ended
	}
}

// takeBack takes back what was changed on a node that is done, and on no other.
func (a *application) takeBack(ctx context.Context, node string) {
	a.mu.Lock()
	pass := a.passes[node]
	delete(a.passes, node)
	if pass != nil {
		a.states[node] = engine.NodeUndoing
	}
	a.mu.Unlock()
	if pass == nil {
		return
	}
	a.Tell(engine.Event{Kind: engine.EventNode, Node: node, State: engine.NodeUndoing})
	defer a.fleet.release(node)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackWithin+time.Duration(pass.Changed())*putBackEach)
	defer cancel()
	n, err := a.fleet.node(ctx, a.Dialer, node)
	if err == nil {
		pass.Reconnect(n)
		err = pass.PutBack(ctx)
	}
	if err == nil {
		a.end(node, engine.NodeUndone, nil)
		return
	}
	e := nodeError(err, node)
	e.Left = mayHold(pass, err)
	a.count(e)
	a.set(node, engine.NodeInDoubt, e) // its end is not recorded: whoever takes the run up again puts it back
}
