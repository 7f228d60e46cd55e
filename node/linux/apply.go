//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
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

// Apply implements engine.Node. Once the first message is sent, the edit is
// completed or put back, even if ctx ends; only the reading back stops then.
func (n *Node) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	if err := n.change(ctx, e); err != nil {
		return nil, err
	}
	return n.settle(ctx, e)
}

// change compares and does what e wants. One edit at a time may do so, for
// otherwise two could find the same state and both act on it.
func (n *Node) change(ctx context.Context, e engine.Edit) error {
	n.applying.Lock()
	defer n.applying.Unlock()
	touched, err := selectors(e.Want)
	if err != nil {
		return err
	}
	found, err := n.readOthers(ctx, e.Query)
	if err != nil {
		return err
	}
	routes, err := n.routes(ctx, slices.Concat(e.Query, touched), math.MaxInt)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if e.Query.Match(r.Route) {
			found[r.Key()] = r.Route
		}
	}
	if e.Before != nil && len(resource.Compare(e.Before, found)) > 0 {
		return &engine.DriftError{Found: found}
	}
	groups, err := group(e.Want, routes)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	for i, g := range groups {
		err := n.send(ctx, converge(g.now, g.want))
		if err == nil {
			continue
		}
		if back := n.putBack(ctx, groups[:i+1], touched); back != nil {
			return halfDone(err, back)
		}
		return err
	}
	return nil
}

// halfDone is the error of an edit that was refused in its middle and could not be put back.
func halfDone(err, back error) error {
	e := &engine.Error{Code: engine.Unreachable, Cause: "refused by the kernel, and so was putting back what was done before: " + back.Error(), Err: err}
	e.Left = "some routes of this change are changed"
	var refused *engine.NodeError
	if errors.As(err, &refused) {
		e.Kernel = refused.Words
		e.Err = nil // it is not a NodeError: the node is not as it was
	}
	return e
}

// putBack makes the routes of groups what they were, last changed first.
func (n *Node) putBack(ctx context.Context, groups []routeGroup, touched resource.Query) error {
	routes, err := n.routes(ctx, touched, math.MaxInt)
	if err != nil {
		return err
	}
	for _, g := range slices.Backward(groups) {
		if err := n.send(ctx, converge(ofIdentity(routes, g.key), g.now)); err != nil {
			return err
		}
	}
	return nil
}

// send has the kernel carry out messages, up to the first that it refuses.
func (n *Node) send(ctx context.Context, messages []message) error {
	for _, m := range messages {
		deleting := m.kind == unix.RTM_DELROUTE
		payload, err := n.encodeRoute(m.route, deleting)
		if err != nil {
			return err
		}
		err = n.exchange(ctx, m.kind, m.flags|unix.NLM_F_ACK, payload, 0, nil)
		if deleting && errors.Is(err, unix.ESRCH) { // somebody was faster: it is as wanted
			continue
		}
		if err != nil {
			return refusal(err)
		}
	}
	return nil
}

// settle reads what e selects until it is as predicted or e.Settle has passed.
func (n *Node) settle(ctx context.Context, e engine.Edit) (resource.State, error) {
	end := time.Now().Add(time.Duration(e.Settle))
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		found, err := n.Read(ctx, e.Query)
		if err != nil {
			return nil, err
		}
		left := time.Until(end)
		if e.After == nil || left <= 0 || len(resource.Compare(e.After, found)) == 0 {
			return found, nil
		}
		timer := time.NewTimer(min(wait, left))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// selectors selects the routes that share an identity with a key of want.
func selectors(want resource.State) (resource.Query, error) {
	var q resource.Query
	for _, k := range want.Keys() {
		if k.Kind() != resource.KindRoute {
			return nil, fmt.Errorf("%s: a linux node changes routes only, so far", k)
		}
		id, err := parseKey(k)
		if err != nil {
			return nil, err
		}
		q = append(q, resource.Selector{Kind: resource.KindRoute, Dst: id.dst, Table: id.table})
	}
	return q, nil
}
