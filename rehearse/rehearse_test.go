package rehearse

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/script"
	"runbook/node/sim"
)

func TestMain(m *testing.M) {
	if script.IsEvaluator() {
		script.Main(builtins.Operations, Operations)
	}
	os.Exit(m.Run())
}

// book is the runbook of these tests.
const book = `"""Add a route."""
runbook(
    params = {"via": param.ip("next hop", default = "10.98.0.1"), "metric": param.int("metric", default = 0), "look": param.bool("look first", default = False)},
    limits = limits(changes_per_node = 2),
)

def run(node, p):
    if p.look:
        print(node.facts().hostname)
    node.route.add(dst = "10.20.0.0/16", via = p.via, dev = "eth1", metric = p.metric)
`

// files writes a folder with book.star and these, and returns it.
func files(t testing.TB, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	texts["book.star"] = book
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// config is how these tests run the runbooks.
func config() script.Config { return script.Config{Ops: builtins.Operations} }

// rehearsed runs the tests of a folder.
func rehearsed(t *testing.T, dir string, cfg script.Config) (told map[string]Result, r Report) {
	t.Helper()
	found, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	told = map[string]Result{}
	r, err = Run(t.Context(), found, nil, cfg, func(r Result) {
		key := r.Name
		if key == "" {
			key = filepath.Base(r.File)
		}
		if r.Err != nil && r.Name == "" {
			key += strings.TrimPrefix(r.Err.Pos, r.File)
		}
		if _, twice := told[key]; twice {
			t.Errorf("%s is told twice", key)
		}
		told[key] = r
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(told) != len(r.Results) {
		t.Errorf("%d results are told, and %d reported", len(told), len(r.Results))
	}
	return told, r
}

// wants holds results to what they should be: "" for one that passed, otherwise
// what the error says, which begins with its position in the file.
func wants(t *testing.T, dir string, told map[string]Result, want map[string]string) {
	t.Helper()
	for name, text := range want {
		r, there := told[name]
		switch {
		case !there:
			t.Errorf("%s is not told of", name)
		case text == "" && r.Err != nil:
			t.Errorf("%s has failed: %v", name, r.Err)
		case text != "" && r.Err == nil:
			t.Errorf("%s has passed, and was to fail with %s", name, text)
		case text != "":
			got := strings.TrimPrefix(r.Err.Error(), dir+string(filepath.Separator))
			if !regexp.MustCompile("^" + text).MatchString(got) {
				t.Errorf("%s failed with\n%s\nwant %s", name, got, text)
			}
		}
		delete(told, name)
	}
	for name, r := range told {
		t.Errorf("%s is told of: %v", name, r.Err)
	}
}

func TestResults(t *testing.T) {
	dir := files(t, map[string]string{"book_test.star": `"""Each in its own way."""

def test_passes(t):
    t.node("web-1")
    t.run(diff = """
        + route 10.20.0.0/16 via 10.98.0.1 dev eth1
    """)
    t.run(diff = "")

def test_other_diff(t):
    t.node("web-1")
    t.run(diff = "+ route 10.20.0.0/16 via 10.98.0.9 dev eth1")

def test_nothing_expected(t):
    t.node("web-1")
    t.plan(diff = "")

def test_expected(t):
    t.node("web-1")
    t.run(params = {"via": "192.0.2.1"})  ### "next hop 192\\.0\\.2\\.1 is not on-link"
    expect(False, "as expected")  ### "^.*as expected$"

def test_does_not_fail(t):
    t.node("web-1")
    t.run()  ### "boom"

def test_fails_otherwise(t):
    t.node("web-1")
    t.run(params = {"via": "192.0.2.1"})  ### "boom"

def test_fails(t):
    t.node("web-1")
    t.run(params = {"via": "192.0.2.1"})

def test_in_a_helper(t):
    helper(t)

def helper(t):
    t.read("web-9", "route")

def test_expects(t):
    expect(1 == 2, "one is not two")

def test_never(t):
    if False:
        t.run()  ### "never"
    t.nod("web-1")

def test_prints(t):
    print("here", 1)
    t.node("web-1")
    expect(t.run(params = {"look": True}).prints == ["web-1"], "it has not printed its name")

def test_error_text(t):
    t.node("web-1")
    r = t.run(params = {"via": "192.0.2.1"})  ### "on-link"
    expect(r.error == None and r.changes == 0, str(r))

test_another_name = test_prints
test_lambda = lambda t: t.node("web-1")
not_a_test = 1
`})
	told, r := rehearsed(t, dir, config())
	if p := told["test_prints"]; p.Prints != nil || len(told["test_another_name"].Prints) != 1 || told["test_another_name"].Prints[0] != "here 1" {
		t.Errorf("prints %q, %q", p.Prints, told["test_another_name"].Prints)
	}
	if r.Failed() != 9 {
		t.Errorf("%d failed", r.Failed())
	}
	wants(t, dir, told, map[string]string{
		"test_passes":           "",
		"test_other_diff":       `book_test.star:12:10: the diff is\n +\+ route 10.20.0.0/16 via 10.98.0.1 dev eth1\n +and was to be\n +\+ route 10.20.0.0/16 via 10.98.0.9 dev eth1`,
		"test_nothing_expected": `book_test.star:16:11: .*the diff is\n +\+ route .*\n +and was to be\n +nothing`,
		"test_expected":         "",
		"test_does_not_fail":    `book_test.star:25:10: this was to fail with "boom", and did not`,
		"test_fails_otherwise":  `book_test.star:29:10: this was to fail with "boom"; it failed with: .*next hop`,
		"test_fails":            `book_test.star:33:10: route.add 10.20.0.0/16.*: next hop 192.0.2.1 is not on-link at eth1 .*(\n.*)*from: .*book.star:10:19`,
		"test_in_a_helper":      `book_test.star:39:11: .*the test has no node web-9`,
		"test_expects":          `book_test.star:42:11: one is not two`,
		"test_never":            `book_test.star:47:6: .*no .nod field or method .*did you mean .node`,
		"test_another_name":     "",
		"test_error_text":       "",
		"test_lambda":           "",
		"book_test.star:46:1":   `book_test.star:46:1: this line was to fail, and is never reached`,
	})
}

// hookedBook has all three hooks, and a wait that no test could bear.
const hookedBook = `"""A route, step by step."""
runbook(limits = limits(nodes = 5), rollout = rollout(waves = ["1", "100%"], bake = "1h", spread = "rack"))

def run(node, p):
    print("run on " + node.name)
    node.route.add(dst = "10.20.0.0/16", via = "10.98.0.1", dev = "eth1")

def before(fleet, p):
    print("before: %d nodes" % len(fleet.nodes))

def gate(fleet, p):
    for n in fleet.nodes:
        if "10.30.0.0/16" in [r.dst for r in n.route.list()]:
            fail(n.name + " has another way")
        expect(n.state != "done" or n.name != "web-9", "web-9 is done")
    print("gate %d of %d: %s" % (fleet.wave, fleet.waves, ", ".join([n.state for n in fleet.nodes])))

def after(fleet, p):
    have = [n.name for n in fleet.nodes if "10.20.0.0/16" in [r.dst for r in n.route.list()]]
    print("after: " + ", ".join(have))
`

// The hooks of a runbook are called as a real run calls them, in their order, and nobody waits for it to bake.
func TestHooks(t *testing.T) {
	dir := files(t, map[string]string{"hooked.star": hookedBook, "hooked_test.star": `"""Hooks."""

def test_in_their_order(t):
    t.node("web-1", vars = {"rack": "a"})
    t.node("web-2", vars = {"rack": "a"})
    t.node("web-3", vars = {"rack": "b"})
    r = t.plan()
    expect(r.hooks == ["before", "gate"], str(r.hooks))
    r = t.run()
    expect(r.hooks == ["before", "gate", "before", "gate", "gate", "gate", "after"], str(r.hooks))
    expect(r.prints == [
        "run on web-1", "run on web-3", "run on web-2",
        "before: 3 nodes", "gate 0 of 2: not tried, not tried, not tried",
        "before: 3 nodes", "gate 0 of 2: not tried, not tried, not tried",
        "gate 1 of 2: done, not tried, not tried",
        "gate 2 of 2: done, done, done",
        "after: web-1, web-3, web-2",
    ], str(r.prints))
    r = t.run(diff = "")
    expect(r.hooks == ["before", "gate"], str(r.hooks))  # nothing is changed that they would have to look after

def test_a_gate_that_does_not_pass(t):
    t.node("web-9")
    t.node("web-1")
    t.node("web-2", routes = [{"dst": "10.30.0.0/16", "via": "10.98.0.9"}])
    t.plan()  ### "gate: web-2 has another way"
    r = t.run()  ### "gate: web-2 has another way"
    expect(r.hooks == [], str(r.hooks))
    expect("10.20.0.0/16 via 10.98.0.1 dev eth1" not in t.read("web-9", "route"), "the run was not refused")
    t.run(nodes = ["web-9", "web-1"])  ### "gate: web-9 is done"
    expect("10.20.0.0/16 via 10.98.0.1 dev eth1" in t.read("web-9", "route"), "the first wave is missing")
    expect("10.20.0.0/16 via 10.98.0.1 dev eth1" not in t.read("web-1", "route"), "the second wave was not kept from starting")
`})
	told, r := rehearsed(t, dir, config())
	wants(t, dir, told, map[string]string{"test_in_their_order": "", "test_a_gate_that_does_not_pass": ""})
	if r.Failed() != 0 {
		t.Errorf("%d failed", r.Failed())
	}
}

func TestCoverage(t *testing.T) {
	dir := files(t, map[string]string{
		"book_test.star": "def test_1(t):\n    t.node(\"web-1\")\n    t.run()\n",
		"lib.star":       "def used():\n    return 1\n\ndef unused():\n    return 2\n",
		"with.star":      "\"\"\"x\"\"\"\nload(\"lib.star\", \"unused\", \"used\")\nrunbook()\n\ndef run(node, p):\n    if used() == 2:\n        unused()\n    for x in []:\n        print(x)\n",
		"with_test.star": "def test_a(t):\n    t.node(\"web-1\")\n    t.plan()\n",
	})
	_, r := rehearsed(t, dir, config())
	want := map[string]map[int]bool{
		"book.star": {2: true, 8: true, 9: false, 10: true},
		"with.star": {3: true, 6: true, 7: false, 8: true, 9: false},
		"lib.star":  {2: true, 5: false},
	}
	for name, lines := range want {
		got := r.Cover[filepath.Join(dir, name)]
		for line, reached := range lines {
			if was, counted := got[line]; !counted || was != reached {
				t.Errorf("%s:%d: reached %v, counted %v; want %v", name, line, was, counted, reached)
			}
		}
		for line := range got {
			text, _ := os.ReadFile(filepath.Join(dir, name))
			if l := strings.TrimSpace(strings.Split(string(text), "\n")[line-1]); l == "" {
				t.Errorf("%s:%d is counted, and there is nothing", name, line)
			}
		}
	}

	// What a second test reaches is added.
	if err := os.WriteFile(filepath.Join(dir, "book_test.star"), []byte("def test_1(t):\n    t.node(\"a\")\n    t.run()\n\ndef test_b(t):\n    t.node(\"a\")\n    t.plan(params = {\"look\": True})\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, r = rehearsed(t, dir, config())
	for line, reached := range r.Cover[filepath.Join(dir, "book.star")] {
		if !reached {
			t.Errorf("line %d is not reached by both", line)
		}
	}
}

// Each test has nodes, runbooks and steps of its own.
func TestTestsAreApart(t *testing.T) {
	dir := files(t, map[string]string{"book_test.star": `
def test_a(t):
    t.node("web-1")
    t.run()
    expect(len([l for l in t.read("web-1", "route") if "10.20" in l]) == 1, "it is not there")

def test_b(t):
    t.read("web-1", "route")  ### "the test has no node web-1"

def test_c(t):
    t.node("web-1")
    expect(len([l for l in t.read("web-1", "route") if "10.20" in l]) == 0, "another test's change is there")
    t.node("web-1")  ### "node web-1 is made twice"

def test_d(t):
    t.node("web-1")
    t.node("web-2")
    t.run(nodes = ["web-2"], diff = "+ route 10.20.0.0/16 via 10.98.0.1 dev eth1")
    expect(len([l for l in t.read("web-1", "route") if "10.20" in l]) == 0, "the other node has it")
    t.run(nodes = ["web-3"])  ### "has not all of the nodes"
    t.run(diff = """
        web-1
          + route 10.20.0.0/16 via 10.98.0.1 dev eth1
    """)
`})
	told, _ := rehearsed(t, dir, config())
	wants(t, dir, told, map[string]string{"test_a": "", "test_b": "", "test_c": "", "test_d": ""})
}

// snapshotOf is the snapshot of a lab's node with these routes more.
func snapshotOf(t testing.TB, name string) []byte {
	t.Helper()
	b, err := json.Marshal(NodeSnapshot{Version: SnapshotVersion, Node: engine.NodeInfo{Name: name, Groups: []string{"web"}, Vars: map[string]any{"rack": 7}}, State: sim.LabNode(name, 3)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSnapshot(t *testing.T) {
	dir := files(t, map[string]string{
		"web-7.json": string(snapshotOf(t, "web-7")), "bad.json": `{"v":1}`, "text.json": "x", "old.json": `{"v":0}`,
		"book_test.star": `
def test_snapshot(t):
    t.snapshot("web-7.json")
    t.snapshot("web-7.json", name = "web-8")
    t.run(params = {"metric": 1000000}, nodes = ["web-7"], diff = "+ route 10.20.0.0/16 via 10.98.0.1 dev eth1 metric 1000000")
    expect("10.98.0.4/16 dev eth1 brd 10.98.255.255" in t.read("web-8", "addr"), str(t.read("web-8", "addr")))

def test_twice(t):
    t.snapshot("web-7.json")
    t.snapshot("web-7.json")  ### "node web-7 is made twice"

def test_wrong(t):
    t.snapshot("bad.json")  ### "bad.json is not a snapshot: it names no node, or holds nothing"
    t.snapshot("text.json")  ### "text.json is not a snapshot: invalid"
    t.snapshot("old.json")  ### "is a snapshot of version 0: this runbook reads version 1"
    t.snapshot("none.json")  ### "none.json: no such file"
    t.snapshot(".")  ### "is not a file"

def test_outside(t):
    t.snapshot("../secret.json")  ### "escapes"
    t.snapshot("/etc/passwd")  ### "escapes"
    t.snapshot("link.json")  ### "escapes"
    t.snapshot("fifo.json")  ### "is not a file"
    t.run(runbook = "../x.star")  ### "does not lie beside"
    t.run(runbook = "/x.star")  ### "does not lie beside"
    t.run(runbook = "none.star")  ### "there is no such file"
`})
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link.json")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	told, _ := rehearsed(t, dir, config())
	wants(t, dir, told, map[string]string{"test_snapshot": "", "test_twice": "", "test_wrong": "", "test_outside": ""})
}

// A file that is no test file has failed as a whole, and the others are run.
func TestWrongFiles(t *testing.T) {
	ok := "def test_ok(t):\n    pass\n"
	dir := files(t, map[string]string{
		"ok_test.star": ok, "syntax_test.star": "def test_x(t):\n    if\n", "none_test.star": "x = 1\n", "empty_test.star": "",
		"params_test.star": "def test_x():\n    pass\n", "pattern_test.star": "def test_x(t):\n    pass  ### \"(\"\n",
		"name_test.star": "def test_x(t):\n    pass\nx = y\n", "load_test.star": "load(\"nope.star\", \"x\")\n",
		"binary_test.star": "\xff\x00", "large_test.star": "#" + strings.Repeat("x", 300<<10),
	})
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "zero_test.star")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo_test.star"), 0o600); err != nil {
		t.Fatal(err)
	}
	told, _ := rehearsed(t, dir, config())
	wants(t, dir, told, map[string]string{
		"test_ok":               "",
		"syntax_test.star:2:7":  `syntax_test.star:2:7: got newline, want primary expression`,
		"none_test.star:1:1":    `none_test.star:1:1: there is no test in this file\n  hint: def test_something\(t\): is one`,
		"empty_test.star:1:1":   `empty_test.star:1:1: there is no test in this file`,
		"params_test.star:1:1":  `params_test.star:1:1: test_x must have one parameter: def test_x\(t\)`,
		"pattern_test.star:2:1": `pattern_test.star:2:1: ### "\(" is not a regular expression`,
		"name_test.star:3:5":    `name_test.star:3:5: undefined: y`,
		"load_test.star:1:1":    `load_test.star:1:1: nope.star: there is no such file`,
		"binary_test.star":      `binary_test.star.*: it is not text`,
		"large_test.star":       `large_test.star.*a file can have 262144`,
		"zero_test.star":        `zero_test.star.*: it is not a regular file`,
		"fifo_test.star":        `fifo_test.star.*: it is not a regular file`,
	})
}

// A test that goes beyond a limit fails with it, and the next ones are run.
func TestLimits(t *testing.T) {
	defer func(was time.Duration) { testTime = was }(testTime)
	testTime = 3 * time.Second
	dir := files(t, map[string]string{
		"greedy.star": "runbook()\ndef run(node, p):\n    x = \"x\" * (1 << 30 - 1)\n    y = [0] * (1 << 29)\n",
		"book_test.star": `
def test_loops(t):
    for _ in range(1 << 40):
        pass

def test_after_loop(t):
    for _ in range(500000):
        pass

def test_asks_for_ever(t):
    t.node("web-1")
    for _ in range(1 << 40):
        t.read("web-1", "link")

def test_stuck(t):
    max(range(1 << 62))

def test_after_stuck(t):
    t.node("web-1")
    t.run()

def test_memory(t):
    l = []
    for i in range(1 << 40):
        l.append(str(i) * 100000)

def test_after_memory(t):
    t.node("web-1")
    t.run()

def test_memory_of_the_runbook(t):
    t.node("web-1")
    t.run(runbook = "greedy.star")  ### "limit memory = 256MB"
    t.run(runbook = "greedy.star")  ### "limit memory = 256MB"
    t.run()

def test_many_nodes(t):
    for i in range(1 << 40):
        t.node("web-%d" % i, links = {})

def test_large_nodes(t):
    for i in range(1 << 40):
        t.node("web-%d" % i, vars = {"x": "x" * 1000000})

def test_prints_for_ever(t):
    for i in range(1 << 40):
        print("x" * 1000)

def test_last(t):
    t.node("web-1")
    t.run()
`})
	cfg := config()
	cfg.Deadline = 2 * time.Second
	cfg.Limits = engine.Limits{engine.LimitMemory: {N: 256 << 20, Source: "--limit"}, engine.LimitSteps: {N: 5_000_000, Source: "--limit"}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	told, _ := rehearsed(t, dir, cfg)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 50<<20 {
		t.Errorf("%d MB are kept of tests that are over", grown>>20)
	}
	if n := len(told["test_prints_for_ever"].Prints); n == 0 || n > 1001 {
		t.Errorf("%d lines are kept", n)
	}
	const steps = `the script is still running after 5000000 steps, but limit steps = 5000000 \(--limit\)`
	wants(t, dir, told, map[string]string{
		"test_loops":                 `book_test.star:3:.*` + steps,
		"test_after_loop":            "",
		"test_asks_for_ever":         `(book_test.star:13:[0-9]+: )?.*the test has run for 3s`,
		"test_stuck":                 `book_test.star:1[56].*the script ran for 2s without asking`,
		"test_after_stuck":           "",
		"test_memory":                `book_test.star:2[0-9]:.*limit memory = 256MB \(--limit\)`,
		"test_after_memory":          "",
		"test_memory_of_the_runbook": "",
		"test_many_nodes":            `book_test.star:[0-9:]+ .*a test can have 1000 nodes`,
		"test_large_nodes":           `book_test.star:[0-9:]+ .*can be made of 64 MB`,
		"test_prints_for_ever":       `.*(prints, sleeps and loads more than|` + steps + `|has run for)`,
		"test_last":                  "",
	})
}

// An interrupt ends the run, and is no failure of a test.
func TestInterrupted(t *testing.T) {
	dir := files(t, map[string]string{"book_test.star": "def test_a(t):\n    t.node(\"a\")\n    for _ in range(1 << 40):\n        t.read(\"a\", \"link\")\n"})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	_, err := Run(ctx, []string{filepath.Join(dir, "book_test.star")}, nil, config(), func(r Result) { t.Errorf("told of %v", r) })
	var e *engine.Error
	if !errors.As(err, &e) || e.Code != engine.Interrupted {
		t.Errorf("got %v", err)
	}
}
