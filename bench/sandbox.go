package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/rollout"
	"runbook/engine/script"
	"runbook/node/sim"
)

// What a sandbox of its own costs a runbook: the evaluator's start, the way of
// an operation through it, and the plan of a large fleet of simulated nodes.

const sandboxSource = `runbook(limits = limits(nodes = 100000, changes = 1000000, changes_per_node = 100, steps = 10000000000))

def run(node, p):
    for i in range(%d):
        %s
`

// sandbox measures, with a fleet of so many nodes.
func sandbox(nodes int) error {
	ctx := context.Background()
	if err := planSandboxed(ctx, nodes); err != nil { // first: it tells peaks of memory
		return err
	}
	if err := startEvaluators(ctx, 100); err != nil {
		return err
	}
	return askSandboxed(ctx, 10_000)
}

func startSandboxed(ctx context.Context, times int, statement string) (*script.Program, error) {
	text := fmt.Sprintf(sandboxSource, times, statement)
	return script.Start(ctx, script.Config{Ops: builtins.Operations}, engine.Source{Main: "bench.star", Files: map[string]string{"bench.star": text}})
}

func startEvaluators(ctx context.Context, times int) error {
	var took []time.Duration
	for range times {
		begun := time.Now()
		p, err := startSandboxed(ctx, 1, "node.facts()")
		if err != nil {
			return err
		}
		took = append(took, time.Since(begun))
		if err := p.Close(); err != nil {
			return err
		}
	}
	slices.Sort(took)
	fmt.Printf("start of an evaluator       %10s  (median of %d; least %s, 95%% within %s)\n",
		round(took[times/2]), times, round(took[0]), round(took[times*95/100]))
	return nil
}

// askSandboxed has one node asked again and again, by a host that answers at once.
func askSandboxed(ctx context.Context, times int) error {
	p, err := startSandboxed(ctx, times, "node.facts()")
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // it ends with this process
	begun := time.Now()
	if err := p.Run(ctx, engine.NodeInfo{Name: "node-1"}, nothing{}); err != nil {
		return err
	}
	fmt.Printf("an operation through it     %10s  (mean of %d)\n", round(time.Since(begun)/time.Duration(times)), times)
	return nil
}

// nothing is a host that does nothing.
type nothing struct{}

func (nothing) Do(context.Context, engine.Call) (any, error)     { return nil, nil }
func (nothing) Print(string, string) error                       { return nil }
func (nothing) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func planSandboxed(ctx context.Context, n int) error {
	fleet := simulated{}
	var nodes []engine.NodeInfo
	for i := range n {
		name := fmt.Sprintf("node-%d", i+1)
		fleet[name] = sim.New(sim.LabNode(name, i%60_000+1))
		nodes = append(nodes, engine.NodeInfo{Name: name})
	}
	begun := time.Now()
	p, err := startSandboxed(ctx, 3, `node.route.add(dst = "10.20.%d.0/24" % i, via = "10.98.0.1", dev = "eth1")`)
	if err != nil {
		return err
	}
	r := &rollout.Run{
		Program: p, Nodes: nodes, Dialer: fleet, Emit: func(engine.Event) {},
		Model: func(r engine.Reader) engine.Model { return sim.Over(r) },
	}
	defer r.Close()
	plans, err := r.Predict(ctx)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	for _, np := range plans {
		if np.Err != nil || len(np.Changes()) != 3 {
			return fmt.Errorf("node %s: %d changes, %w", np.Node, len(np.Changes()), np.Err)
		}
	}
	if err := p.Close(); err != nil {
		return err
	}
	var ours, evaluator syscall.Rusage
	if err := errors.Join(syscall.Getrusage(syscall.RUSAGE_SELF, &ours), syscall.Getrusage(syscall.RUSAGE_CHILDREN, &evaluator)); err != nil {
		return err
	}
	fmt.Printf("plan of %d nodes, 3 routes each %s: controller %d MB (the simulated nodes are in it), evaluator %d MB at most\n",
		n, round(took), ours.Maxrss>>10, evaluator.Maxrss>>10)
	return nil
}

// simulated is a fleet in memory.
type simulated map[string]engine.Node

// Dial implements [engine.Dialer].
func (s simulated) Dial(_ context.Context, name string) (engine.Node, error) { return s[name], nil }

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
