package script

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"runbook/engine"
)

// fleetHost keeps what a hook asks, and of which node.
type fleetHost struct {
	answers
	asked  []string
	prints []string
	seen   []string
}

func (h *fleetHost) Observe(_, name string, value float64) error {
	h.seen = append(h.seen, fmt.Sprint(name, " ", value))
	return nil
}

func (h *fleetHost) Do(_ context.Context, c engine.Call) (any, error) {
	h.asked = append(h.asked, c.Node+" "+c.Name)
	return map[string]any{"of": c.Node}, nil
}

func (h *fleetHost) Print(_, line string) error {
	h.prints = append(h.prints, line)
	return nil
}

func TestHooks(t *testing.T) {
	p, err := start(t, Config{}, source(`
runbook(params = {"least": param.int("how many", default = 2)})
def run(node, p):
    pass

def look(n):
    return n.route.list().of

def gate(fleet, p):
    print(fleet.wave, "of", fleet.waves)
    print([(n.name, n.state, n.vars["rack"], n.groups) for n in fleet.nodes])
    ops = [n.route for n in fleet.nodes]
    print(ops[1].list().of, look(fleet.nodes[0]), fleet.nodes[2].facts().of, getattr(fleet.nodes[0], "route")["list"]().of)
    print(fleet.nodes[0] == fleet.nodes[0], fleet.nodes[0] == fleet.nodes[1], fleet.nodes[0] in fleet.nodes)
    observe("nodes", len(fleet.nodes))
    observe(value = 0.5, name = "half")
    expect(len(fleet.nodes) > p.least, "too few")

def after(fleet, p):
    expect(fleet.wave == 0, "not at %d" % fleet.wave)
`))
	if err != nil {
		t.Fatal(err)
	}
	if h := p.Header().Hooks; len(h) != 2 || h["gate"] != "books/main.star:9:1" || h["after"] == "" {
		t.Errorf("hooks: %v", h)
	}
	f := engine.FleetInfo{Wave: 1, Waves: 3}
	for i := range 3 {
		f.Nodes = append(f.Nodes, engine.FleetNode{
			NodeInfo: engine.NodeInfo{Name: fmt.Sprint("web-", i+1), Groups: []string{"web"}, Vars: map[string]any{"rack": fmt.Sprint("r", i)}},
			State:    engine.NodeDone,
		})
	}
	h := &fleetHost{}
	if err := p.RunHook(t.Context(), "gate", f, h); err != nil {
		t.Fatal(err)
	}
	if want := []string{"web-2 route.list", "web-1 route.list", "web-3 facts", "web-1 route.list"}; !slices.Equal(h.asked, want) {
		t.Errorf("asked %q", h.asked)
	}
	want := []string{
		"1 of 3",
		`[("web-1", "done", "r0", ["web"]), ("web-2", "done", "r1", ["web"]), ("web-3", "done", "r2", ["web"])]`,
		"web-2 web-1 web-3 web-1", "True False True",
	}
	if !slices.Equal(h.prints, want) {
		t.Errorf("printed %q\nwant    %q", h.prints, want)
	}
	if !slices.Equal(h.seen, []string{"nodes 3", "half 0.5"}) {
		t.Errorf("observed %q", h.seen)
	}
	err = p.RunHook(t.Context(), "after", f, h)
	if err == nil || engine.AsError(err).Code != engine.Unreachable || !strings.Contains(err.Error(), "not at 1") || !strings.HasPrefix(err.Error(), "books/main.star:20:") {
		t.Errorf("got %v", err)
	}
	if err := p.RunHook(t.Context(), "before", f, h); err == nil {
		t.Error("a hook that is not there is called")
	}
	for i := range f.Nodes {
		f.Nodes[i].Vars = map[string]any{"rack": strings.Repeat("x", 1<<20)}
	}
	if err := p.RunHook(t.Context(), "gate", f, h); err == nil || !strings.Contains(err.Error(), "the variables of all nodes have more than") {
		t.Errorf("got %v", err)
	}
}

// What a hook returns would pass unseen, and who returns False means that it has not passed.
func TestHookReturnsNothing(t *testing.T) {
	for value, want := range map[string]string{"False": "gate returned bool False", "fleet.nodes == []": "gate returned bool True", "None": "", "print('well')": ""} {
		p, err := start(t, Config{}, source("runbook()\ndef run(node, p):\n    pass\ndef gate(fleet, p):\n    return "+value+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = p.RunHook(t.Context(), "gate", engine.FleetInfo{}, &fleetHost{})
		if want == "" && err != nil || want != "" && (err == nil || engine.AsError(err).Code != engine.Invalid || !strings.Contains(err.Error(), want)) {
			t.Errorf("return %s: %v", value, err)
		}
	}
}
