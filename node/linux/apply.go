//go:build linux

package linux

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"runbook/engine"
	"runbook/engine/resource"
)

// changeTime bounds the messages of one edit. Each takes the kernel well under
// a millisecond, so that only a kernel in trouble reaches it.
const changeTime = 10 * time.Second

// The waits between two reads while a change settles.
const (
	firstWait = time.Millisecond
	lastWait  = 100 * time.Millisecond
)

// Apply implements engine.Node.
func (n *Node) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	found, err := n.ApplyAll(ctx, []engine.Edit{e})
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// ApplyAll implements engine.Sequencer. What is read back after one edit is
// what the next is compared with, so that a sequence costs one read for each
// and one before. Once the first message of an edit is sent, it is completed or
// put back, even if ctx ends; only the reading back stops then.
//
// One sequence at a time may do so, for otherwise two could find the same state
// and both act on it.
func (n *Node) ApplyAll(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	n.applying.Lock()
	defer n.applying.Unlock()
	needs := make([]resource.Query, len(edits))
	for i, e := range edits {
		touched, err := selectors(e.Want)
		if err != nil {
			return nil, err
		}
		needs[i] = slices.Concat(e.Query, touched)
		if e.Restart != "" {
			needs[i] = append(needs[i], onLinkOf(e.Restart)...)
		}
	}
	now, err := n.read(ctx, unique(untilChanged(edits, needs)))
	if err != nil {
		return nil, err
	}
	var out []resource.State
	for i, e := range edits {
		if err := n.change(ctx, e, now); err != nil {
			return out, err
		}
		if e.Restart != "" {
			if err := n.restart(ctx, e.Restart); err != nil {
				return out, err
			}
		} else if len(e.Want) == 0 { // it was compared, and that is all
			out = append(out, now.state.Select(e.Query))
			continue
		}
		var found resource.State
		if now, found, err = n.settle(ctx, e, slices.Concat(needs[i], untilChanged(edits[i+1:], needs[i+1:]))); err != nil {
			return out, err
		}
		out = append(out, found)
		if e.After != nil && !resource.Equal(e.After, found) {
			break
		}
	}
	return out, nil
}

// untilChanged selects what edits need of one reading, which serves them up to
// the first that changes something: what comes after that is read again.
func untilChanged(edits []engine.Edit, needs []resource.Query) resource.Query {
	first := slices.IndexFunc(edits, func(e engine.Edit) bool { return len(e.Want) > 0 || e.Restart != "" })
	if first >= 0 {
		needs = needs[:first+1]
	}
	return slices.Concat(needs...)
}

func unique(q resource.Query) resource.Query {
	seen := map[resource.Selector]bool{}
	return slices.DeleteFunc(q, func(s resource.Selector) bool {
		had := seen[s]
		seen[s] = true
		return had
	})
}

// reading is what a node held when it was read: routes also as they came.
type reading struct {
	query  resource.Query
	routes []route
	left   []route               // of an earlier reading, which may know a lifetime that this one does not
	lives  map[resource.Key]Left // of addresses, too
	state  resource.State
	back   bool // what is made was there before: see detour.go
	exact  bool // what the kernel has made with addresses and links, and was not there before, goes too
}

func (n *Node) read(ctx context.Context, q resource.Query) (reading, error) {
	r := reading{query: q}
	var err error
	if r.routes, err = n.routes(ctx, q, math.MaxInt); err != nil {
		return r, err
	}
	if r.state, err = n.readOthers(ctx, q); err != nil {
		return r, err
	}
	for _, route := range r.routes {
		r.state[route.Key()] = route.Route
	}
	return r, nil
}

// change compares the node with e.Before, and does what e wants.
func (n *Node) change(ctx context.Context, e engine.Edit, now reading) error {
	if found := now.state.Select(e.Query); e.Before != nil && !resource.Equal(e.Before, found) {
		return &engine.DriftError{Found: found}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	back := putsBackAddr(e.Want)
	if back {
		var err error
		if now, err = n.readSources(ctx, now); err != nil {
			return err
		}
	}
	now.back = e.Undo
	made, err := n.make(ctx, e.Want, now)
	if err == nil && spreads(e.Want) {
		var more []step
		more, err = n.keep(ctx, e, now, back)
		made = append(made, more...)
	}
	if err == nil && e.Undo && e.After != nil {
		var more []step
		more, err = n.asItWas(ctx, e, now)
		made = append(made, more...)
	}
	if err == nil {
		return nil
	}
	if failed := n.putBack(ctx, made, now); failed != nil {
		return halfDone(err, failed)
	}
	return err
}

// asItWas goes on from where an edit has come that takes another back: what the
// kernel has made of it besides goes, and what it took along is made again.
func (n *Node) asItWas(ctx context.Context, e engine.Edit, before reading) ([]step, error) {
	now, err := n.read(ctx, before.query)
	if err != nil {
		return nil, err
	}
	want := resource.State{}
	for _, c := range resource.Compare(now.state.Select(e.Query), e.After) {
		if k := c.Key.Kind(); k == resource.KindRoute || k == resource.KindAddr {
			want[c.Key] = c.After
		}
	}
	if len(want) == 0 {
		return nil, nil
	}
	touched, err := selectors(want)
	if err != nil {
		return nil, err
	}
	if now, err = n.read(ctx, unique(append(slices.Clone(before.query), touched...))); err != nil {
		return nil, err
	}
	now.left, now.back, now.exact = before.routes, true, true
	return n.make(ctx, want, now)
}

// make has the kernel do all steps to want. It returns those that it has begun,
// all of them or up to the one that was refused.
func (n *Node) make(ctx context.Context, want resource.State, now reading) (made []step, err error) {
	for again, round := true, 0; again; round++ {
		again = false
		if round > len(want) {
			return made, engine.Internal.Errorf("%d rounds of steps have not made the node as it is wanted", round)
		}
		steps, err := n.steps(now, want)
		if err != nil {
			return made, err
		}
		for _, s := range steps {
			sent, err := n.send(ctx, s.messages, now.back)
			if sent > 0 || err == nil { // otherwise what is there now is somebody else's
				made = append(made, s)
			}
			if err == nil && s.then != nil {
				err = s.then(ctx)
			}
			if err != nil {
				return made, err
			}
			if s.spreads { // what is left to do is what the kernel has not done by itself
				was := now
				if now, err = n.read(ctx, now.query); err != nil {
					return made, err
				}
				now.left, now.lives, now.back, now.exact, again = was.left, was.lives, was.back, was.exact, true
				break
			}
		}
	}
	return made, nil
}

// halfDone is the error of an edit that was refused in its middle and could not be put back.
func halfDone(err, back error) error {
	e := &engine.Error{Code: engine.Unreachable, Cause: "refused by the kernel, and so was putting back what was done before: " + back.Error(), Err: err}
	e.Left = "some resources of this change are changed"
	var refused *engine.NodeError
	if errors.As(err, &refused) {
		e.Kernel = refused.Words
		e.Err = nil // it is not a NodeError: the node is not as it was
	}
	return e
}

// putBack makes what steps have changed as it was before.
func (n *Node) putBack(ctx context.Context, steps []step, before reading) error {
	was := resource.State{}
	spreads := false
	for _, s := range steps {
		spreads = spreads || s.spreads
		for _, k := range s.keys {
			was[k] = before.state[k]
		}
	}
	now, err := n.read(ctx, before.query)
	if err != nil {
		return err
	}
	if spreads { // the kernel has changed more
		for _, c := range resource.Compare(before.state, now.state) {
			was[c.Key] = c.Before
		}
	}
	now.left, now.back = before.routes, true // a lifetime goes on from where it was
	_, err = n.make(ctx, was, now)
	return err
}

// send has the kernel carry out messages, up to the first that it refuses, and
// returns how many it carried out. back says that what they make was there before.
func (n *Node) send(ctx context.Context, messages []message, back bool) (made int, err error) {
	for _, m := range messages {
		payload, err := m.payload(n)
		if err != nil {
			return made, err
		}
		err = n.exchange(ctx, m.kind, m.flags|unix.NLM_F_ACK, payload, 0, nil)
		if m.gone != nil && m.gone(err) { // somebody was faster: it is as wanted
			continue
		}
		if err != nil {
			if !back {
				return made, refusal(err)
			}
			if err = n.sendByDetour(ctx, m, payload, err); err != nil {
				return made, refusal(err)
			}
		}
		made++
	}
	return made, nil
}

// settle reads all until what e selects of it is as predicted or e.Settle has
// passed. It returns what was read last, and what e selects of that.
func (n *Node) settle(ctx context.Context, e engine.Edit, all resource.Query) (reading, resource.State, error) {
	all = unique(all)
	end := time.Now().Add(time.Duration(e.Settle))
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		now, err := n.read(ctx, all)
		if err != nil {
			return now, nil, err
		}
		found := now.state.Select(e.Query)
		left := time.Until(end)
		if e.After == nil || left <= 0 || resource.Equal(e.After, found) {
			return now, found, nil
		}
		timer := time.NewTimer(min(wait, left))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return now, nil, ctx.Err()
		}
	}
}
