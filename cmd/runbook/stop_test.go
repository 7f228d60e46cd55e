//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"runbook/engine"
)

// These tests stop runs of the real binary on a lab, at every stage and in every way, and
// let two of them meet on the same nodes.

// waitingBook is two routes; between them it waits, but not in its prediction, until the test has made another one.
const waitingBook = `"""Two routes, and a wait between them."""

runbook(
    params = {"via": param.ip("next hop", default = "10.98.0.1")},
    limits = limits(nodes = 10, changes_per_node = 3, changes_per_minute = 100000, changes_per_hour = 100000, nodes_per_hour = 100000, failures_per_hour = 100000),
    rollout = rollout(waves = [%[1]s], bake = "%[2]s", max_failures = %[3]d),
)

def run(node, p):
    node.route.add(dst = "10.20.0.0/16", via = p.via, dev = "eth1")
    tries = []
    def told():
        tries.append(1)
        expect(len(tries) == %[4]d or "10.99.99.0/24" in [r.dst for r in node.route.list()], "not yet")
    retry(%[4]d, "100ms", told)
    node.route.add(dst = "10.21.0.0/16", via = p.via, dev = "eth1")
`

// waitingGate waits after the first wave.
const waitingGate = `
def gate(fleet, p):
    def never():
        expect(False, "it is not well")
    if fleet.wave == 1:
        retry(6000, "100ms", never)
`

const patient = time.Minute // more than anything here takes on a busy machine

func (r realLab) book(t *testing.T, name, waves, bake string, maxFailures, tries int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), fmt.Appendf(nil, waitingBook, waves, bake, maxFailures, tries), 0o600); err != nil {
		t.Fatal(err)
	}
}

// on has a shell on a node do something, and returns what it says.
func (r realLab) on(t *testing.T, node, script string) string {
	t.Helper()
	out, err := r.command("lab", "exec", node, "--", "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", node, script, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r realLab) everywhere(t *testing.T, script string) (out string) {
	t.Helper()
	for _, n := range r.Nodes() {
		if s := r.on(t, n.Name, script); s != "" {
			out += n.Name + " " + s + "\n"
		}
	}
	return out
}

const (
	tell   = "ip route replace 10.99.99.0/24 dev eth1"
	untell = "ip route del 10.99.99.0/24 2>/dev/null; true"
	clear  = untell + "; ip route del 10.20.0.0/16 2>/dev/null; ip route del 10.21.0.0/16 2>/dev/null; true"
)

// left is what is left of runs: agents and sessions on the nodes, evaluators here.
func (r realLab) left(t *testing.T) string {
	t.Helper()
	out := r.everywhere(t, "find /proc -maxdepth 2 -name exe -lname '*/agent-*' 2>/dev/null; pgrep -a sshd | grep -v listener; true")
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, exe := range exes {
		if path, _ := os.Readlink(exe); path != r.binary {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(exe), "cmdline"))
		if args := strings.Split(string(line), "\x00"); len(args) > 1 && args[1] == "evaluator" {
			out += exe + " is an evaluator\n"
		}
	}
	return out
}

// nothingLeft wants no process of a run to be there ten seconds after its end.
func (r realLab) nothingLeft(t *testing.T) {
	t.Helper()
	start := time.Now()
	for {
		left := r.left(t)
		if left == "" {
			return
		}
		if time.Since(start) > 10*time.Second {
			t.Fatalf("10 s after the end of the run there is still\n%s", left)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// going is a run that is going on.
type going struct {
	*exec.Cmd
	in    io.WriteCloser
	ended chan struct{}

	mu     sync.Mutex
	events []engine.Event
	asked  bytes.Buffer // stderr
}

// Write takes what the run says on stderr.
func (g *going) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked.Write(b)
}

func (r realLab) begin(t *testing.T, args ...string) *going {
	t.Helper()
	g := &going{Cmd: r.command(append(args, "--format", "json")...), ended: make(chan struct{})}
	g.Stderr = g
	var err error
	if g.in, err = g.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := g.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Process.Kill(); <-g.ended })
	go func() {
		defer close(g.ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e engine.Event
			json.Unmarshal(lines.Bytes(), &e) //nolint:errcheck // an event that is missing is missed
			g.mu.Lock()
			g.events = append(g.events, e)
			g.mu.Unlock()
		}
		g.Wait() //nolint:errcheck // its exit code is asked for
	}()
	return g
}

// until waits for an event, and returns when it was there.
func (g *going) until(t *testing.T, what string, is func(engine.Event) bool) time.Time {
	t.Helper()
	for end := time.Now().Add(patient); ; time.Sleep(5 * time.Millisecond) {
		g.mu.Lock()
		found, said := slices.ContainsFunc(g.events, is), g.asked.String()
		g.mu.Unlock()
		if found {
			return time.Now()
		}
		select {
		case <-g.ended:
			t.Fatalf("the run ended before: %s\n%s", what, said)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("never: %s\n%s", what, said)
		}
	}
}

func (g *going) asks(t *testing.T, what string) {
	t.Helper()
	for end := time.Now().Add(patient); ; time.Sleep(5 * time.Millisecond) {
		g.mu.Lock()
		said := g.asked.String()
		g.mu.Unlock()
		if strings.Contains(said, what) {
			return
		}
		select {
		case <-g.ended:
			t.Fatalf("it ended, and did not say %q:\n%s", what, said)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("it does not say %q:\n%s", what, said)
		}
	}
}

// exits wants the run to end with code, and returns what it said on stderr.
func (g *going) exits(t *testing.T, code engine.Code) string {
	t.Helper()
	select {
	case <-g.ended:
	case <-time.After(patient):
		t.Fatal("it does not end")
	}
	if got := g.ProcessState.ExitCode(); got != int(code) {
		t.Errorf("exit %d, want %d\n%s", got, code, g.asked.String())
	}
	return g.asked.String()
}

// states is what the journal says of the nodes of the newest run.
func (r realLab) states(t *testing.T) (run listedRun) {
	t.Helper()
	out, err := r.command("runs", "--format", "json").Output()
	var runs []listedRun
	if err == nil {
		err = json.Unmarshal(out, &runs)
	}
	if err != nil || len(runs) == 0 {
		t.Fatalf("%v: %s", err, out)
	}
	return runs[0]
}

// wantStates wants the nodes of the newest run to be so: "done done untried".
func (r realLab) wantStates(t *testing.T, want ...engine.NodeState) {
	t.Helper()
	run := r.states(t)
	if run.Outcome == nil || run.State != runEnded {
		t.Fatalf("the record of %s is not closed: %s", run.ID, run.State)
	}
	for i, s := range want {
		if got := run.Outcome.Nodes[fmt.Sprintf("node-%d", i+1)]; got != string(s) {
			t.Errorf("node-%d is %q, want %q", i+1, got, s)
		}
	}
}

// inFlight waits until the run is between its two changes on a node.
func (r realLab) inFlight(t *testing.T, g *going, nodes ...string) {
	t.Helper()
	for _, n := range nodes {
		g.until(t, n+" is in flight", func(e engine.Event) bool { return e.Kind == engine.EventChange && e.Node == n })
	}
}

// ways are those of stopping a run: once, or, with --now, as twice. runbook stop waits until the run has taken note.
func (r realLab) ways() map[string]func(t *testing.T, g *going) {
	stop := func(args func(id string) []string) func(t *testing.T, g *going) {
		return func(t *testing.T, g *going) {
			t.Helper()
			id := r.states(t).ID
			start := time.Now()
			out, err := r.command(append([]string{"stop"}, args(id)...)...).CombinedOutput()
			if took := time.Since(start); err != nil || !strings.HasPrefix(string(out), id+": it stops") || took > 10*time.Second {
				t.Errorf("after %v: %v: %s", took, err, out)
			} else {
				t.Logf("runbook stop was answered after %s", took.Round(time.Millisecond))
			}
		}
	}
	return map[string]func(t *testing.T, g *going){
		"Ctrl-C": func(t *testing.T, g *going) {
			if err := g.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		},
		"stop RUN":      stop(func(id string) []string { return []string{id} }),
		"stop RU":       stop(func(id string) []string { return []string{id[:len(id)-1]} }),
		"stop --all":    stop(func(string) []string { return []string{"--all"} }),
		"stop --now":    stop(func(id string) []string { return []string{"--now", id} }),
		"stop now, all": stop(func(string) []string { return []string{"--all", "--now"} }),
	}
}

func TestStopAtEveryStage(t *testing.T) {
	r := newRealLab(t, 4)
	r.book(t, "book.star", `"2", "100%"`, "10m", 0, 600)
	r.everywhere(t, clear)
	empty := r.dump(t)
	args := []string{"run", "book.star", "-i", "lab"}
	untried := []engine.NodeState{engine.NodeUntried, engine.NodeUntried, engine.NodeUntried, engine.NodeUntried}
	asBefore := func(t *testing.T) {
		t.Helper()
		r.nothingLeft(t)
		if now := r.dump(t); now != empty {
			t.Errorf("the nodes hold\n%s\nwant\n%s", now, empty)
		}
	}
	ways := r.ways()
	for _, way := range []string{"Ctrl-C", "stop RU", "stop --all"} {
		t.Run(way+" while predicting", func(t *testing.T) {
			r.on(t, "node-4", "kill -STOP $(pgrep -o sshd)") // it is not reached
			defer r.on(t, "node-4", "kill -CONT $(pgrep -o sshd)")
			g := r.begin(t, append(args, "--yes")...)
			for end := time.Now().Add(patient); r.agents(t) < 3; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("the others are not predicted: %s", g.asked.String())
				}
			}
			if s := r.states(t); s.State != runGoing {
				t.Errorf("the run is %q", s.State)
			}
			ways[way](t, g)
			g.exits(t, engine.Interrupted)
			r.on(t, "node-4", "kill -CONT $(pgrep -o sshd)")
			r.wantStates(t)
			asBefore(t)
		})
		t.Run(way+" at the question", func(t *testing.T) {
			g := r.begin(t, args...)
			g.asks(t, "apply to node-1?")
			ways[way](t, g)
			g.exits(t, engine.Interrupted)
			r.wantStates(t, untried...)
			asBefore(t)
		})
		t.Run(way+" in flight", func(t *testing.T) {
			g := r.begin(t, append(args, "--yes")...)
			r.inFlight(t, g, "node-1", "node-2")
			start := time.Now()
			ways[way](t, g)
			t.Logf("the run said so %s after", g.until(t, "it says that it stops", func(e engine.Event) bool { return e.Kind == engine.EventStopping }).Sub(start).Round(time.Millisecond))
			time.Sleep(300 * time.Millisecond)
			r.everywhere(t, tell)
			defer r.everywhere(t, clear)
			g.exits(t, engine.Interrupted)
			r.wantStates(t, engine.NodeDone, engine.NodeDone, engine.NodeUntried, engine.NodeUntried)
			r.nothingLeft(t)
		})
		t.Run(way+" while it bakes", func(t *testing.T) {
			r.everywhere(t, tell)
			defer r.everywhere(t, clear)
			g := r.begin(t, append(args, "--yes")...)
			g.until(t, "it bakes", func(e engine.Event) bool { return e.Kind == engine.EventBake })
			ways[way](t, g)
			g.exits(t, engine.Interrupted)
			r.wantStates(t, engine.NodeDone, engine.NodeDone, engine.NodeUntried, engine.NodeUntried)
			r.nothingLeft(t)
		})
	}
	t.Run("Ctrl-C while a gate waits", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(r.dir, "book.star"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(r.dir, "gate.star"), append(text, waitingGate...), 0o600); err != nil {
			t.Fatal(err)
		}
		r.everywhere(t, tell)
		defer r.everywhere(t, clear)
		g := r.begin(t, "run", "gate.star", "-i", "lab", "--yes")
		for _, n := range []string{"node-1", "node-2"} {
			g.until(t, n+" is done", func(e engine.Event) bool { return e.Node == n && e.State == engine.NodeDone })
		}
		time.Sleep(500 * time.Millisecond)
		ways["Ctrl-C"](t, g)
		g.exits(t, engine.Interrupted)
		r.wantStates(t, engine.NodeDone, engine.NodeDone, engine.NodeUntried, engine.NodeUntried)
		r.nothingLeft(t)
	})
	for _, twice := range [][]string{{"Ctrl-C", "Ctrl-C"}, {"stop RUN", "stop RUN"}, {"Ctrl-C", "stop --all"}, {"stop --now"}, {"stop now, all"}} {
		t.Run(strings.Join(twice, " and ")+" in flight", func(t *testing.T) {
			g := r.begin(t, append(args, "--yes")...)
			r.inFlight(t, g, "node-1", "node-2")
			for i, way := range twice {
				if i > 0 {
					g.until(t, "it says that it stops", func(e engine.Event) bool { return e.Kind == engine.EventStopping })
				}
				ways[way](t, g)
			}
			g.exits(t, engine.Interrupted)
			r.wantStates(t, engine.NodeFailed, engine.NodeFailed, engine.NodeUntried, engine.NodeUntried)
			asBefore(t)
		})
	}
	t.Run("again while it puts back", func(t *testing.T) {
		g := r.begin(t, append(args, "--yes")...)
		r.inFlight(t, g, "node-1", "node-2")
		stopAgent := "kill -%s $(basename $(dirname $(find /proc -maxdepth 2 -name exe -lname '*/agent-*' 2>/dev/null | head -1)))"
		r.on(t, "node-1", fmt.Sprintf(stopAgent, "STOP"))
		ways["stop --now"](t, g)
		g.until(t, "node-2 is put back", func(e engine.Event) bool {
			return e.Kind == engine.EventNode && e.Node == "node-2" && e.State == engine.NodeFailed
		})
		ways["stop --now"](t, g)
		ways["Ctrl-C"](t, g)
		time.Sleep(300 * time.Millisecond)
		r.on(t, "node-1", fmt.Sprintf(stopAgent, "CONT"))
		g.exits(t, engine.Interrupted)
		r.wantStates(t, engine.NodeFailed, engine.NodeFailed, engine.NodeUntried, engine.NodeUntried)
		asBefore(t)
	})
	t.Run("a run that is over", func(t *testing.T) {
		id := r.states(t).ID
		out, err := r.command("stop", id).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "run "+id+" is not going on: exit 130") {
			t.Errorf("%v: %s", err, out)
		}
		if out, err := r.command("stop", "--all").CombinedOutput(); err != nil || !strings.Contains(string(out), "no run is going on") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// agents is how many agents run on the nodes.
func (r realLab) agents(t *testing.T) int {
	t.Helper()
	return strings.Count(r.everywhere(t, "find /proc -maxdepth 2 -name exe -lname '*/agent-*' 2>/dev/null; true"), "/exe")
}

// A run whose controller is killed leaves no process anywhere, is said to have been
// killed, cannot be stopped, and can be taken up at once, whatever its agents still hold.
func TestKilledInFlight(t *testing.T) {
	r := newRealLab(t, 3)
	r.book(t, "book.star", `"2", "100%"`, "0s", 0, 600)
	g := r.begin(t, "run", "book.star", "-i", "lab", "--yes")
	r.inFlight(t, g, "node-1", "node-2")
	if err := g.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-g.ended
	killed := time.Now()
	r.nothingLeft(t)
	t.Logf("nothing was left %s after the kill", time.Since(killed).Round(time.Millisecond))
	run := r.states(t)
	if run.State != runKilled || run.Outcome != nil {
		t.Errorf("it is %q: %v", run.State, run.Outcome)
	}
	if out, err := r.command("runs").Output(); err != nil || !strings.Contains(string(out), "killed: runbook resume "+run.ID) {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := r.command("show", "--format", "json", run.ID).Output(); err != nil || !strings.Contains(string(out), `"state": "killed"`) {
		t.Errorf("%v: %s", err, out)
	}
	out, err := r.command("stop", run.ID).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is not going on: killed: runbook resume "+run.ID) {
		t.Errorf("%v: %s", err, out)
	}
	r.everywhere(t, tell)
	for _, agents := range []string{"gone", "still there"} {
		if agents == "still there" { // the next controller takes up while the agents of this one hold their nodes
			r.everywhere(t, clear)
			g := r.begin(t, "run", "book.star", "-i", "lab", "--yes")
			r.inFlight(t, g, "node-1", "node-2")
			r.everywhere(t, "kill -STOP $(basename $(dirname $(find /proc -maxdepth 2 -name exe -lname '*/agent-*' 2>/dev/null | head -1))) 2>/dev/null; true")
			g.Process.Kill()
			<-g.ended
			run = r.states(t)
			r.everywhere(t, tell)
		}
		start := time.Now()
		out, err := r.command("resume", run.ID, "--yes").CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", agents, err, out)
		}
		for _, n := range []string{"node-1", "node-2"} {
			said := regexp.MustCompile(n + `: ending the agent that this run left there: process \d+, there for \d+s, which is stopped`).Match(out)
			if said != (agents == "still there") {
				t.Errorf("agents %s: of that of %s it says\n%s", agents, n, out)
			}
		}
		t.Logf("agents %s: taken up and done in %s", agents, time.Since(start).Round(time.Millisecond))
		r.wantStates(t, engine.NodeDone, engine.NodeDone, engine.NodeDone)
	}
	// An agent of node-3, that stands still and that nobody replaced, goes on to its end.
	r.everywhere(t, "kill -CONT $(basename $(dirname $(find /proc -maxdepth 2 -name exe -lname '*/agent-*' 2>/dev/null | head -1))) 2>/dev/null; true")
	r.nothingLeft(t)
}

// Of two runs on the same nodes one has each node; the other is told who, and is unharmed.
func TestTwoRunsMeet(t *testing.T) {
	r := newRealLab(t, 6)
	r.book(t, "slow.star", `"2", "100%"`, "0s", 0, 600)
	a := r.begin(t, "run", "slow.star", "-i", "lab", "--yes")
	r.inFlight(t, a, "node-1", "node-2")
	first := r.states(t).ID
	held := r.dump(t)

	out, err := r.command("run", "slow.star", "via=10.98.0.9", "-i", "lab", "--yes").CombinedOutput()
	if code := engine.Code(err.(*exec.ExitError).ExitCode()); code != engine.Unreachable ||
		!strings.Contains(string(out), "run "+first+" of ") || !strings.Contains(string(out), " works on this node, since 20") || !strings.Contains(string(out), "nothing changed") {
		t.Errorf("the second run: exit %v\n%s", code, out)
	}
	if now := r.dump(t); now != held {
		t.Errorf("it changed something:\n%s\nwas\n%s", now, held)
	}
	if out, err := r.command("plan", "slow.star", "via=10.98.0.9", "-i", "lab", "-n", "node-3").CombinedOutput(); err != nil {
		t.Errorf("a plan: %v\n%s", err, out)
	}
	r.everywhere(t, tell)
	a.exits(t, engine.OK)
	r.nothingLeft(t)

	// Both have predicted before the first begins, and then they begin at the same time.
	r.book(t, "fast.star", `"100%"`, "0s", 6, 2)
	won, lost := map[string]int{}, map[string]int{}
	for round := range 8 {
		r.everywhere(t, clear)
		runs := []*going{
			r.begin(t, "run", "fast.star", "via=10.98.0.1", "-i", "lab"),
			r.begin(t, "run", "fast.star", "via=10.98.0.9", "-i", "lab"),
		}
		for _, g := range runs {
			g.asks(t, "apply to node-1?")
		}
		for _, g := range runs {
			fmt.Fprint(g.in, "a\n6\n") // as many as are alike
		}
		for _, g := range runs {
			<-g.ended
			for _, e := range g.events {
				if e.Kind == engine.EventNode && e.Err != nil {
					cause := e.Err.Cause
					if strings.Contains(cause, " works on this node, since 20") {
						cause = "the other run works on it"
					}
					lost[cause+"; "+e.Err.Left]++
				}
			}
		}
		for _, n := range r.Nodes() {
			var done []string
			for i, via := range []string{"10.98.0.1", "10.98.0.9"} {
				if slices.ContainsFunc(runs[i].events, func(e engine.Event) bool { return e.Node == n.Name && e.State == engine.NodeDone }) {
					done = append(done, via)
				}
				if slices.ContainsFunc(runs[i].events, func(e engine.Event) bool { return e.Node == n.Name && e.State == engine.NodeInDoubt }) {
					t.Errorf("round %d: %s is in doubt in the run by %s", round, n.Name, via)
				}
			}
			want := ""
			if len(done) > 0 {
				want = fmt.Sprintf("10.20.0.0/16 via %s dev eth1 proto static \n10.21.0.0/16 via %s dev eth1 proto static", done[0], done[0])
				won[done[0]]++
			}
			got := r.on(t, n.Name, "ip -4 route show | grep -E '^10.2[01]'; true")
			if len(done) > 1 || strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
				t.Errorf("round %d: %s is done by %v and holds %q", round, n.Name, done, got)
			}
		}
		if t.Failed() {
			for _, g := range runs {
				t.Logf("%s", g.asked.String())
				for _, e := range g.events {
					if e.Err != nil {
						t.Logf("%s %s: %v", e.Kind, e.Node, e.Err)
					}
				}
			}
			break
		}
	}
	t.Logf("nodes that each run had: %v; where they were refused: %v", won, lost)
	if won["10.98.0.1"]+won["10.98.0.9"] == 0 {
		t.Error("no run did anything")
	}
	for why := range lost {
		if !strings.HasSuffix(why, engine.NothingChanged) {
			t.Errorf("a refused run has touched a node: %s", why)
		}
	}
	r.nothingLeft(t)
}

func (g *going) snapshot() []engine.Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.events)
}
