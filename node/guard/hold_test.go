//go:build linux

package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/nodetest"
)

// held wants err to say that run works on the node, and that nothing was changed.
func held(t *testing.T, err error, run string) {
	t.Helper()
	e := engine.AsError(err)
	if err == nil || e.Code != engine.Unreachable || e.Left != engine.NothingChanged || !strings.Contains(e.Cause, "run "+run+" of ann@ops works on this node, since 20") {
		t.Errorf("got %v, want that run %s works on the node", err, run)
	}
}

// One run at a time changes a node; others are told which, and may look.
func TestOneRunAtATime(t *testing.T) {
	m := newMachine(t)
	a, b := m.agent(t), m.agent(t)
	first, second := edit(t, a, "r1", route(1)), edit(t, b, "r2", route(2))
	if _, err := a.Apply(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	_, err := b.Apply(t.Context(), second)
	held(t, err, "r1")
	if s := b.read(t, nodetest.Everything); s[route(1).Key()] == nil || s[route(2).Key()] != nil {
		t.Errorf("the node holds %v", s)
	}
	if hint := fmt.Sprintf("its agent is process %d of the node", a.cmd.Process.Pid); !strings.Contains(engine.AsError(err).Hint, hint) {
		t.Errorf("the hint is %q, want %q", engine.AsError(err).Hint, hint)
	}
	ms := b.memory(t)
	if len(ms) != 1 || !ms[0].Held || ms[0].Run != "r1" || ms[0].By != "ann@ops" || ms[0].Of != resource.TheNode {
		t.Errorf("it says %v", ms)
	}
	if _, err := b.Apply(t.Context(), engine.Edit{Query: nodetest.Everything}); err != nil {
		t.Errorf("looking: %v", err)
	}
	plain := second
	plain.Run = ""
	_, err = b.Apply(t.Context(), plain)
	held(t, err, "r1")

	a.Release()
	for end := time.Now().Add(settled); ; time.Sleep(10 * time.Millisecond) { // nobody waits for it
		if _, err = b.Apply(t.Context(), second); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		t.Fatalf("after it was released: %v", err)
	}
	_, err = a.Apply(t.Context(), edit(t, a, "r1", route(3)))
	held(t, err, "r2")
	b.kill(t)
	if _, err := a.Apply(t.Context(), edit(t, a, "r1", route(3))); err != nil {
		t.Errorf("after its agent was killed: %v", err)
	}
}

// Of many runs that begin at once one gets the node.
func TestManyRunsAtOnce(t *testing.T) {
	m := newMachine(t)
	agents, edits, errs := make([]*process, 6), make([]engine.Edit, 6), make([]error, 6)
	for i := range agents {
		agents[i] = m.agent(t)
		edits[i] = edit(t, agents[i], fmt.Sprint("r", i), route(i+1))
	}
	var wait sync.WaitGroup
	for i, a := range agents {
		wait.Go(func() { _, errs[i] = a.Apply(t.Context(), edits[i]) })
		wait.Go(func() { a.Read(t.Context(), resource.Query{{Kind: resource.KindMemory}}) }) //nolint:errcheck // whoever looks must not be taken for one that holds it
	}
	wait.Wait()
	var winner string
	for i, err := range errs {
		if err == nil {
			winner += fmt.Sprint("r", i)
		}
	}
	for _, err := range errs {
		if err != nil {
			held(t, err, winner)
		}
	}
}

// Another agent of the same run takes over: of an agent whose controller was killed, or cannot reach it
// any more, nothing may come later. It may hang, too.
func TestAgentIsReplaced(t *testing.T) {
	for _, signal := range []syscall.Signal{0, syscall.SIGSTOP} {
		m := newMachine(t)
		a, b := m.agent(t), m.agent(t)
		if _, err := a.Apply(t.Context(), edit(t, a, "r1", route(1))); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(a.cmd.Process.Pid, signal); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Apply(t.Context(), edit(t, b, "r1", route(2))); err != nil {
			t.Fatal(err)
		}
		a.cmd.Wait() //nolint:errcheck // how it ended is asked for next
		if s, ok := a.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
			t.Errorf("the first agent ended as %v", a.cmd.ProcessState)
		}
		if _, err := a.Apply(t.Context(), engine.Edit{}); err == nil {
			t.Error("it answers")
		}
	}
}

// An agent that stands still keeps other runs off its node. They are told which process it is, and what can be done.
func TestAgentStandsStill(t *testing.T) {
	m := newMachine(t)
	a, b := m.agent(t), m.agent(t)
	if _, err := a.Apply(t.Context(), edit(t, a, "r1", route(1))); err != nil {
		t.Fatal(err)
	}
	second := edit(t, b, "r2", route(2))
	if err := syscall.Kill(a.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(settled); !stopped(a.cmd.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not stopped")
		}
	}
	_, err := b.Apply(t.Context(), second)
	held(t, err, "r1")
	if hint := fmt.Sprintf("its agent, process %d of the node, is stopped: kill -CONT", a.cmd.Process.Pid); !strings.Contains(engine.AsError(err).Hint, hint) {
		t.Errorf("the hint is %q, want %q", engine.AsError(err).Hint, hint)
	}
}

// Who waits in vain for the end of a change is told which process is in the middle of it.
func TestChangeWithoutEnd(t *testing.T) {
	m := newMachine(t)
	a := m.agent(t)
	lock, err := m.folder().lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() //nolint:errcheck // a lock
	add := edit(t, a, "r1", route(1))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err = a.Apply(ctx, add)
	if want := fmt.Sprintf("somebody else is changing the node, or it is being put back, by process %d of the node", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if s := a.read(t, nodetest.Everything); s[route(1).Key()] != nil {
		t.Error("it was changed all the same")
	}
}

// Two names of an inventory may mean one machine: the second is an error, and ends nobody.
func TestTwoNamesOfOneMachine(t *testing.T) {
	m := newMachine(t)
	a, b := m.agent(t), m.agent(t)
	first, second := edit(t, a, "r1", route(1)), edit(t, b, "r1", route(2))
	first.Node, second.Node = "web-1", "www"
	if _, err := a.Apply(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	_, err := b.Apply(t.Context(), second)
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.Unreachable || !strings.Contains(e.Cause, "this run works on the same machine already, as node web-1") {
		t.Errorf("got %v", err)
	}
	if s := a.read(t, nodetest.Everything); s[route(2).Key()] != nil {
		t.Error("it was changed")
	}
}
