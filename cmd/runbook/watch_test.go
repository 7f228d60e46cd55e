//go:build linux

package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"runbook/engine"
)

// lines is what a run has written so far, an event each.
func (g *going) lines(t *testing.T) (out []string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	return out
}

func asks(node string) func(engine.Event) bool {
	return func(e engine.Event) bool { return e.Kind == engine.EventQuestion && e.Node == node }
}

// Who watches a run sees all of it, whenever he comes, and changes nothing by that, nor by leaving.
func TestWatch(t *testing.T) {
	r := newRealLab(t, 3)
	r.book(t, "book.star", `"100%"`, "0s", 0, 1)
	run := r.begin(t, "run", "book.star", "-i", "lab", "-n", "all")
	run.until(t, "the first question", asks("node-1"))
	id := r.states(t).ID
	watch := r.begin(t, "run", "--watch", id)
	watch.until(t, "the first question, told to who watches", asks("node-1"))
	leaves := r.begin(t, "run", "--watch", id)
	leaves.until(t, "the first question, told to who leaves", asks("node-1"))
	leaves.Process.Signal(os.Interrupt) //nolint:errcheck // it would not leave
	leaves.exits(t, engine.Interrupted)
	text := &going{Cmd: r.command("run", "--watch", id), ended: make(chan struct{})}
	text.Stdout, text.Stderr = text, text
	if err := text.Start(); err != nil {
		t.Fatal(err)
	}
	text.asks(t, "10.21.0.0/16")
	for _, answer := range []string{"y\n", "s\n", "y\n"} {
		if _, err := run.in.Write([]byte(answer)); err != nil {
			t.Fatal(err)
		}
	}
	run.exits(t, engine.OK)
	watch.exits(t, engine.OK)
	if err := text.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	if want, got := run.lines(t), watch.lines(t); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("who watches was told\n%s\nand the run said\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, want := range []string{"book.star", "node-1, node-2, node-3", "+ route 10.20.0.0/16 via 10.98.0.1 dev eth1", "node-1: done", "node-2: skipped", "2 done, 1 skipped"} {
		if !strings.Contains(text.asked.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, text.asked.String())
		}
	}
	out, err := r.command("run", "--watch", id).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "run "+id+" is not going on: ") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = r.command("run", "book.star", "--watch", id).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "runs nothing") {
		t.Errorf("%v: %s", err, out)
	}
}

// Who watches a run hears how it ended: that it was refused, that it was stopped, that its process was killed.
func TestWatchTheEnd(t *testing.T) {
	r := newRealLab(t, 2)
	r.book(t, "book.star", `"100%"`, "0s", 0, 1)
	for _, tt := range []struct {
		name string
		end  func(g *going)
		code engine.Code
		says string
	}{
		{"stopped", func(g *going) { g.Process.Signal(os.Interrupt) }, engine.Interrupted, "interrupted"},
		{"killed", func(g *going) { g.Process.Kill() }, engine.Internal, "killed: runbook resume"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := r.begin(t, "run", "book.star", "-i", "lab", "-n", "all")
			run.until(t, "the first question", asks("node-1"))
			watch := r.begin(t, "run", "--watch", r.states(t).ID)
			watch.until(t, "the first question, told to who watches", asks("node-1"))
			tt.end(run)
			if said := watch.exits(t, tt.code); !strings.Contains(said, tt.says) {
				t.Errorf("it does not say %q:\n%s", tt.says, said)
			}
		})
	}
}
