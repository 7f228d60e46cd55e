//go:build linux

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"runbook/engine"
	"runbook/internal/integration"
	"runbook/internal/pty"
)

// These tests drive the real binary on a terminal, as an engineer does, and then read the kernels of its nodes.

// seated is a command on a terminal of its own.
type seated struct {
	*pty.Terminal
	t     *testing.T
	cmd   *exec.Cmd
	ended chan error
}

// sits runs a command on a terminal, which is its controlling one.
func (r realLab) sits(t *testing.T, x *pty.Terminal, args ...string) *seated {
	t.Helper()
	c := r.command(args...)
	c.Env = append(c.Env, "TERM=xterm-256color")
	c.Stdin, c.Stdout, c.Stderr = x.Slave, x.Slave, x.Slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s := &seated{x, t, c, make(chan error, 1)}
	go func() { s.ended <- c.Wait() }()
	t.Cleanup(func() { c.Process.Kill() }) //nolint:errcheck // it has mostly ended
	return s
}

// press presses keys that decide something, each when a person would, until that is seen on the screen.
func (s *seated) press(key, what string, parts ...string) string {
	s.t.Helper()
	time.Sleep(800 * time.Millisecond) // a key that is held down is not taken for two
	s.Type(key)
	return s.Until(what, pty.Has(parts...))
}

// exits wants the command to end with code, and returns what stays on the terminal.
func (s *seated) exits(code engine.Code) string {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patient):
		s.t.Fatalf("it does not end:\n%s", s.Screen())
	}
	if got := s.cmd.ProcessState.ExitCode(); got != int(code) {
		s.t.Errorf("exit %d, want %d\n%s", got, code, s.Screen())
	}
	return s.Until("the screen is gone", func(sc string) bool { return !strings.Contains(sc, "│") })
}

// routes wants the nodes to have the two routes of the tests, or none.
func (r realLab) routes(t *testing.T, has ...bool) {
	t.Helper()
	for i, want := range has {
		got := r.on(t, r.Nodes()[i].Name, "ip route | grep -c '^10.2[01].0.0/16 via 10.98.0.1' || true")
		if want && got != "2" || !want && got != "0" {
			t.Errorf("node-%d has %s of the two routes, want them: %v", i+1, got, want)
		}
	}
}

// One is confirmed, one skipped, one taken back, the run paused and stopped: the kernels hold what was decided, and nothing else.
func TestScreenDecides(t *testing.T) {
	r := newRealLab(t, 5)
	r.book(t, "book.star", `"1", "100%"`, "0s", 0, 1)
	x := pty.Open(t, 80, 24)
	x.Type("yyyy\ryq") // before anything is to be seen
	s := r.sits(t, x, "run", "book.star", "-i", "lab", "-n", "all", "via=10.98.0.1")
	s.Until("the first question", pty.Has("WAITING FOR YOU", "apply to node-1?  y yes  s skip", "+ route 10.20.0.0/16 via 10.98.0.1 dev eth1", "5 nodes"))
	time.Sleep(500 * time.Millisecond)
	r.routes(t, false, false, false, false, false)
	if got := s.Screen(); !strings.Contains(got, "apply to node-1?") {
		t.Fatalf("what was typed before has decided something:\n%s", got)
	}
	s.press("y", "the question of the second wave", "apply to node-2?  y yes  s skip  w all 4 alike in wave 2", "node-1              done")
	r.routes(t, true, false, false, false, false)
	s.press("s", "the third node", "apply to node-3?", "node-2              skipped")
	s.press("y", "the fourth node", "apply to node-4?", "node-3              done")
	r.routes(t, true, false, true, false, false)
	s.press("k", "the cursor is elsewhere", "node-4 is asked about: enter goes there", ">  node-3")
	s.press("r", "what has to be typed", "take back what this run did to node-3? type undo and enter")
	s.press("undo\r", "the third node is taken back", "node-3              undone")
	r.routes(t, true, false, false, false, false)
	s.press("p", "it is paused", "PAUSED", "p go on")
	s.press("\r", "the question", "apply to node-4?", "the run is paused")
	s.press("y", "it waits", "paused: no other node starts; p goes on")
	r.routes(t, true, false, false, false, false)
	s.press("p", "the fourth node goes on", "apply to node-5?", "node-4              done")
	s.press("q", "the end", "ENDED, EXIT 130", "runbook resume")
	s.press("q", "the shell", "not tried")
	left := s.exits(engine.Interrupted)
	for _, text := range []string{"done           2  node-1, node-4", "skipped        1  node-2", "undone         1  node-3", "not tried      1  node-5", "go on with the nodes that are left: runbook resume"} {
		if !strings.Contains(left, text) {
			t.Errorf("%q does not stay:\n%s", text, left)
		}
	}
	r.routes(t, true, false, false, true, false)
	r.wantStates(t, engine.NodeDone, engine.NodeSkipped, engine.NodeUndone, engine.NodeDone, engine.NodeUntried)

	id := r.states(t).ID
	s = r.sits(t, pty.Open(t, 80, 24), "resume", id)
	s.Until("what is left", pty.Has("before it was taken up again", "node-2              skipped", "node-3              undone", "apply to node-5?"))
	s.press("y", "the end", "ENDED", "3 done, 1 skipped, 1 undone")
	s.press("q", "the shell", "done           3  node-1, node-4, node-5")
	s.exits(engine.OK)
	s = r.sits(t, pty.Open(t, 80, 24), "undo", id)
	s.Until("what is to be taken back", pty.Has("undo "+id, "apply to node-1?", "- route 10.20.0.0/16 via 10.98.0.1 dev eth1", "3 nodes"))
	s.press("y", "its second wave", "apply to node-4?")
	s.press("w", "the number is asked for", "type 2 and enter")
	s.press("2\r", "the end", "ENDED", "3 done")
	s.press("q", "the shell", "done           3  node-1, node-4, node-5")
	s.exits(engine.OK)
	r.routes(t, false, false, false, false, false)
	r.nothingLeft(t)
}

// A run that is refused shows why, and leaves its plan on the terminal.
func TestScreenOfARunThatIsRefused(t *testing.T) {
	r := newRealLab(t, 2)
	r.book(t, "book.star", `"100%"`, "0s", 0, 1)
	s := r.sits(t, pty.Open(t, 80, 40), "run", "book.star", "-i", "lab", "-n", "all", "--limit", "changes_per_node=1")
	s.Until("why", pty.Has("ENDED, EXIT 3", "×2  would go past a limit", "node-1              error", "this would be change 2 on the node, but", "q or enter leaves"))
	s.press("q", "the plan", "book.star via=10.98.0.1 ", "node-1, node-2", "refused; nothing changed on any node")
	s.exits(engine.LimitHit)
	r.routes(t, false, false)
}

// For the rest of a wave its number is typed, and nothing less does it.
func TestScreenDecidesForAWave(t *testing.T) {
	r := newRealLab(t, 3)
	r.book(t, "book.star", `"100%"`, "0s", 0, 1)
	s := r.sits(t, pty.Open(t, 120, 40), "run", "book.star", "-i", "lab", "-n", "all")
	s.Until("the question", pty.Has("apply to node-1?  y yes  s skip  w all 3 alike in wave 1"))
	s.press("w", "the number is asked for", "type 3 and enter; esc leaves")
	s.press("\r", "nothing is not enough", `"" is not 3`)
	s.press("y\r", "a key is not enough", `"y" is not 3`)
	r.routes(t, false, false, false)
	s.press("3\r", "the end", "ENDED", "3 done", "q or enter leaves")
	s.press("\r", "the shell", "done           3  node-1, node-2, node-3")
	s.exits(engine.OK)
	r.routes(t, true, true, true)
}

// With --yes the run is only shown, and left by itself; Ctrl-C stops it all the same.
func TestScreenOfARunThatAsksNothing(t *testing.T) {
	r := newRealLab(t, 3)
	r.book(t, "book.star", `"1", "100%"`, "0s", 0, 600)
	s := r.sits(t, pty.Open(t, 80, 24), "run", "book.star", "-i", "lab", "-n", "all", "--yes")
	s.Until("the first node is in hand", pty.Has("APPLYING", "node-1              applying", "in hand: node-1"))
	s.press("p", "it is not paused from here", "the run is only shown here, and goes on")
	s.press("\x03", "it stops", "STOPPING", "once more puts back what is in hand")
	r.everywhere(t, tell)
	s.Until("the shell", pty.Has("done           1  node-1", "not tried      2  node-2, node-3"))
	s.exits(engine.Interrupted)
	r.everywhere(t, untell)
	r.routes(t, true, false, false)
}

// Who loses the terminal stops the run as one interrupt does: what is in hand is finished, nothing else begins, and it can be taken up again.
func TestScreenLosesItsTerminal(t *testing.T) {
	r := newRealLab(t, 3)
	r.book(t, "book.star", `"1", "100%"`, "0s", 0, 600)
	x := pty.Open(t, 80, 24)
	s := r.sits(t, x, "run", "book.star", "-i", "lab", "-n", "all")
	s.Until("the question", pty.Has("apply to node-1?"))
	s.press("y", "the first node is in hand", "node-1              applying")
	r.until(t, "node-1", "ip route | grep -q '^10.20.0.0/16'")
	x.Close()
	s.cmd.Process.Signal(syscall.SIGHUP) //nolint:errcheck // a shell sends it once more
	time.Sleep(time.Second)
	r.everywhere(t, tell)
	select {
	case <-s.ended:
	case <-time.After(patient):
		t.Fatal("it does not end")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != int(engine.Interrupted) {
		t.Errorf("exit %d", code)
	}
	r.wantStates(t, engine.NodeDone, engine.NodeUntried, engine.NodeUntried)
	for _, verb := range []string{"runs", "show " + r.states(t).ID} {
		out, err := r.command(strings.Fields(verb)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "runbook resume "+r.states(t).ID) {
			t.Errorf("%s does not say how to go on: %v\n%s", verb, err, out)
		}
	}
	if out, err := r.command("resume", r.states(t).ID, "--yes").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.everywhere(t, untell)
	r.routes(t, true, true, true)
	r.nothingLeft(t)
}

// Ctrl-Z stops nothing where no shell could let it go on, as under ssh -t: the question is asked again, and the run goes on.
func TestScreenWithoutAShell(t *testing.T) {
	r := newRealLab(t, 2)
	r.book(t, "book.star", `"100%"`, "0s", 0, 1)
	s := r.sits(t, pty.Open(t, 80, 24), "run", "book.star", "-i", "lab", "-n", "all")
	s.Until("the question", pty.Has("apply to node-1?"))
	s.press("\x1a", "it says so", "apply to node-1?", "it cannot be suspended: there is no shell that would let it go on")
	s.press("y", "the second question", "apply to node-2?", "node-1              done")
	s.press("q", "the end", "ENDED, EXIT 130")
	s.press("q", "the shell", "not tried")
	s.exits(engine.Interrupted)
	r.routes(t, true, false)
}

// until waits until a command in a node succeeds.
func (r realLab) until(t *testing.T, node, command string) {
	t.Helper()
	for end := time.Now().Add(patient); r.command("lab", "exec", node, "--", "sh", "-c", command).Run() != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never on %s: %s", node, command)
		}
	}
}

// Who watches sees the questions of the other, answers none, and leaves without a trace.
func TestScreenOfARunThatAnotherDrives(t *testing.T) {
	r := newRealLab(t, 2)
	r.book(t, "book.star", `"100%"`, "0s", 0, 1)
	s := r.sits(t, pty.Open(t, 80, 24), "run", "book.star", "-i", "lab", "-n", "all")
	s.Until("the question", pty.Has("apply to node-1?"))
	id := r.states(t).ID
	stays := r.sits(t, pty.Open(t, 120, 40), "run", "--watch", id)
	leaves := r.sits(t, pty.Open(t, 80, 24), "run", "--watch", id)
	for _, w := range []*seated{stays, leaves} {
		w.Until("the question of the other", pty.Has("WAITING FOR AN ANSWER", "node-1 is asked about, where the run is driven", "+ route 10.20.0.0/16"))
		w.press("y", "it is not answered here", "the question is answered where the run is driven")
	}
	r.routes(t, false, false)
	leaves.Type("q")
	leaves.exits(engine.Interrupted)
	s.press("y", "the second node", "apply to node-2?")
	stays.Until("the second question of the other", pty.Has("node-2 is asked about", "done"))
	s.press("s", "the end", "ENDED", "1 done, 1 skipped")
	if left := stays.exits(engine.OK); !strings.Contains(left, "1 done, 1 skipped") {
		t.Errorf("who watches is left with\n%s", left)
	}
	s.press("q", "the shell", "done           1  node-1")
	s.exits(engine.OK)
}

// In tmux: Ctrl-Z waits for the node in hand, the agents of a suspended run may end, and fg goes on where it was, in another size too.
func TestScreenInTmux(t *testing.T) {
	integration.Need(t, "tmux")
	r := newRealLab(t, 3)
	r.book(t, "book.star", `"1", "100%"`, "0s", 0, 600)
	x := newTerminal(t, r.binary, "XDG_STATE_HOME="+filepath.Join(r.dir, "state"), "HOME="+r.dir)
	x.types("clear; runbook run "+filepath.Join(r.dir, "book.star")+" -i lab -n all", "Enter")
	x.until("the question", pty.Has("WAITING FOR YOU", "apply to node-1?  y yes  s skip"))
	time.Sleep(time.Second) // nobody decides as fast as that
	x.types("y")
	r.until(t, "node-1", "ip route | grep -q '^10.20.0.0/16'")
	x.types("C-z")
	x.until("it waits", pty.Has("SUSPENDING", "suspending as soon as nothing is in hand"))
	r.everywhere(t, tell)
	x.until("the shell", func(s string) bool { return strings.HasSuffix(strings.TrimSpace(s), "ready$") })
	r.routes(t, true, false, false)
	x.types("echo something else", "Enter")
	x.until("the shell works", pty.Has("something else"))
	time.Sleep(12 * time.Second) // the agents of the nodes hear nothing, and end
	x.types("fg; echo exit=$?", "Enter")
	x.until("the second question", pty.Has("WAITING FOR YOU", "apply to node-2?", "node-1              done"))
	x.tmux("resize-window", "-x", "130", "-y", "40")
	x.until("the larger screen", func(s string) bool {
		return pty.Has("apply to node-2?", "wave 2 of 2")(s) && strings.Contains(strings.Split(s, "\n")[0], "20") && len(strings.Split(s, "\n")) >= 40
	})
	time.Sleep(time.Second)
	x.types("y")
	x.until("the third question", pty.Has("apply to node-3?"))
	x.types("q")
	x.until("the end", pty.Has("ENDED, EXIT 130"))
	time.Sleep(time.Second)
	x.types("q")
	all := x.over(130)
	if !strings.Contains(all, "done           2  node-1, node-2") {
		t.Errorf("what stays is\n%s", all)
	}
	r.everywhere(t, untell)
	r.routes(t, true, true, false)
	x.types("stty -a", "Enter")
	x.until("the terminal's modes", pty.Has("icanon", " echo "))
}
