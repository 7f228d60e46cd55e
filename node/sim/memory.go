package sim

import (
	"context"
	"slices"
	"sync"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// Remembering is a node in memory that refuses to be disrupted again and again, as
// a real one does: see [engine.RefuseRepeat]. What it remembers ends with the process. It has no
// guardian: nothing that is done to it cuts it off.
type Remembering struct {
	*Node

	mu   sync.Mutex
	done []remembered
}

type remembered struct {
	resource.Memory
	at time.Time
}

// Read implements [engine.Reader].
func (n *Remembering) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	s, err := n.Node.Read(ctx, q)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.done { // the last of each resource is left
		m.Age = time.Since(m.at)
		if m.Age < engine.DefaultRepeatWindow && q.Match(m.Memory) {
			s[m.Key()] = m.Memory
		}
	}
	return s, nil
}

// Apply implements [engine.Node].
func (n *Remembering) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range slices.Backward(n.done) {
		m.Age = time.Since(m.at)
		if err := engine.RefuseRepeat(m.Memory, e); err != nil {
			return nil, err
		}
	}
	s, err := n.Node.Apply(ctx, e)
	if err == nil && e.Disrupts != "" {
		n.done = append(n.done, remembered{
			resource.Memory{ID: e.ID, Of: e.Disrupts, Verb: e.Verb, Run: e.Run, By: e.By, Ended: true, Undo: e.Undo}, time.Now(),
		})
	}
	return s, err
}
