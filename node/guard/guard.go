//go:build linux

// Package guard is what a node does for itself, whatever becomes of the
// controller: it puts itself back when a risky change is not confirmed, it
// remembers what was done to it, so as not to be disrupted again and again, and it
// lets one run at a time work on it.
//
// [Over] wraps the node of an agent. A change that is to be guarded, and every
// restart, is written to a folder of the node before its first kernel message, with all that
// takes it back, and a process of its own, the guardian, is there that does
// so: at the deadline, or at once where the agent dies in the middle of a restart. It
// outlives the agent and the session. What is written outlives a reboot.
//
//	guard.go      the node: what is asked before a change, and what is told after it
//	record.go     what waits to be confirmed, and what became of it
//	guardian.go   the process that waits
//	putback.go    taking back
//	memory.go     what was disrupted, by whom, when
//	hold.go       the run that works on the node
//	folder.go     files that survive a power cut; the lock
//	moment.go     time that holds across set clocks and reboots
//	systemd.go    out of the session's reach, where systemd is
//
// One lock stands for all of it: who changes the node holds it, agent or
// guardian, so that no two act at once.
package guard

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
)

// Kernel is the node that is guarded.
type Kernel interface {
	engine.Node
	engine.Sequencer
	engine.Snapshotter
	// Capture returns all that link loses when it goes down and comes up again,
	// and that [Kernel.Restore] takes: JSON.
	Capture(ctx context.Context, link string) ([]byte, error)
	// Restore makes the link up, and again what it misses of a capture.
	Restore(ctx context.Context, capture []byte) error
}

// Node is a Kernel that guards and remembers. It is safe for concurrent use.
type Node struct {
	kernel Kernel
	folder folder
	start  func(dir string) error // starts a guardian, and returns once it watches

	mu   sync.Mutex
	held *os.File // the lock of the run that works on the node; nil: none does through this agent
	run  string   // which one
}

var (
	_ engine.Node        = (*Node)(nil)
	_ engine.Sequencer   = (*Node)(nil)
	_ engine.Snapshotter = (*Node)(nil)
	_ engine.Confirmer   = (*Node)(nil)
	_ engine.Holder      = (*Node)(nil)
)

// Over returns k, the kernel as this process sees it, as a node that keeps its
// records in dir, an absolute path. dir is made when it is needed. Guardians are
// this program itself, started with the arguments "guard DIR" in the namespaces of this
// process: it must then call [Watch].
func Over(k Kernel, dir string) *Node {
	return &Node{kernel: k, folder: folder{dir, now}, start: start}
}

// Close implements [engine.Node].
func (n *Node) Close() error { return n.kernel.Close() }

// Read implements [engine.Reader].
func (n *Node) Read(ctx context.Context, q resource.Query) (resource.State, error) {
	s, err := n.kernel.Read(ctx, q)
	if err == nil {
		n.addMemory(s, q)
	}
	return s, err
}

// Snapshot implements [engine.Snapshotter].
func (n *Node) Snapshot(ctx context.Context, max int) (resource.State, bool, error) {
	s, few, err := n.kernel.Snapshot(ctx, max)
	if err == nil && few {
		n.addMemory(s, resource.Query{{Kind: resource.KindMemory}})
	}
	return s, few, err
}

// Apply implements [engine.Node].
func (n *Node) Apply(ctx context.Context, e engine.Edit) (resource.State, error) {
	found, err := n.ApplyAll(ctx, []engine.Edit{e})
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// ApplyAll implements [engine.Sequencer]. An edit that only compares waits, as
// all do, until nobody else changes the node.
func (n *Node) ApplyAll(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	lock, err := n.folder.lock(ctx)
	switch {
	case err == nil:
		defer lock.Close() //nolint:errcheck // which is what releases it
		if err := n.take(ctx, edits); err != nil {
			return nil, err
		}
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || slices.ContainsFunc(edits, needsRecord):
		return nil, err
	}
	var out []resource.State
	for len(edits) > 0 {
		part := edits[:together(edits)]
		found, err := n.apply(ctx, part)
		out = append(out, found...)
		if err != nil || len(found) < len(part) || !predicted(part[len(part)-1], found[len(part)-1]) {
			return out, err
		}
		edits = edits[len(part):]
	}
	return out, nil
}

// together is how many of edits are done in one go: a risky one alone.
func together(edits []engine.Edit) int {
	risky := func(e engine.Edit) bool { return needsRecord(e) || e.Disrupts != "" }
	switch first := slices.IndexFunc(edits, risky); first {
	case -1:
		return len(edits)
	case 0:
		return 1
	default:
		return first
	}
}

// needsRecord reports whether e must not be made where it cannot be written down.
func needsRecord(e engine.Edit) bool {
	return e.Guard != nil || e.Restart != "" || e.Disrupts != "" && !e.Undo
}

// acts reports whether e changes anything.
func acts(e engine.Edit) bool { return e.Restart != "" || len(e.Want) > 0 }

// predicted reports whether e made what it should.
func predicted(e engine.Edit, found resource.State) bool {
	return e.After == nil || resource.Equal(e.After, found)
}

// apply does edits that stand together. The caller holds the lock, unless none
// of them needs a record.
func (n *Node) apply(ctx context.Context, edits []engine.Edit) ([]resource.State, error) {
	first := slices.IndexFunc(edits, acts)
	if first < 0 {
		return n.kernel.ApplyAll(ctx, edits)
	}
	pending, err := n.folder.pending()
	if err != nil && slices.ContainsFunc(edits, needsRecord) {
		return nil, err
	}
	if pending != nil {
		if err := engine.RefusePending(pending.memory(n.folder.now()), edits[first].Run); err != nil {
			return nil, err
		}
	}
	e := edits[0]
	if err := n.begin(e); err != nil {
		return nil, err
	}
	armed, err := n.arm(ctx, pending, edits)
	if err != nil {
		n.forget(e)
		return nil, err
	}
	if e.Disrupts != "" { // whoever asked may be gone meanwhile: that it came to its end is remembered all the same
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Duration(e.Settle)+time.Second)
		defer cancel()
	}
	found, err := n.kernel.ApplyAll(ctx, edits)
	if armed != nil {
		err = errors.Join(err, n.settle(ctx, armed, edits, found, err))
	}
	n.end(e, found, err)
	return found, err
}

// untouched reports whether err, which e ended with, says that e changed
// nothing. What refuses to come up again after a restart has changed much.
func untouched(e engine.Edit, err error) bool {
	var drift *engine.DriftError
	var refused *engine.NodeError
	return errors.As(err, &drift) || errors.As(err, &refused) && e.Restart == ""
}
