//go:build linux

package guard

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// This file keeps other runs off a node while one works on it: from its first edit to the
// word that it is through, or the end of its agent. For as long a file is locked that says whose it is. It is
// another lock than that of a single change, under which it is taken.

const holdName = "hold"

// hold is what the locked file says.
type hold struct {
	Run   string `json:"run"`
	By    string `json:"by,omitempty"`
	Node  string `json:"node,omitempty"` // as the run calls it
	Since moment `json:"since"`
}

// heldBy is what the node says of h, which has locked the file.
func (f folder) heldBy(h hold) resource.Memory {
	pid := f.holder(holdName)
	return resource.Memory{Of: resource.TheNode, Run: h.Run, By: h.By, Node: h.Node, Age: h.Since.age(f.now()), Held: true, PID: pid, Stopped: stopped(pid)}
}

// holding is the run that works on the node, through whichever agent. Where the file
// could not be written, or is just about to be, it is not said which.
func (f folder) holding() (h hold, held bool) {
	if held, _ := f.locked(holdName); !held { // or it cannot be told; then it cannot be taken either
		return hold{}, false
	}
	if f.load(holdName, &h) != nil {
		h = hold{Since: f.now()}
	}
	return h, true
}

// others is the run that works on the node through another agent.
func (n *Node) others() (h hold, held bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held != nil {
		return hold{}, false
	}
	return n.folder.holding()
}

// replaceWithin is how long another agent of the same run may take to be gone, once it was killed.
const replaceWithin = 10 * time.Second

// take has the run of edits work on the node, or says which other one does. The caller has the
// lock, so that no other agent is in the middle of a change.
func (n *Node) take(ctx context.Context, edits []engine.Edit) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(edits, func(e engine.Edit) bool { return e.Run != "" })
	switch {
	case i < 0 && (n.held != nil || !slices.ContainsFunc(edits, acts)):
		return nil
	case i < 0: // of no run: it must only not get in the way of one
		if h, held := n.folder.holding(); held {
			return engine.RefuseHeld(n.folder.heldBy(h), "", "")
		}
		return nil
	case n.held != nil && n.run == edits[i].Run:
		return nil
	}
	if r, _ := n.folder.pending(); r != nil { // the guardian keeps it
		if err := engine.RefusePending(r.memory(n.folder.now()), edits[i].Run); err != nil {
			return err
		}
	}
	h := hold{Run: edits[i].Run, By: edits[i].By, Node: edits[i].Node, Since: n.folder.now()}
	if n.held == nil {
		var err error
		if n.held, err = n.replace(ctx, h); err != nil {
			return err
		}
	}
	n.run = h.Run
	b, err := json.Marshal(h)
	if err == nil {
		err = os.WriteFile(n.folder.path(holdName), b, 0o600)
	}
	if err != nil && slices.ContainsFunc(edits, needsRecord) {
		return unwritable(err)
	}
	return nil // on a disk that is full it is held all the same, and not said by whom
}

// replace locks the file for h. An agent that has it for the same run is one that its
// controller has given up, or was killed without: it is idle, for the caller has the lock, and is ended, so
// that it begins nothing of what may still reach it.
func (n *Node) replace(ctx context.Context, h hold) (*os.File, error) {
	for end := time.Now().Add(replaceWithin); ; {
		l, err := n.folder.tryLock(holdName)
		if l != nil || err != nil {
			return l, err
		}
		if other, held := n.folder.holding(); held { // and it is not just somebody who looks
			if err := engine.RefuseHeld(n.folder.heldBy(other), h.Run, h.Node); err != nil {
				return nil, err
			}
			n.folder.kill(holdName)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if time.Now().After(end) {
			return nil, &engine.Error{Code: engine.Unreachable, Cause: "another agent of this run is still on the node, and cannot be ended", Left: engine.NothingChanged}
		}
	}
}

// Release implements [engine.Holder].
func (n *Node) Release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held != nil {
		n.held.Close() //nolint:errcheck // a lock
		n.held = nil
	}
}
