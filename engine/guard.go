package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"runbook/engine/resource"
)

// This file is the controller's part in changes that may cut a node off. The
// node is given a token with such a change, and puts itself back unless it gets the token
// again, over a connection that was made after the change.

// graceAfter is how much longer than the node waits the controller goes on
// trying to reach it: by then it has put itself back.
const graceAfter = 15 * time.Second

// guard completes g with a token of its own.
func (p *Pass) guard(g Guard) *Guard {
	g.Token = rand.Text()
	p.guarded = append(p.guarded, g.Token)
	p.until = time.Now().Add(time.Duration(g.Within))
	return &g
}

// GuardedUntil is when a node that was given changes to guard puts itself back
// at the latest, and when it is worth no more to try to reach it. It is zero where the pass waits for nothing.
func (p *Pass) GuardedUntil() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.guarded) == 0 {
		return time.Time{}
	}
	return p.until.Add(graceAfter)
}

// lookAgain is for changes whose answer was lost with the connection, as it must be
// where the node's own address moves. Where the node guards them, it is looked at over
// another connection: what it holds then is the answer.
func (p *Pass) lookAgain(ctx context.Context, changes []queued, found []resource.State, failed error) ([]resource.State, error) {
	if len(p.guarded) == 0 || !lost(p.node, failed) {
		return found, failed
	}
	n, err := p.terms.Confirm(ctx, "", p.until)
	if err != nil {
		return found, failed
	}
	p.node = n
	now, err := n.Apply(ctx, Edit{Query: footprint(changes)}) // which waits for what may still be going on
	if err != nil || len(p.past.differs(changes, len(changes), now)) > 0 || !p.remembers(ctx, n, changes) {
		return found, failed
	}
	found = nil
	for _, q := range changes {
		found = append(found, q.change.Edit.After)
	}
	return found, nil
}

// remembers reports whether n remembers to have ended those of changes that
// leave no other trace: restarts.
func (p *Pass) remembers(ctx context.Context, n Node, changes []queued) bool {
	s, err := n.Read(ctx, resource.Query{{Kind: resource.KindMemory}})
	for _, q := range changes {
		e := q.change.Edit
		m, ok := resource.Get[resource.Memory](s, resource.MemoryKey(e.Disrupts))
		if e.Restart != "" && (err != nil || !ok || m.Run != p.run || !m.Ended) {
			return false
		}
	}
	return true
}

// lost reports whether err is that of a connection that has ended.
func lost(n Node, err error) bool {
	l, can := n.(Line)
	return err != nil && can && l.Lost()
}

// confirm has the node keep what it guards, over a new connection.
func (p *Pass) confirm(ctx context.Context) error {
	for len(p.guarded) > 0 {
		n, err := p.terms.Confirm(ctx, p.guarded[0], p.until)
		if err != nil {
			e := *AsError(err)
			e.Cause = fmt.Sprintf("the node could not be reached over a new connection after the change, and puts itself back: %s", e.Cause)
			return &e
		}
		p.node = n
		p.guarded = p.guarded[1:]
		p.emit(Event{Kind: EventConfirmed, Node: p.plan.Node})
	}
	return nil
}

// firstGuarded is the first of changes that the node guards: those before it stand.
func (p *Pass) firstGuarded(changes []queued) int {
	return max(0, slices.IndexFunc(changes, func(q queued) bool { return q.change.Edit.Guard != nil }))
}

// disarm has the node forget what it guards, for it was put back already. Where
// that fails, the guardian finds nothing to put back.
func (p *Pass) disarm(ctx context.Context) {
	n, can := p.node.(Confirmer)
	for _, token := range p.guarded {
		if can {
			n.Confirm(ctx, token) //nolint:errcheck // as said
		}
	}
	p.guarded = nil
}
