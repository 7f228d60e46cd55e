package script

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"runbook/engine"
)

// serverHost keeps what is asked of servers: of which node or target, what, with which arguments.
type serverHost struct {
	answers
	asked []string
}

func (h *serverHost) Do(_ context.Context, c engine.Call) (any, error) {
	h.asked = append(h.asked, fmt.Sprintf("%s: %s %s", c.Node, c.Name, c.Args))
	return map[string]any{"n": 7}, nil
}

// A node's own servers are asked as the node is; those that nodes share, by names of their own.
func TestServers(t *testing.T) {
	p, err := start(t, Config{}, source(`
runbook()
def run(node, p):
    mine = node.db("dbname=app")
    expect(mine.count().n == 7, "no")
    mine.set("a", value = "1")
    db.connect("service=main").count(state = "idle")

def gate(fleet, p):
    n = fleet.nodes[1]
    n.db("dbname=app").count()
    db.connect("service=main", via = n).count("idle")
    db.connect(server = "service=main", via = "web-1").count()
    db.connect("x").reap(fleet)
    db.connect("x").reap(fleet = fleet)
`))
	if err != nil {
		t.Fatal(err)
	}
	h := &serverHost{}
	if err := p.Run(t.Context(), engine.NodeInfo{Name: "web-1"}, h); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`: db.count {"server":"dbname=app"}`, `: db.set {"server":"dbname=app","name":"a","value":"1"}`,
		`db service=main: db.count {"server":"service=main","state":"idle"}`,
	}
	if !slices.Equal(h.asked, want) {
		t.Errorf("asked %q\nwant  %q", h.asked, want)
	}
	h.asked = nil
	f := engine.FleetInfo{Nodes: []engine.FleetNode{{NodeInfo: engine.NodeInfo{Name: "web-1"}}, {NodeInfo: engine.NodeInfo{Name: "web-2"}}}}
	if err := p.RunHook(t.Context(), "gate", f, h); err != nil {
		t.Fatal(err)
	}
	want = []string{
		`web-2: db.count {"server":"dbname=app"}`,
		`db service=main via web-2: db.count {"server":"service=main","state":"idle"}`,
		`db service=main via web-1: db.count {"server":"service=main"}`,
		`db x: db.reap {"server":"x"}`, `db x: db.reap {"server":"x"}`,
	}
	if !slices.Equal(h.asked, want) {
		t.Errorf("asked %q\nwant  %q", h.asked, want)
	}
	for name, want := range map[string]engine.Target{
		"db service=main": {Domain: "db", Server: "service=main"}, "db host=a port=1 via web-2": {Domain: "db", Server: "host=a port=1", Via: "web-2"},
	} {
		if got, is := engine.ParseTarget(name); !is || got != want || got.String() != name {
			t.Errorf("%q is %+v, %v", name, got, is)
		}
	}
	if engine.IsTarget("web-1") {
		t.Error("a node is taken for a target")
	}
}

func TestServersAreShownByTheirNames(t *testing.T) {
	p, err := start(t, Config{}, source("runbook()\ndef run(node, p):\n    expect(str(node.db('dbname=app')) == '<db dbname=app>', str(node.db('dbname=app')))\n"+
		"    expect(str(struct(at = db.connect('service=main', via = 'web-2'))) == 'struct(at = <db service=main via web-2>)', str(db.connect('x')))\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Run(t.Context(), engine.NodeInfo{Name: "web-1"}, &serverHost{}); err != nil {
		t.Error(err)
	}
}

func TestServersThatCannotBe(t *testing.T) {
	for call, want := range map[string]string{
		`node.db("")`:                        "server must have 1 to 1000 bytes",
		`node.db("a\nb")`:                    "names none",
		`node.db("x via y")`:                 "names none",
		`node.db(1)`:                         "got int",
		`node.db("x").count(server = "y")`:   "unexpected argument server",
		`node.db("x").count("idle", "more")`: "takes 1 arguments (state), got 2",
		`node.db("x").cuont()`:               "count",
		`db.connect("x", via = "")`:          "via names no node",
		`db.connect("x", via = 1)`:           "via: want a node or its name",
		`db.connect("x", through = "y")`:     "unexpected argument through",
		`db.connect("x" * 2000)`:             "server must have",
		`node.db("x").reap("y")`:             "takes 0 arguments",
		`node.db("x").count(fleet = 1)`:      "unexpected argument fleet",
		`node.db.count()`:                    "count",
	} {
		p, err := start(t, Config{}, source("runbook()\ndef run(node, p):\n    "+call+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		h := &serverHost{}
		if err := p.Run(t.Context(), engine.NodeInfo{Name: "web-1"}, h); err == nil || !strings.Contains(err.Error(), want) || len(h.asked) > 0 {
			t.Errorf("%s: %v, asked %q", call, err, h.asked)
		}
		p.Close()
	}
}
