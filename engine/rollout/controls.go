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
	moved  chan struct{}          // closed when paused changes
	undo   func(node string) bool // nil: no run takes any
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

// Undo takes back what this run has changed on a node that is done. It reports false where
// the node is not, or no run is going on. How that ends, events say.
func (c *Controls) Undo(node string) bool {
	c.mu.Lock()
	undo := c.undo
	c.mu.Unlock()
	return undo != nil && undo(node)
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

// undoes sets what is called for [Controls.Undo].
func (c *Controls) undoes(f func(node string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undo = f
}

// whilePaused waits until the operator lets the run go on, or it is stopped. That
// is his time, and no part of the run's.
func (a *application) whilePaused(ctx context.Context) {
	for on := a.Controls.hold(); on != nil && !a.told(ctx); on = a.Controls.hold() {
		began := time.Now()
		a.mu.Lock()
		if a.pausing++; a.pausing == 1 {
			a.Tell(engine.Event{Kind: engine.EventPaused})
		}
		a.mu.Unlock()
		select {
		case <-on:
		case <-a.Stop:
		case <-ctx.Done():
		}
		a.mu.Lock()
		if a.pausing--; a.pausing == 0 {
			a.deadline.extend(time.Since(began))
			a.Tell(engine.Event{Kind: engine.EventUnpaused})
		}
		a.mu.Unlock()
	}
}

// undoing is a node that the operator wants to be taken back.
type undoing struct {
	node string
	pass *engine.Pass // that changed it
}

// takingBack takes back what the operator wants to be taken back, one node after another, until the
// function that it returns is called: that waits for those that were asked for before.
func (a *application) takingBack(ctx context.Context) (end func()) {
	if a.Controls == nil {
		return func() {}
	}
	undos, ended := make(chan undoing, len(a.plans)), make(chan struct{}) // a node is taken back once
	var asking sync.RWMutex
	over := false
	a.Controls.undoes(func(node string) bool {
		asking.RLock()
		defer asking.RUnlock()
		if over {
			return false
		}
		a.mu.Lock()
		u := undoing{node, a.passes[node]}
		delete(a.passes, node)
		a.mu.Unlock()
		if u.pass != nil {
			undos <- u
		}
		return u.pass != nil
	})
	go func() {
		defer close(ended)
		for u := range undos {
			a.takeBack(ctx, u)
		}
	}()
	return func() {
		a.Controls.undoes(nil)
		asking.Lock() // who is in the middle of it is heard
		over = true
		asking.Unlock()
		close(undos)
		<-ended
	}
}

func (a *application) takeBack(ctx context.Context, u undoing) {
	a.set(u.node, engine.NodeUndoing, nil)
	defer a.fleet.release(u.node)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackWithin+time.Duration(u.pass.Changed())*putBackEach)
	defer cancel()
	n, err := a.fleet.node(ctx, a.Dialer, u.node)
	if err == nil {
		u.pass.Reconnect(n)
		err = u.pass.PutBack(ctx)
	}
	if err == nil {
		a.end(u.node, engine.NodeUndone, nil)
		return
	}
	e := nodeError(err, u.node)
	e.Left = mayHold(u.pass, err)
	a.count(e)
	a.set(u.node, engine.NodeInDoubt, e) // its end is not recorded: whoever takes the run up again puts it back
}
