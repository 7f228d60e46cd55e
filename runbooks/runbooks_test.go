// Package runbooks holds the runbooks that ship, each with its test: it is run
// by the real evaluator on simulated nodes.
package runbooks

import (
	"os"
	"strings"
	"testing"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/rollout"
	"runbook/engine/script"
	"runbook/node/sim"
)

func TestMain(m *testing.M) {
	if script.IsEvaluator() {
		script.Main(builtins.Operations, nil)
	}
	os.Exit(m.Run())
}

// plan predicts a runbook on a lab node.
func plan(t *testing.T, file string, params map[string]string) *engine.NodePlan {
	t.Helper()
	p, err := script.Start(t.Context(), script.Config{Ops: builtins.Operations}, engine.Source{Main: file})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Bind(params); err != nil {
		t.Fatal(err)
	}
	np := &engine.NodePlan{Node: "node-1"}
	pass := engine.NewPrediction(np, p.Header().Limits, sim.Over(sim.New(sim.LabNode("node-1", 1))), func(engine.Event) {})
	if err := p.Run(t.Context(), engine.NodeInfo{Name: "node-1"}, pass); err != nil {
		t.Fatal(err)
	}
	if _, err := rollout.Waves(p.Header().Rollout.Waves, 50); err != nil {
		t.Error(err)
	}
	return np
}

func TestAddRoute(t *testing.T) {
	np := plan(t, "add_route.star", map[string]string{"dst": "10.20.0.0/16", "via": "10.98.0.1"})
	if len(np.Steps) != 1 {
		t.Fatalf("%d calls, want 1", len(np.Steps))
	}
	if got := np.Steps[0].Edit.Diff().String(); got != "+ route 10.20.0.0/16 via 10.98.0.1 dev eth1\n" {
		t.Errorf("diff:\n%s", got)
	}
}

func TestAddRouteThatIsThere(t *testing.T) {
	np := plan(t, "add_route.star", map[string]string{"dst": "10.98.0.0/16", "via": "10.99.0.1", "dev": "eth0"})
	if got := np.Steps[0].Edit.Diff().String(); !strings.HasPrefix(got, "- route 10.98.0.0/16 dev eth1 proto kernel") {
		t.Errorf("replacing a route does not show what is lost:\n%s", got)
	}
}

func TestShowRoutes(t *testing.T) {
	np := plan(t, "show_routes.star", map[string]string{"dev": "eth1"})
	if len(np.Changes()) != 0 {
		t.Errorf("it changes something: %v", np.Changes())
	}
	if all := strings.Join(np.Prints, "\n"); !strings.Contains(all, "10.98.0.0/16 on-link dev eth1 metric 0 proto kernel") || strings.Contains(all, "eth0") {
		t.Errorf("prints:\n%s", all)
	}
}
