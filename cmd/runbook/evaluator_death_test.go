//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"runbook/engine"
	"runbook/internal/integration"
	"runbook/lab"
)

// held has each node make a change, keep 25 MB, and wait in the middle of its live pass,
// which a prediction does not. All of %d nodes do so at the same time.
const held = `"""Wait in the middle."""

runbook(
    limits = limits(nodes = 20, changes_per_node = 2, memory = %q, steps = 1000000000),
    rollout = rollout(waves = ["%d", "100%%"], max_failures = 20),
)

def run(node, p):
    node.route.add(dst = "10.20.0.0/16", via = "10.98.0.1", dev = "eth1")
    node.facts()
    for _ in range(1000000 * int(node.name[5:])):  # so that no two are here at once, but for those that wait
        pass
    kept = "x" * (25 << 20)
    tries = []

    def again():
        tries.append(1)
        expect(len(tries) > 1, "not yet")

    retry(2, "10s", again)
    node.route.add(dst = "10.21.0.0/16", via = "10.98.0.1", dev = "eth1")
    print(len(kept))
`

// told is what this test reads of an event.
type told struct {
	Kind  engine.EventKind `json:"event"`
	Node  string           `json:"node"`
	State engine.NodeState `json:"state"`
	Err   *struct {
		Cause string `json:"cause"`
		Pos   string `json:"pos"`
		Node  string `json:"node"`
	} `json:"error"`
}

// realLab is a lab under the command as it is released, in a folder of its own.
type realLab struct {
	*lab.Lab
	dir, binary string
}

func newRealLab(t *testing.T, nodes int) realLab {
	t.Helper()
	return newLabOf(t, nodes, released)
}

// newLabOf is newRealLab of another runbook. Tests with a lab of their own mostly wait, and do so side by side.
func newLabOf(t *testing.T, nodes int, b *build) realLab {
	t.Helper()
	integration.Need(t, "root", "sshd", "ip")
	t.Parallel()
	r := realLab{dir: t.TempDir()}
	r.binary = filepath.Join(r.dir, "runbook")
	b.link(t, r.binary)
	if out, err := r.command("lab", "up", strconv.Itoa(nodes)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l, err := lab.Open(filepath.Join(r.dir, "state", "runbook", "lab"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Down(context.Background()) }) //nolint:errcheck // it fails the tests of the lab
	r.Lab = l
	return r
}

func (r realLab) command(args ...string) *exec.Cmd {
	c := exec.Command(r.binary, args...)
	c.Dir = r.dir
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "XDG_STATE_HOME=" + filepath.Join(r.dir, "state"), "NO_COLOR=1"}
	return c
}

func (r realLab) dump(t *testing.T) string {
	t.Helper()
	text, err := dumpOf(r.Lab, func(args ...string) ([]byte, error) { return r.command(args...).Output() })
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// evaluatorOf is the process id of the evaluator that the process pid has started.
func evaluatorOf(t *testing.T, pid int) int {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // any thread may have started it
	for _, path := range tasks {
		b, _ := os.ReadFile(path)
		children = append(children, b...)
		children = append(children, ' ')
	}
	for _, c := range strings.Fields(string(children)) {
		line, _ := os.ReadFile("/proc/" + c + "/cmdline")
		if args := strings.Split(string(line), "\x00"); len(args) > 1 && args[1] == "evaluator" {
			n, _ := strconv.Atoi(c)
			return n
		}
	}
	t.Fatalf("process %d has no evaluator", pid)
	return 0
}

// The evaluator dies in the middle of the live passes, after changes were made:
// they are put back, no further node starts, and the journal says so.
func TestEvaluatorDiesInLivePass(t *testing.T) {
	const nodes = 9
	r := newRealLab(t, nodes)
	before := r.dump(t)
	for _, tt := range []struct {
		name   string
		memory string
		wave   int // nodes of the first one
		kill   bool
		exit   int
		cause  string
	}{
		{"killed", "512MB", 2, true, int(engine.Internal), "the evaluator was killed by another process or by the kernel"},
		{"out of memory", "256MB", 8, false, int(engine.LimitHit), "the script needs more memory, but limit memory = 256MB (book.star:4:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(r.dir, "book.star"), fmt.Appendf(nil, held, tt.memory, tt.wave), 0o600); err != nil {
				t.Fatal(err)
			}
			c := r.command("run", "-i", "lab", "--yes", "--format", "json", "book.star")
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var errs bytes.Buffer
			c.Stderr = &errs
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			defer c.Process.Kill() //nolint:errcheck // it has ended, unless this test has failed
			evaluator := 0
			changed, back, ended := map[string]int{}, map[string]int{}, map[string]told{}
			for lines := bufio.NewScanner(out); lines.Scan(); {
				var e told
				if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
					t.Fatalf("%s: %v", lines.Text(), err)
				}
				switch e.Kind {
				case engine.EventChange:
					changed[e.Node]++
					if evaluator == 0 {
						evaluator = evaluatorOf(t, c.Process.Pid)
					}
					if tt.kill && len(changed) == tt.wave {
						syscall.Kill(evaluator, syscall.SIGKILL)
					}
				case engine.EventPutBack:
					back[e.Node]++
				case engine.EventNode:
					ended[e.Node] = e
				}
			}
			err = c.Wait()
			var status *exec.ExitError
			if !errors.As(err, &status) || status.ExitCode() != tt.exit {
				t.Errorf("%v, want exit %d: %s", err, tt.exit, errs.String())
			}
			if now := r.dump(t); now != before {
				t.Errorf("the nodes hold\n%s\nmore than before", except(now, before))
			}
			if len(changed) < 2 || len(changed) > tt.wave {
				t.Errorf("changes were made on %v", changed)
			}
			for n := range changed {
				if changed[n] != 1 || back[n] != 1 || ended[n].State != engine.NodeFailed {
					t.Errorf("%s: %d changes, %d put back, %s", n, changed[n], back[n], ended[n].State)
				}
				if e := ended[n].Err; e == nil || !strings.Contains(e.Cause, tt.cause) || !strings.HasPrefix(e.Pos, "book.star:") || e.Node != n {
					t.Errorf("%s: %+v, want %s", n, e, tt.cause)
				}
			}
			if evaluator != 0 && syscall.Kill(evaluator, 0) == nil {
				t.Errorf("the evaluator %d is still there", evaluator)
			}
			r.checkJournal(t, changed, tt.wave, tt.exit, tt.cause)
		})
	}
	// Nothing is left that would be in the way of the next run.
	if err := os.WriteFile(filepath.Join(r.dir, "next.star"), []byte("runbook()\ndef run(node, p):\n    node.route.add(dst = \"10.20.0.0/16\", via = \"10.98.0.1\", dev = \"eth1\")\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := r.command("run", "-i", "lab", "--yes", "next.star").CombinedOutput(); err != nil || !strings.Contains(string(out), fmt.Sprintf("%d done", nodes)) {
		t.Errorf("the next run: %v\n%s", err, out)
	}
}

// except is the lines of a that b has not.
func except(a, b string) string {
	lines := strings.Split(b, "\n")
	return strings.Join(slices.DeleteFunc(strings.Split(a, "\n"), func(l string) bool { return slices.Contains(lines, l) }), "\n")
}

// checkJournal holds what the journal has of the newest run to what the run said of itself.
func (r realLab) checkJournal(t *testing.T, changed map[string]int, wave, exit int, cause string) {
	t.Helper()
	var runs []engine.RunRecord
	out, err := r.command("runs", "--format", "json").Output()
	if err == nil {
		err = json.Unmarshal(out, &runs)
	}
	if err != nil || len(runs) == 0 {
		t.Fatalf("%v: %s", err, out)
	}
	var run struct {
		engine.RunRecord
		Entries []engine.Entry `json:"entries"`
	}
	out, err = r.command("show", "--format", "json", runs[0].ID).Output()
	if err == nil {
		err = json.Unmarshal(out, &run)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if run.Ended.IsZero() || run.Ended.Before(run.Started) || time.Since(run.Ended) > time.Minute {
		t.Errorf("the run ended at %s", run.Ended)
	}
	if o := run.Outcome; o == nil || o.Exit != exit || !strings.Contains(o.Error, cause) {
		t.Errorf("the outcome is %+v", o)
	} else {
		for i, n := range r.Nodes() {
			state := engine.NodeState(o.Nodes[n.Name])
			if want := engine.NodeFailed; changed[n.Name] > 0 && state != want || i >= wave && state != engine.NodeUntried {
				t.Errorf("%s ended %q, and %d changes were made there", n.Name, state, changed[n.Name])
			}
		}
	}
	kinds := map[string][]string{}
	for _, e := range run.Entries {
		kinds[e.Node] = append(kinds[e.Node], e.Kind)
		if e.Kind == "failed" && !strings.Contains(e.Text, cause) {
			t.Errorf("%s failed: %s", e.Node, e.Text)
		}
	}
	for node, got := range kinds {
		t.Logf("%s: %v", node, got)
		if changed[node] > 0 && !slices.Equal(got, []string{"plan", "intent", "done", "undo", "undone", "end"}) {
			t.Errorf("%s: the journal has %v", node, got)
		}
	}
}
