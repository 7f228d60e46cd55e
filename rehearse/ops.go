package rehearse

import "runbook/engine"

// Operations is what a test can ask, as t.….
var Operations = engine.Operations{
	"t.node":     Node{},
	"t.snapshot": Snapshot{},
	"t.pg":       Postgres{},
	"t.bouncer":  Bouncer{},
	"t.run":      RunBook{},
	"t.plan":     PlanBook{},
	"t.read":     Read{},
}

// Node makes a simulated node. Without links it is one of a lab: eth0 with
// 10.99.0.2/16, eth1 with 10.98.0.2/16 and fd00:98::2/64, their gateways at .1.
//
//	t.node("db-1", links = {"eth0": ["192.0.2.7/24"]}, routes = [{"dst": "0.0.0.0/0", "via": "192.0.2.1"}])
type Node struct {
	Name   string              `json:"name"`
	Groups []string            `json:"groups,omitempty"`
	Vars   map[string]any      `json:"vars,omitempty"`
	Links  map[string][]string `json:"links,omitempty"`  // each with its addresses, such as 192.0.2.7/24; all are up
	Routes []map[string]any    `json:"routes,omitempty"` // each as the arguments of node.route.add
	// The TCP ends that it holds, such as 192.0.2.7:40000; where there is no such list, none of them can be told.
	Sockets []string `json:"sockets,omitzero"`
}

func (o Node) String() string { return o.Name }

// Snapshot makes a simulated node of what runbook snapshot has recorded of a real one.
//
//	t.snapshot("web-1.json")
type Snapshot struct {
	File string `json:"file"`           // beside the test file
	Name string `json:"name,omitempty"` // of the node; else the recorded one
}

func (o Snapshot) String() string { return o.File }

// RunBook runs the runbook on the test's nodes, or on some of them: predicted,
// and then done, wave by wave, without the waits between them. It returns a struct of diff, changes, prints, and
// hooks: the names of before, gate and after in the order in which they were called, first of all
// those of the plan; what they print comes last in prints. It has error, where an error was expected.
//
//	t.run(params = {"dst": "10.20.0.0/16", "via": "10.98.0.1"}, diff = "+ route 10.20.0.0/16 via 10.98.0.1 dev eth1")
type RunBook struct {
	Params  map[string]any `json:"params,omitempty"`
	Nodes   []string       `json:"nodes,omitempty"`   // by name; else all
	Diff    *string        `json:"diff,omitempty"`    // what it must change, as a dry run shows it; "": nothing
	Runbook string         `json:"runbook,omitempty"` // beside the test file; else the one that the file is named after
}

// PlanBook is t.run without doing it. Of the hooks, before and gate are called, once.
//
//	t.plan(params = {"dev": "eth1"}, diff = "")
type PlanBook RunBook

// Read returns the lines of what a node of the test holds of a kind: "route", "addr", "link", "rule", "neigh"; of
// a Postgres beside it, or of one that hooks share, by its DSN, "backend" and "setting"; of a pgbouncer "pool" and "pooled".
//
//	expect("10.20.0.0/16 via 10.98.0.1 dev eth1" in t.read("web-1", "route"), "it is not there")
type Read struct {
	Node string `json:"node"`
	Kind string `json:"kind"`
}

func (o Read) String() string { return o.Node + " " + o.Kind }
