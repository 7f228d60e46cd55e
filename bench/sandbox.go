package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/script"
)

// What a sandbox of its own costs a runbook: the evaluator's start, the way of
// an operation through it, and the plan of a large fleet of simulated nodes.

const sandboxSource = `runbook(limits = limits(nodes = 100000, changes = 1000000, changes_per_node = 100, steps = 10000000000))

def run(node, p):
    for i in range(%d):
        %s
`

// sandbox measures, with a fleet of so many nodes. exe is runbook; "": it is built.
func sandbox(exe string, nodes int) error {
	dir, err := os.MkdirTemp("", "runbook-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if exe == "" {
		exe = filepath.Join(dir, "runbook")
		if out, err := exec.Command("go", "build", "-o", exe, "runbook/cmd/runbook").CombinedOutput(); err != nil {
			return fmt.Errorf("building runbook: %w\n%s", err, out)
		}
	}
	if err := planSimulated(exe, dir, nodes); err != nil {
		return err
	}
	ctx := context.Background()
	if err := startEvaluators(ctx, exe, 100); err != nil {
		return err
	}
	return askSandboxed(ctx, exe, 10_000)
}

// startSandboxed starts exe as an evaluator, as runbook does itself: a smaller program would start sooner.
func startSandboxed(ctx context.Context, exe string, times int, statement string) (*script.Program, error) {
	text := fmt.Sprintf(sandboxSource, times, statement)
	cfg := script.Config{Ops: builtins.Operations, Command: []string{exe, script.EvaluatorArg}}
	return script.Start(ctx, cfg, engine.Source{Main: "bench.star", Files: map[string]string{"bench.star": text}})
}

func startEvaluators(ctx context.Context, exe string, times int) error {
	var took []time.Duration
	for range times {
		begun := time.Now()
		p, err := startSandboxed(ctx, exe, 1, "node.facts()")
		if err != nil {
			return err
		}
		took = append(took, time.Since(begun))
		if err := p.Close(); err != nil {
			return err
		}
	}
	slices.Sort(took)
	fmt.Printf("start of an evaluator       %10s  (wanted: at most 10ms): %s; median of %d, least %s, 95%% within %s\n",
		round(took[times/2]), verdict(took[times/2] <= 10*time.Millisecond), times, round(took[0]), round(took[times*95/100]))
	return nil
}

// askSandboxed has one node asked again and again, by a host that answers at once.
func askSandboxed(ctx context.Context, exe string, times int) error {
	p, err := startSandboxed(ctx, exe, times, "node.facts()")
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // it ends with this process
	begun := time.Now()
	if err := p.Run(ctx, engine.NodeInfo{Name: "node-1"}, nothing{}); err != nil {
		return err
	}
	each := time.Since(begun) / time.Duration(times)
	fmt.Printf("an operation through it     %10s  (wanted: at most 100µs): %s; mean of %d\n", round(each), verdict(each <= 100*time.Microsecond), times)
	return nil
}

// nothing is a host that does nothing.
type nothing struct{}

func (nothing) Do(context.Context, engine.Call) (any, error)     { return nil, nil }
func (nothing) Print(string, string) error                       { return nil }
func (nothing) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

const plannedSource = `"""Add three routes."""

runbook(limits = limits(nodes = 100000, changes = 1000000))

def run(node, p):
    for i in range(3):
        node.route.add(dst = "10.20.%d.0/24" % i, via = "10.98.0.1", dev = "eth1")
`

// What a plan of 10,000 simulated nodes may take: MB of both processes together.
const (
	planWithin = 5 * time.Second
	planMemory = 500
)

// planSimulated has exe, which is runbook, plan for n simulated nodes, as an operator does, and
// tells how long that took from its start to its end and the most that its two processes held.
func planSimulated(exe, dir string, n int) error {
	file := filepath.Join(dir, "routes.star")
	if err := os.WriteFile(file, []byte(plannedSource), 0o600); err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := exec.Command(exe, "plan", "--lab", strconv.Itoa(n), file)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir, "RUNBOOK_LAB=sim")
	cmd.Stdout, cmd.Stderr = &out, &out
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended, peak := make(chan struct{}), make(chan int)
	go func() { peak <- evaluatorPeak(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	took := time.Since(begun)
	close(ended)
	evaluator := <-peak >> 10
	if planned := fmt.Sprintf("%d nodes, %d changes\n", n, 3*n); err != nil || !strings.Contains(out.String(), planned) {
		return fmt.Errorf("runbook plan has not said %q: %w\n%.2000s", planned, err, &out)
	}
	controller := int(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10)
	fmt.Printf("runbook plan --lab %d: 3 routes on each simulated node\n", n)
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() // the evaluator's in it
	fmt.Printf("  from start to end         %10s  (wanted for 10,000: at most %s): %s; %s of CPU\n", round(took), planWithin, verdict(took <= planWithin), round(used))
	fmt.Printf("  controller and evaluator  %7d MB  (wanted for 10,000: at most %d): %s; %d, the simulated nodes in it, and %d at their peaks\n",
		controller+evaluator, planMemory, verdict(controller+evaluator <= planMemory), controller, evaluator)
	return nil
}

func verdict(holds bool) string {
	if holds {
		return "holds"
	}
	return "DOES NOT HOLD"
}

// evaluatorPeak looks, until ended, at the evaluator that the process pid has started,
// and returns the most that it was resident, in KB. What the kernel says of a
// process that has ended counts what its parent held when it was started, too.
func evaluatorPeak(pid int, ended <-chan struct{}) (peak int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return peak
		case <-tick.C:
		}
		for _, child := range children(pid) {
			argv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
			if bytes.Contains(argv, []byte("\x00"+script.EvaluatorArg+"\x00")) {
				peak = max(peak, status(child, "VmHWM"))
			}
		}
	}
}

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
