package rollout

import (
	"context"
	"time"

	"runbook/engine"
)

// This file holds a run to the limits that do not refuse but slow down: so many
// changes a minute, so many nodes disrupted at a time. Both were checked while
// predicting for what could never be.

// window is the time over which changes are counted.
const window = time.Minute

// pace is what has been begun lately, and what is being disrupted now.
type pace struct {
	perWindow  int
	tally      *engine.Tally // told of the most that there was
	begun      []begun       // in the last window, oldest first; guarded by turn
	turn       chan struct{} // held by the one who waits, so that nodes start in the order in which they came
	disrupting chan struct{} // one for each node that may be disrupted at the same time
}

type begun struct {
	at      time.Time
	changes int
}

func newPace(l engine.Limits, t *engine.Tally) *pace {
	return &pace{
		perWindow: l.N(engine.LimitChangesPerMinute), tally: t, turn: make(chan struct{}, 1),
		disrupting: make(chan struct{}, l.N(engine.LimitDisruptive)),
	}
}

// start waits until p may be done, and returns what is to be called when it is.
// It tells how long it will wait for the minute to have room, and reports false where the run was stopped meanwhile.
func (c *pace) start(ctx context.Context, stop <-chan struct{}, p *engine.NodePlan, tell func(time.Duration)) (done func(), ok bool) {
	done = func() {}
	if disrupts(p) {
		select {
		case c.disrupting <- struct{}{}:
			done = func() { <-c.disrupting }
			c.tally.Note(engine.LimitDisruptive, int64(len(c.disrupting)))
		case <-stop:
			return done, false
		case <-ctx.Done():
			return done, false
		}
	}
	select {
	case c.turn <- struct{}{}:
	case <-stop:
		return done, false
	case <-ctx.Done():
		return done, false
	}
	defer func() { <-c.turn }()
	changes := p.Count()
	for {
		wait := c.wait(changes, time.Now())
		select { // which may have come while there was a turn to be had
		case <-stop:
			return done, false
		case <-ctx.Done():
			return done, false
		default:
		}
		if wait <= 0 {
			c.begun = append(c.begun, begun{time.Now(), changes})
			c.tally.Note(engine.LimitChangesPerMinute, int64(c.lately()))
			return done, true
		}
		tell(wait)
		select {
		case <-time.After(wait):
		case <-stop:
			return done, false
		case <-ctx.Done():
			return done, false
		}
	}
}

// wait is how long it takes until so many changes may begin.
func (c *pace) wait(changes int, now time.Time) time.Duration {
	for len(c.begun) > 0 && now.Sub(c.begun[0].at) >= window {
		c.begun = c.begun[1:]
	}
	room := c.perWindow - changes - c.lately()
	for _, b := range c.begun { // until enough of the oldest have left the window
		if room >= 0 {
			break
		}
		if room += b.changes; room >= 0 {
			return b.at.Add(window).Sub(now)
		}
	}
	return 0
}

// lately is how many changes were begun in the last window.
func (c *pace) lately() int {
	n := 0
	for _, b := range c.begun {
		n += b.changes
	}
	return n
}

func disrupts(p *engine.NodePlan) bool {
	for _, s := range p.Steps {
		if s.Edit.Disrupts != "" && s.Edit.Happens() {
			return true
		}
	}
	return false
}
