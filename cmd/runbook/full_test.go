//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"runbook/engine"
)

// onSmallDisk gives the journal of r's commands a small file system of its own, which
// only this goroutine and what it starts can see. fill leaves no room in it.
func (r realLab) onSmallDisk(t *testing.T) (fill, free func()) {
	t.Helper()
	runtime.LockOSThread() // for good: the thread ends with this goroutine, and its mounts with it
	dir := filepath.Join(r.dir, "state", "runbook")
	check := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	away := filepath.Join(r.dir, "lab")
	t.Cleanup(func() { check(syscall.Unmount(dir, 0), os.Rename(away, filepath.Join(dir, "lab"))) }) // where it is ended
	check(os.Rename(filepath.Join(dir, "lab"), away),
		syscall.Unshare(syscall.CLONE_NEWNS),
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("none", dir, "tmpfs", 0, "size=1m"),
		os.Symlink(away, filepath.Join(dir, "lab")))
	ballast := filepath.Join(dir, "ballast")
	fill = func() {
		t.Helper()
		if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
	}
	return fill, func() { t.Helper(); check(os.Remove(ballast)) }
}

// A disk that fills up in the middle of a run stops it before the next change anywhere: what was in
// hand is put back. With room again the run goes on, and undo takes all of it back.
func TestDiskFull(t *testing.T) {
	r := newRealLab(t, 4)
	r.book(t, "book.star", `"2", "100%"`, "0s", 0, 600)
	empty := r.dump(t)
	fill, free := r.onSmallDisk(t)
	full := func(said string) {
		t.Helper()
		if !strings.Contains(said, "journal.db: the disk is full") || !strings.Contains(said, "hint: make room for it") {
			t.Errorf("it says\n%s", said)
		}
	}
	asBefore := func() {
		t.Helper()
		r.everywhere(t, untell)
		if now := r.dump(t); now != empty {
			t.Errorf("the nodes hold\n%s\nwant\n%s", now, empty)
		}
	}

	g := r.begin(t, "run", "book.star", "-i", "lab")
	g.asks(t, "apply to node-1?")
	fill()
	g.in.Write([]byte("a\n2\n"))
	full(g.exits(t, engine.Internal))
	asBefore()
	free()

	g = r.begin(t, "run", "book.star", "-i", "lab", "--yes")
	r.inFlight(t, g, "node-1", "node-2")
	fill()
	r.everywhere(t, tell)
	full(g.exits(t, engine.Internal))
	for _, e := range g.snapshot() {
		if e.Kind == engine.EventChange && e.Op != "route.add 10.20.0.0/16" || e.Kind == engine.EventChange && e.Node != "node-1" && e.Node != "node-2" {
			t.Errorf("after the disk was full: %s of %s", e.Op, e.Node)
		}
	}
	asBefore()
	free()

	r.everywhere(t, tell)
	id := r.states(t).ID
	if out, err := r.command("resume", id, "--yes").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.wantStates(t, engine.NodeDone, engine.NodeDone, engine.NodeDone, engine.NodeDone)
	if held := r.everywhere(t, "ip route | grep -c '^10.2[01].0.0/16'"); held != "node-1 2\nnode-2 2\nnode-3 2\nnode-4 2\n" {
		t.Errorf("taken up again, the nodes hold of the two routes:\n%s", held)
	}
	if out, err := r.command("undo", id, "--yes").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	asBefore()
	r.nothingLeft(t)
}
