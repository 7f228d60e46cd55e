//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"runbook/internal/integration"
)

// perLook is several times as long as the lines are left as they are.
const perLook = 300 * time.Millisecond

// slowRunbook takes two seconds a node, but not in its prediction.
const slowRunbook = `"""A route, slowly."""
runbook(limits = limits(nodes = 100, changes_per_node = 1), rollout = rollout(waves = ["1", "100%"], bake = "2s"))
def run(node, p):
    node.route.add(dst = "10.20.0.0/16", via = "10.98.0.1", dev = "eth1")
    if node.name == "node-7":
        print("printed " + "long " * 30)
    tries = []
    def slow():
        tries.append(1)
        expect(len(tries) > 2, "not yet")
    retry(3, "1s", slow)
`

// busyRunbook takes long to be predicted.
const busyRunbook = `"""A route, after much thought."""
runbook(limits = limits(nodes = 100, changes_per_node = 1, steps = 10000000000))
def run(node, p):
    for _ in range(2000000):
        pass
    node.route.add(dst = "10.20.0.0/16", via = "10.98.0.1", dev = "eth1")
`

// terminal is a real one of 80 columns and 24 rows, with a shell in it, and runbook in its PATH.
type terminal struct {
	t      *testing.T
	socket string
	dir    string
}

func newTerminal(t *testing.T, binary string, env ...string) *terminal {
	t.Helper()
	dir := t.TempDir()
	x := &terminal{t, filepath.Join(dir, "tmux"), dir}
	for name, text := range map[string]string{"slow.star": slowRunbook, "busy.star": busyRunbook, "waits.star": strings.ReplaceAll(slowRunbook, `bake = "2s"`, `bake = "10m"`)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "-c", dir, "env", "PS1=ready$ ", "HOME=" + dir, "XDG_STATE_HOME=" + dir, "RUNBOOK_LAB=sim",
		"PATH=" + filepath.Dir(binary) + ":" + os.Getenv("PATH")}
	x.tmux(append(append(args, env...), "sh")...)
	t.Cleanup(func() { x.tmux("kill-server") })
	x.until("the shell is there", func(s string) bool { return strings.Contains(s, "ready$") })
	return x
}

func (x *terminal) tmux(args ...string) string {
	x.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-S", x.socket}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TMUX=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		x.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func (x *terminal) types(keys ...string) {
	x.t.Helper()
	x.tmux(append([]string{"send-keys"}, keys...)...)
}

// screen is what stands on it, all is that and what has scrolled off it, with the lines whole.
func (x *terminal) screen() string { return x.tmux("capture-pane", "-p") }
func (x *terminal) all() string    { return x.tmux("capture-pane", "-p", "-J", "-S", "-5000") }

// until waits for what is to be on the screen.
func (x *terminal) until(what string, ok func(screen string) bool) string {
	x.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		s := x.screen()
		if ok(s) {
			return s
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("never: %s; on the screen is\n%s", what, s)
		}
	}
}

// over waits until the shell is back after a run, and returns all that was shown.
func (x *terminal) over(code int) string {
	x.t.Helper()
	x.until("the run is over", func(s string) bool { return strings.Contains(s, fmt.Sprintf("exit=%d", code)) })
	return x.all()
}

// On a real terminal whose keys are not the run's, it is shown in lines that are written anew in their place, whatever
// its size, and of which nothing is left at the end; what is printed stands above them, once.
func TestLive(t *testing.T) {
	integration.Need(t, "tmux")
	binary := filepath.Join(t.TempDir(), "runbook")
	released.link(t, binary)
	has := func(parts ...string) func(string) bool {
		return func(s string) bool {
			for _, p := range parts {
				if !strings.Contains(s, p) {
					return false
				}
			}
			return true
		}
	}
	// clean wants no part of a frame to be left, or of that many at the most.
	clean := func(t *testing.T, all string, frames int, want ...string) {
		t.Helper()
		for _, row := range []string{"░", "█", "in hand", " applying "} {
			left := 0
			for line := range strings.Lines(all) {
				if strings.Contains(line, row) {
					left++
				}
			}
			if left > frames && row != " applying " || left > frames*8 {
				t.Errorf("%q is left behind in %d lines:\n%s", row, left, all)
			}
		}
		for _, w := range want {
			if strings.Count(all, w) != 1 {
				t.Errorf("%q stands there %d times:\n%s", w, strings.Count(all, w), all)
			}
		}
	}
	printed := "node-7 | printed " + strings.Repeat("long ", 29) + "long"

	t.Run("resized", func(t *testing.T) {
		t.Parallel()
		x := newTerminal(t, binary)
		x.types("runbook run --lab 40 --yes slow.star < /dev/null; echo exit=$?", "Enter")
		x.until("the first node", has("wave 1 of 2", "0 of 1 node", "node-1  applying"))
		x.until("the wait", has("until the next", "node-1  done", "left"))
		x.until("the second wave", has("wave 2 of 2", "0 of 39 nodes", "and 31 more in hand", "1 done"))
		x.tmux("resize-window", "-x", "50")
		x.until("the smaller frame", has("wave 2 of 2", "  0/39", "more in hand"))
		x.tmux("resize-window", "-x", "100", "-y", "30")
		// What is drawn just when the terminal has another size, and has not said so yet, can leave a part of a frame.
		clean(t, x.over(0), 2, printed, "wave 2 of 2: node-2, node-3, node-4 and 36 more", ": 40 done")
	})
	t.Run("no colour", func(t *testing.T) {
		t.Parallel()
		x := newTerminal(t, binary, "NO_COLOR=1")
		x.types("runbook run --lab 2 --yes slow.star < /dev/null; echo exit=$?", "Enter")
		x.until("the first node", has("wave 1 of 2", "node-1  applying"))
		if s := x.tmux("capture-pane", "-p", "-e"); strings.Contains(s, "\x1b[") {
			t.Errorf("there is colour: %q", s)
		}
		clean(t, x.over(0), 0, ": 2 done")
	})
	t.Run("asked", func(t *testing.T) {
		t.Parallel()
		x := newTerminal(t, binary)
		x.types("cat | runbook run --lab 3 slow.star; echo exit=$?", "Enter")
		s := x.until("the first question", has("apply to node-1?"))
		if strings.Contains(s, "░") {
			t.Errorf("the lines are there while somebody is asked:\n%s", s)
		}
		x.types("y", "Enter")
		x.until("the first node", has("0 of 1 node", "node-1  applying"))
		s = x.until("the second question", has("apply to node-2?"))
		if strings.Contains(s, "░") || strings.Contains(s, "█") {
			t.Errorf("the lines are there while somebody is asked:\n%s", s)
		}
		x.types("s", "Enter")
		x.until("the third question", has("apply to node-3?"))
		x.types("a", "Enter")
		x.until("the third node", has("1 of 2 nodes", "node-3  applying"))
		x.types("C-d")
		clean(t, x.over(0), 0, "apply to node-1?", "apply to node-2?", "apply to node-3?", ": 2 done, 1 skipped")
	})
	t.Run("predicting", func(t *testing.T) {
		t.Parallel()
		x := newTerminal(t, binary)
		for i, verb := range []string{"run --yes", "plan", "plan --format json"} {
			to := ""
			if i == 2 {
				to = " > plan.json" // the line is no part of it
			}
			x.types("clear; runbook "+verb+" --lab 20 busy.star < /dev/null"+to+"; echo exit=$?", "Enter")
			x.until(verb+": some are predicted, and not all", func(s string) bool {
				return has("predicting", "░", "of 20 nodes")(s) && !has("20 of 20 nodes")(s)
			})
			all := x.over(0)
			clean(t, all, 0)
			if strings.Contains(all, "predicting") {
				t.Errorf("%s: the line is left:\n%s", verb, all)
			}
			x.tmux("clear-history")
		}
	})
	t.Run("put aside", func(t *testing.T) {
		t.Parallel()
		x := newTerminal(t, binary)
		x.types("runbook run --lab 3 --yes waits.star < /dev/null", "Enter")
		x.until("the wait", has("until the next", "node-1  done"))
		gone := func(s string) bool { return !has("░")(s) && !has("node-1  done")(s) }
		for _, then := range []string{"echo something else", "bg"} {
			x.types("C-z")
			x.until("the shell", func(s string) bool { return has("Stopped")(s) && strings.HasSuffix(strings.TrimSpace(s), "ready$") })
			x.types(then, "Enter")
			time.Sleep(3 * perLook)
			if s := x.screen(); !gone(s) {
				t.Errorf("after Ctrl-Z and %s:\n%s", then, s)
			}
			x.types("clear; fg; echo exit=$?", "Enter")
			x.until("the lines again", has("until the next", "node-1  done"))
		}
		x.types("C-c")
		clean(t, x.over(130), 0, ": 1 done, 2 not tried")
	})
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		x := newTerminal(t, binary)
		x.types("runbook run --lab 40 --yes slow.star < /dev/null; echo exit=$?", "Enter")
		x.until("the first node", has("wave 1 of 2", "node-1  applying"))
		x.types("C-c")
		clean(t, x.over(130), 0, ": 1 done, 39 not tried")
	})
}
