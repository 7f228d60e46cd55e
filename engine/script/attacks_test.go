package script

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"runbook/engine"
	"runbook/internal/printable"
)

// attack is something hostile: the body of run, a whole source, a folder, or
// what an evaluator says that is not ours.
type attack struct {
	name  string
	body  string // of run(node, p), one statement a line
	text  string // the whole runbook, but for its header
	file  string // the path of a runbook
	lie   string // see lie
	vars  map[string]any
	says  any               // what the node answers, to all but echo
	steps int64             // of the limit; 0: ten million
	args  map[string]string // of the command line
	want  string            // matches the error; "": there must be none; begins with "|": there may be one
}

const (
	attackDeadline = 2 * time.Second
	overMemory     = `limit memory = 256MB`
	overTime       = `ran for 2s without asking`
	overSteps      = `limit steps = 10000000`
	tooDeep        = `too deeply|excessive nesting`
	overSize       = `larger than memory, but ` + overMemory
	// Which limit a script hits first can depend on how fast the machine is.
	overAny = overMemory + `|` + overTime + `|` + overSteps + `|` + overSize + `|` + tooDeep
	forged  = `the evaluator said what it must not`
)

// TestAttacks checks of each that the controller survives it, that its own
// memory hardly grows, that it ends in time, and that the error names the limit.
func TestAttacks(t *testing.T) {
	evaluator := released(t)
	// As in runbook. One table after the other, and each attack let go of once it is over: what this test
	// keeps is what the collector goes by, and a controller keeps little.
	defer debug.SetGCPercent(debug.SetGCPercent(300))
	number := 0
	t.Logf("%-44s %9s %10s %10s  %s", "attack", "wall", "evaluator", "controller", "error")
	for _, table := range []func() []attack{valueAttacks, builtinAttacks, answerAttacks, sourceAttacks, func() []attack { return loadAttacks(t) }, frameAttacks} {
		attacks := table()
		for i := range attacks {
			attacks[i].try(t, evaluator)
			attacks[i] = attack{}
			number++
		}
	}
	t.Logf("%d attacks", number)
	if number < 150 {
		t.Errorf("%d attacks", number)
	}
}

// try does the attack, prints what became of it, and checks that.
func (a attack) try(t *testing.T, evaluator []string) {
	got := a.do(t, evaluator)
	t.Logf("%-44s %7d ms %7d MB %7d MB  %.160v", a.name, got.wall.Milliseconds(), got.peak>>20, got.growth>>20, got.err)
	switch {
	case a.want == "" && got.err != nil:
		t.Errorf("%s: %v", a.name, got.err)
	case a.want != "" && (got.err != nil || a.want[0] != '|') && (got.err == nil || !regexp.MustCompile(strings.TrimPrefix(a.want, "|")).MatchString(got.err.Error())):
		t.Errorf("%s: the error is %.500v, want %s", a.name, got.err, a.want)
	}
	if got.wall > attackDeadline+time.Second {
		t.Errorf("%s: took %s", a.name, got.wall)
	}
	if got.growth > 50<<20 {
		t.Errorf("%s: the controller grew by %d MB", a.name, got.growth>>20)
	}
	if e := engine.AsError(got.err); e != nil && (len(e.Error()) > 4*maxText || printable.Text(e.Error(), "\n\t") != e.Error()) {
		t.Errorf("%s: the error has %d bytes: %.500q", a.name, len(e.Error()), e.Error())
	}
	if len(got.prints) > 2*(maxPrints+1) || len(strings.Join(got.prints, "")) > 2*maxPrintBytes+maxText { // of the top level, and of run
		t.Errorf("%s: printed %d lines, %d bytes", a.name, len(got.prints), len(strings.Join(got.prints, "")))
	}
	for _, l := range got.prints {
		if printable.Text(l, "\t") != l {
			t.Errorf("%s: printed %.500q", a.name, l)
		}
	}
}

// outcome is what became of an attack.
type outcome struct {
	wall   time.Duration
	peak   int64 // bytes of the evaluator
	growth int64 // bytes of the controller
	prints []string
	err    error
}

func (a attack) do(t *testing.T, evaluator []string) outcome {
	var out outcome
	limits := engine.Limits{engine.LimitMemory: {N: 256 << 20, Source: "--limit"}, engine.LimitSteps: {N: cmp.Or(a.steps, 10_000_000), Source: "--limit"}}
	printed := func(line string) { out.prints = append(out.prints, line) }
	cfg := Config{Ops: testOps, Command: evaluator, Deadline: attackDeadline, Limits: limits, Print: printed}
	if a.lie != "" { // in this test, so that it can read frames
		cfg.Command = []string{os.Args[0], "liar", a.lie}
	}
	src := engine.Source{Main: a.file}
	if a.file == "" {
		src = source(a.whole())
	}
	debug.FreeOSMemory()
	begun := time.Now()
	p, err := prepare(cfg, src)
	if err != nil {
		t.Fatal(err)
	}
	stop := measure(&out, p.proc.cmd.Process.Pid)
	defer stop()
	defer p.tree.close()
	if e := p.load(t.Context()); e != nil {
		err = e
	} else if err = p.Bind(a.args); err == nil {
		err = p.Run(t.Context(), engine.NodeInfo{Name: "web-1", Vars: a.vars}, echoes{says: a.says, printed: printed})
	}
	out.err, out.wall = err, time.Since(begun)
	p.Close()
	return out
}

func (a attack) whole() string {
	const header = "\nrunbook(params = {'s': param.string('a text', default = ''), 'n': param.int('a number', default = 1)})\n"
	switch {
	case strings.Contains(a.text, "\nrunbook("):
		return a.text
	case a.body != "":
		return header + body(a.body)
	case regexp.MustCompile(`(?m)^def run\(`).MatchString(a.text):
		return a.text + header
	default:
		return a.text + header + "def run(node, p):\n    pass\n"
	}
}

// echoes is a node that answers an echo with what it was asked and all else with
// says, and keeps nothing.
type echoes struct {
	answers
	says    any
	printed func(string)
}

func (e echoes) Do(_ context.Context, c engine.Call) (any, error) {
	if c, ok := c.Op.(echo); ok {
		return c.Value, nil
	}
	return e.says, nil
}

func (e echoes) Print(_, line string) error { e.printed(line); return nil }

// body is a function run of these statements.
func body(statements string) string {
	return "def run(node, p):\n    " + regexp.MustCompile(`\n`).ReplaceAllString(statements, "\n    ") + "\n"
}

// measure finds how much more memory this process takes at most, and how much
// the evaluator pid, until it is stopped. The kernel says the most that a process
// had only while it lives, so the last milliseconds of one are missing.
func measure(out *outcome, pid int) (stop func()) {
	held := func() int64 {
		s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(s)
		return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
	}
	before := held()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			out.growth, out.peak = max(out.growth, held()-before), max(out.peak, peakOf(pid))
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	return func() { close(done); <-ended }
}

// peakOf is how many bytes of memory the process had at most, 0 where nobody can say.
func peakOf(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	var kb int64
	if _, after, ok := strings.Cut(string(b), "VmHWM:"); ok {
		fmt.Sscan(after, &kb)
	}
	return kb << 10
}

// valueAttacks make values that are large, deep or shared.
func valueAttacks() []attack {
	var out []attack
	add := func(name, want, body string) { out = append(out, attack{name: name, body: body, want: want}) }
	const (
		dag    = "t = ('x',)\nfor _ in range(60):\n    t = (t, t)\n"
		lists  = "t = [1]\nfor _ in range(60):\n    t = [t, t]\n"
		deep   = "t = []\nfor _ in range(700000):\n    t = [t]\n"
		half   = "s = 'x' * (1 << 26)\n"
		cyclic = "l = []\nl.append(l)\n"
	)
	add("list of a gigabyte", overMemory, "[0] * ((1 << 30) - 1)")
	add("tuple of a gigabyte", overMemory, "(0,) * ((1 << 30) - 1)")
	add("string of a gigabyte", overMemory, "'x' * ((1 << 30) - 1)")
	add("bytes of a gigabyte", overMemory, "b'x' * ((1 << 30) - 1)")
	add("string beyond Starlark's size", `too large`, "'x' * (1 << 62)")
	add("doubling a string", overMemory, "s = 'x'\nfor _ in range(40):\n    s += s")
	add("doubling a list", overMemory, "s = [1]\nfor _ in range(40):\n    s += list(s)")
	add("doubling a tuple", overMemory, "s = (1,)\nfor _ in range(40):\n    s += s")
	add("doubling bytes", overMemory, "s = b'x'\nfor _ in range(40):\n    s += s")
	add("many medium strings", overMemory, "l = []\nfor i in range(1000):\n    l.append(str(i) * 200000)")
	add("list of a range", overSize, "list(range(1 << 62))")
	add("list of a long range", overMemory, "list(range(1 << 40))")
	add("tuple of a long range", overMemory, "tuple(range(1 << 40))")
	add("set of a long range", overAny, "set(range(1 << 40))")
	add("enumerate", overAny, "enumerate(range(1 << 40))")
	add("enumerate beyond memory", overSize, "enumerate(range(1 << 62))")
	add("zip", overAny, "zip(range(1 << 40), range(1 << 40))")
	add("reversed", overAny, "reversed(range(1 << 40))")
	add("sorted", overMemory, "sorted(range(1 << 31))")
	add("sorted with a key that allocates", overMemory, "sorted(range(100000), key = lambda i: 'x' * 10000 + str(i))")
	add("sorted with a key that loops", overSteps, "sorted(range(1000), key = lambda i: [0 for _ in range(1 << 40)])")
	add("sorted with keys that are shared tuples", overTime+`|recursion depth`, dag+"sorted([t, t, t], key = lambda x: (x, x))")
	add("sorted calls itself", `recursively`, "def f(i):\n    return sorted([1], key = f)\nf(1)")
	add("min with a key that asks", `"?limit steps|calls|`+overAny, "min(range(1 << 40), key = lambda i: i)")
	add("max of a range", overTime, "max(range(1 << 62))")
	add("min of a range", overTime, "min(range(1 << 62))")
	add("all of a range", overTime, "all(range(1, 1 << 62))")
	add("any of zeros", overAny, "any([0] * (1 << 27))")
	add("in a long list", overAny, "l = [0] * 20000000\nfor i in range(10000):\n    1 in l")
	add("count of a string", "", "s = 'x' * 1000000\ns.count('y')")
	add("index of lists", `|`+overAny, "l = [[0] * 1000] * 100000\nfor i in range(1000):\n    l.index([1] * 1000) if [1] * 1000 in l else 0")
	add("hash of shared tuples", overTime, dag+"{t: 1}")
	add("hash of shared tuples in a set", overTime, dag+"set([t])")
	add("hash of a deep tuple", `|`+overAny, "t = ()\nfor _ in range(700000):\n    t = (t,)\n{t: 1}")
	add("comparing shared tuples", overAny+`|depth`, dag+"u = t\nt == (u, u)")
	add("comparing shared lists", `|`+overAny+`|recursion|depth`, "a = [1]\nb = [1]\nfor _ in range(8):\n    a = [a] * 9\n    b = [b] * 9\na == b")
	add("ordering shared lists", `|`+overAny+`|recursion|depth`, "a = [1]\nb = [1]\nfor _ in range(8):\n    a = [a] * 9\n    b = [b] * 9\na < b")
	add("comparing cycles", `recursion|depth`, "l = []\nl.append(l)\nm = []\nm.append(m)\nl == m")
	add("comparing long lists", overAny, "a = [0] * 5000000\nb = [0] * 5000000\nfor _ in range(1000):\n    a == b")
	add("str of shared tuples", overAny, dag+"str(t)")
	add("str of shared lists", overAny, lists+"str(t)")
	add("repr of shared lists", overAny, lists+"repr(t)")
	add("format of shared lists", overAny, lists+"'{}'.format(t)")
	add("% of shared lists", overAny, lists+"'%s' % (t,)")
	add("%r of shared tuples", overAny, dag+"'%r' % (t,)")
	add("str of a deep list", overAny, deep+"str(t)")
	add("str of a deep dict", overAny, "t = {}\nfor _ in range(500000):\n    t = {1: t}\nstr(t)")
	add("str of a list that holds itself", "", cyclic+"str(l)")
	add("str of a struct that holds itself", "", "l = []\ns = struct(l = l)\nl.append(s)\nstr(s)")
	add("str of a deep struct", "", "s = struct()\nfor _ in range(300000):\n    s = struct(s = s)\nstr(s)")
	add("str of a list of deep structs", "", "s = struct()\nfor _ in range(300000):\n    s = struct(s = s)\nstr([s])")
	add("comparing deep structs", `depth|recursion|`+overTime, "s = struct()\nu = struct()\nfor _ in range(300000):\n    s = struct(s = s)\n    u = struct(s = u)\ns == u")
	add("a struct as a key", `unhashable`, "{struct(): 1}")
	add("a dict as a key", `unhashable`, "{{}: 1}")
	add("keys that collide", overAny, "d = {}\nfor i in range(1 << 20):\n    d[i << 32] = 1")
	add("members that collide", overAny, "s = set()\nfor i in range(1 << 20):\n    s.add(i << 32)")
	add("a dict that is changed while it is read", `during iteration|iterating`, "d = {1: 1}\nfor k in d:\n    d[k + 1] = 1")
	add("a list that is changed while it is read", `during iteration|iterating`, "l = [1]\nfor k in l:\n    l.append(k)")
	add("a large dict", overAny, "d = {}\nfor i in range(1 << 40):\n    d[i] = i")
	add("union of sets", overAny, "s = set(range(1000000))\nfor i in range(1000):\n    s = s | set(range(i * 1000000, (i + 1) * 1000000))")
	add("number of 100 million digits", overTime, "int('9' * 100000000)")
	add("squaring", overAny, "n = 3\nfor _ in range(60):\n    n *= n")
	add("digits of a large number", overAny, "n = int('f' * 20000000, 16)\nstr(n)")
	add("dividing large numbers", overAny, "n = int('f' * 40000000, 16)\nm = int('e' * 20000001, 16)\nfor _ in range(100):\n    n // m")
	add("remainder of large numbers", overAny, "n = int('f' * 40000000, 16)\nm = int('e' * 20000001, 16)\nfor _ in range(100):\n    n % m")
	add("shift too far", `out of range`, "1 << (1 << 40)")
	add("shift of a shift", overAny, "n = 1\nfor _ in range(1000000):\n    n = n << 511")
	add("float of a large number", `too large to convert`, "float(int('9' * 10000))")
	add("hash of a large number", `|`+overAny, "n = int('f' * 40000000, 16)\nfor i in range(100000):\n    {n: 1}")
	add("replace", overAny, half+"s.replace('x', 'y' * 1000)")
	add("replace of nothing", overAny, half+"s.replace('', 'y' * 100)")
	add("split", overAny, half+"s.split('x')")
	add("splitlines", overAny, "('\\n' * (1 << 26)).splitlines()")
	add("join", overAny, half+"','.join([s] * 1000)")
	add("join of many", overAny, "('x' * 100000).join(['x'] * 100000)")
	add("elems of a string", overAny, half+"list(s.elems())")
	add("codepoints of a string", overAny, half+"list(s.codepoints())")
	add("format of many", overAny, half+"('{0}' * 1000).format(s)")
	add("% of many", overAny, half+"('%s' * 1000) % tuple([s] * 1000)")
	add("format with a width", `unknown conversion`, "'%1000000000d' % 1")
	add("format of fields", `not supported`, "'{0[0][0]}'.format([[1]])")
	add("upper of a large string", overAny, half+"for _ in range(1000):\n    s = s.upper() + 'ß'")
	add("quoting of control characters", overAny, "s = '\\0' * (1 << 26)\nrepr(s)")
	add("strip of a pattern", "", "s = 'ab' * 1000000\ns.strip('ab')")
	add("find without end", overAny, "s = 'a' * 20000000\nfor _ in range(100000):\n    s.find('a' * 10000000 + 'b')")
	add("partition in a loop", overAny, "s = 'ab' * 5000000\nfor _ in range(100000):\n    s = s.partition('c')[0]\n    s.rpartition('c')")
	add("slices of a list", overAny, "l = [0] * 5000000\nk = []\nfor _ in range(1000):\n    k.append(l[:])")
	add("slices of a string backwards", overAny, half+"k = []\nfor _ in range(1000):\n    k.append(s[::-1])")
	add("insert at the beginning", overAny, "l = [0] * 5000000\nfor i in range(1000000):\n    l.insert(0, i)")
	add("pop at the beginning", overAny, "l = [0] * 10000000\nfor i in range(1000000):\n    l.pop(0)")
	add("loop", overSteps, "for _ in range(1 << 40):\n    pass")
	add("loops in loops", overSteps, "for a in range(1000):\n    for b in range(1000):\n        for c in range(1000):\n            pass")
	add("comprehensions in comprehensions", overAny, "[[[0 for a in range(1000)] for b in range(1000)] for c in range(1000)]")
	add("functions that call two each", overSteps+`|recursively`, "fs = [lambda: 0]\nfor i in range(60):\n    fs.append((lambda f: lambda: f() or f())(fs[-1]))\nfs[-1]()")
	add("recursion", `recursively`, "def f():\n    f()\nf()")
	add("recursion through a list", `recursively`, "l = []\ndef f():\n    l[0]()\nl.append(f)\nf()")
	add("recursion through a dict", `recursively`, "d = {}\nd['f'] = lambda: d['f']()\nd['f']()")
	add("recursion of two", `recursively`, "l = []\ndef f():\n    l[0]()\ndef g():\n    f()\nl.append(g)\nf()")
	add("recursion of a function that takes itself", `recursively`, "y = lambda f: f(f)\ny(y)")
	add("recursion through a key", `recursively`, "def f(x):\n    return max([x], key = f)\nf(1)")
	add("recursion through a default", `recursively`, "l = []\ndef f(g = lambda: l[0]()):\n    return g()\nl.append(f)\nf()")
	add("recursion through attempt", `recursively`, "l = []\nf = lambda: attempt(l[0])\nl.append(f)\nf()")
	add("recursion through retry", `recursively`, "l = []\nf = lambda: retry(2, '0s', l[0])\nl.append(f)\nf()")
	add("functions made by functions", overAny+`|recursively`, "make = lambda: lambda: 0\nfs = []\nfor _ in range(1 << 40):\n    fs.append(make())")
	add("a closure over closures", overAny, "f = lambda: 0\nfor i in range(1 << 40):\n    f = (lambda g: lambda: g)(f)")
	add("sort whose key changes the list", `during iteration|frozen|cannot`, "l = [3, 2, 1]\ndef key(x):\n    l.append(x)\n    return x\nsorted(l, key = key)")
	add("sort whose key clears the list", `during iteration|frozen|cannot`, "l = [3, 2, 1]\nsorted(l, key = lambda x: l.clear())")
	add("sort of what cannot be compared", `books/main.star:4:11: web-1: dict < list`, "sorted([1, 'x', None, [], {}])")
	add("sort of numbers that are none", "", "sorted([float('nan')] * 100000)")
	add("sort by keys of a megabyte", overAny, "sorted(range(2000), key = lambda i: 'x' * 1000000 + str(i % 2))")
	add("sort whose key fails", `division by zero|divi`, "sorted([1], key = lambda x: x // 0)")
	add("sort of sorts", overAny, "f = lambda l: sorted(l, reverse = True)\nfor _ in range(1000):\n    f(range(1000000))")
	add("texts that collide", "", "d = {}\nfor a in ['costarring', 'declinate', 'altarage']:\n    for b in ['liquid', 'macallums', 'zinke']:\n        d[a + b] = 1\n        d[b + a] = 1")
	add("tuples that collide", overAny, "d = {}\nfor i in range(1 << 20):\n    d[(i << 32, 0)] = 1")
	add("whole floats as keys", overAny, "d = {}\nfor i in range(1 << 20):\n    d[float(i << 32)] = 1")
	add("numbers that are none as keys", overAny, "d = {}\nfor i in range(1 << 40):\n    d[float('nan')] = i")
	add("power", `got '\*\*'|want`, "2 ** 1000000000")
	add("shift to the left by less than nothing", `negative`, "1 << -1")
	add("shift of a large number", overAny, "n = int('f' * 40000000, 16)\nfor _ in range(1 << 40):\n    n << 511")
	add("division by nothing", `division by zero`, "1 // 0")
	add("remainder of nothing", `by zero`, "1 % 0")
	add("bytes of nothing known", `range`, "bytes([1 << 40])")
	add("chr beyond any", `range`, "chr(1 << 40)")
	add("format that asks for a width", `unknown conversion`, "'%*d' % (1000000000, 1)")
	add("format with a precision", `unknown conversion`, "'%.1000000000f' % 1.0")
	add("format with a specification", `not supported`, "'{:>1000000000}'.format(1)")
	add("format with an index beyond any", `not found`, "'{99999999999999999999}'.format(1)")
	add("a float as text", "", "'%f' % 1e308")
	add("ranges of ranges", overAny, "[list(range(1000000)) for _ in range(1000)]")
	add("a comprehension of a dict without end", overAny, "{i: i for i in range(1 << 40)}")
	add("a comprehension over itself", `during iteration`, "l = [1]\n[l.append(x) for x in l]")
	add("dicts united", overAny, "d = {0: 0}\nfor i in range(1000):\n    d = d | {j: j for j in range(i * 100000, (i + 1) * 100000)}")
	add("deep calls of closures", `recursively|500 deep|`+overAny, "f = lambda: [0 for _ in range(100000)]\nfor i in range(600):\n    f = (lambda g: lambda: g())(f)\nf()")
	return out
}

// builtinAttacks are on what runbook adds: arguments, prints, errors, parameters.
func builtinAttacks() []attack {
	var out []attack
	add := func(name, want, body string) { out = append(out, attack{name: name, body: body, want: want}) }
	const lists = "t = [1]\nfor _ in range(60):\n    t = [t, t]\n"
	add("print of a long line", "", "print('x' * 10000000)")
	add("print of many lines", "", "print('\\n' * 10000000)")
	add("print of shared lists", overAny, lists+"print(t)")
	add("print of what moves the cursor", "", "print('\\033[2J\\033]0;x\\007\\r')")
	add("print of many arguments", overAny, "print(*['x' * 10000] * 100000)")
	add("argument of 5 MB", `an operation can take`, "node.echo('x' * 5000000)")
	add("argument of 3 MB", `an operation can take`, "node.echo('x' * 3000000)")
	add("argument that is deep", `nested more than 64 deep`, "t = []\nfor _ in range(100000):\n    t = [t]\nnode.echo(t)")
	add("argument that is shared", overAny+`|nested more|can take`, "t = ['x' * 1000]\nfor _ in range(40):\n    t = [t, t]\nnode.echo(t)")
	add("argument that holds itself", `nested more`, "l = []\nl.append(l)\nnode.echo(l)")
	add("argument that is a large number", `out of range`, "node.echo(1 << 500)")
	add("argument that is a large dict", `can take|`+overAny, "node.echo({str(i): 'x' for i in range(400000)})")
	add("argument with 200,000 hops", `can take|`+overTime, "node.route.add(dst = '10.0.0.0/8', hops = [{'via': '10.0.0.1'}] * 200000)")
	add("arguments by the thousand", `takes|unexpected`, "node.facts(*range(100000))")
	add("keywords by the thousand", `unexpected argument`, "node.facts(**{'k%d' % i: i for i in range(100000)})")
	add("keyword of a megabyte", `unexpected argument`, "node.facts(**{'k' * 1000000: 1})")
	add("struct with many fields", "", "struct(**{'k%d' % i: i for i in range(100000)})")
	add("fail with a long text", `x…`, "fail('x' * 10000000)")
	add("fail with what moves the cursor", `\\x1b`, "fail('\\033[2J')")
	add("expect with a long text", `x…`, "expect(False, 'x' * 10000000)")
	add("error text of shared tuples", overAny+`|key`, "t = ('x',)\nfor _ in range(30):\n    t = (t, t)\n{}[t]")
	add("error text of a long name", `node has no \.xxx.*…`, "getattr(node, 'x' * 10000000)")
	add("attempt hides a limit", overSteps, "attempt(lambda: [0 for _ in range(1 << 40)])\nprint('went on')")
	add("attempt of attempts", `500 deep|recursively|`+overAny, "f = lambda: [0 for _ in range(100000)]\nfor i in range(600):\n    f = (lambda g: lambda: attempt(g))(f)\nf()")
	add("retry without end", `between 1 and`, "retry(times = 1 << 62, delay = '1s', fn = lambda: fail('x'))")
	add("retry without pause", `web-1: x`, "retry(times = 1000, delay = '0s', fn = lambda: fail('x'))")
	add("retry that sleeps too long", `between 0`, "retry(times = 2, delay = '999999h', fn = lambda: fail('x'))")
	add("retry with a wrong time", `delay: want a duration .*…`, "retry(times = 2, delay = '9' * 1000000, fn = lambda: fail('x'))")
	add("runbook in run", `top level|twice`, "runbook()")
	add("a changed parameter", `can't assign`, "p.s = 'x'")
	add("a changed node", `frozen`, "node.groups.append('x')")
	out = append(out,
		attack{name: "print without end", steps: 20_000, body: "for _ in range(1 << 40):\n    print('x' * 100)", want: `limit steps = 20000`},
		attack{name: "ask without end", steps: 20_000, body: "for _ in range(1 << 40):\n    node.facts()", want: `limit steps = 20000`},
		attack{name: "parameter of 5 MB", args: map[string]string{"s": string(make([]byte, 5<<20))}, body: "pass", want: `can have 262144`},
		attack{name: "parameter of 3 MB", args: map[string]string{"s": long("x", 3<<20)}, body: "print(len(p.s))", want: `can have 262144`},
		attack{name: "parameter that is a large number", args: map[string]string{"n": long("9", 1<<20)}, body: "pass", want: `parameter n .*can have 262144`},
		attack{name: "parameter that does not exist", args: map[string]string{long("k", 1<<20): "x"}, body: "pass", want: `has no parameter k`},
		attack{name: "variables of 3 MB", vars: map[string]any{"v": long("x", 3<<20)}, body: "pass", want: `a script can take`},
		attack{name: "steps in the header", text: "\nrunbook(limits = limits(steps = 100000000000))\ndef run(node, p):\n    for _ in range(1 << 40):\n        pass\n", want: overSteps},
		attack{name: "steps in the header of a top level", text: "\nrunbook(limits = limits(steps = 100000000000))\nx = [0 for _ in range(1 << 40) if False]\ndef run(node, p):\n    pass\n", want: overSteps},
		attack{name: "memory in the header of a run", text: "\nrunbook(limits = limits(memory = '8GB'))\ndef run(node, p):\n    [0] * ((1 << 30) - 1)\n", want: overMemory},
		attack{name: "another header", text: "\nrunbook()\nrunbook(limits = limits(steps = 100000000000))\ndef run(node, p):\n    pass\n", want: `twice`},
		attack{name: "a header in a function", text: "\ndef f():\n    runbook()\nf()\nrunbook()\ndef run(node, p):\n    pass\n", want: `top level`},
		attack{name: "memory in the header", text: "x = 'x' * ((1 << 30) - 1)", want: overMemory},
		attack{name: "limit beyond any", text: "l = limits(memory = '9999GB')", want: `at most`},
		attack{name: "default of a megabyte", text: "d = param.string('x', default = 'x' * 1000000)"},
		attack{name: "choices by the thousand", text: "d = param.choice('x', choices = ['c%d' % i for i in range(100000)], default = 'c1')"},
	)
	return out
}

func long(s string, n int) string {
	b := make([]byte, 0, n*len(s))
	for range n {
		b = append(b, s...)
	}
	return string(b)
}

// answerAttacks are by a node: what a probe finds there.
func answerAttacks() []attack {
	var out []attack
	add := func(name, want string, says any, body string) {
		out = append(out, attack{name: "answer: " + name, body: body, says: says, want: want})
	}
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	const look = "f = node.facts()\n"
	add("of 3 MB", `the result has 3000002 bytes, and a script can take 2097152`, long("x", 3_000_000), look+"print(f)")
	add("of 2 MB", "", long("x", 2_000_000), look+"print(f)")
	add("that is large once it is read", overAny, raw("{\"l\":["+long("{},", 600_000)+"{}]}"), "l = [node.facts().l for _ in range(1000)]")
	add("with a million members", "", raw("["+long("1,", 900_000)+"1]"), look+"len(f)")
	add("with a hundred thousand fields", "", raw("{"+listed(100_000, `"k%d":1,`)+`"z":1}`), look+"expect(f.z == 1, 'z')")
	add("with empty objects", overAny, raw("["+long("{},", 600_000)+"{}]"), "l = [node.facts() for _ in range(1000)]")
	add("nested 63 deep", "", raw(long(`{"a":`, 62)+"1"+long("}", 62)), look+"print(f.a.a.a)")
	add("nested 64 deep", `nested more than 64 deep`, raw(long(`{"a":`, 64)+"1"+long("}", 64)), look+"f.a")
	add("nested 5,000 deep", `nested more than 64 deep`, raw(long(`[`, 5000)+long("]", 5000)), look+"f")
	add("nested 60,000 deep", `exceeded max depth`, raw(long(`{"a":`, 60_000)+"1"+long("}", 60_000)), look+"f.a")
	add("nested in a text", "", map[string]any{"a": long("{", 100_000) + `\"`}, look+"expect(len(f.a) == 100002, f.a)")
	add("with a large number", "", raw(`{"n":`+long("9", 99)+`}`), look+"f.n")
	add("with a larger number", `a number is out of range`, raw(`{"n":`+long("9", 400)+`}`), look+"f.n")
	add("with a number of a megabyte", `a number is out of range`, raw(`{"n":`+long("9", 1_000_000)+`}`), look+"f.n")
	add("with a float beyond any", `a number is out of range`, raw(`{"n":1e400}`), look+"f.n")
	add("with a float beyond any in its middle", `out of range`, raw(`{"n":-1.`+long("0", 90)+`e999999999}`), look+"f.n")
	add("with a field twice", "", raw(`{"a":1,"a":2}`), look+"f.a")
	add("with fields that are methods", "", raw(`{"Attr":1,"__class__":2,"":3,"a b":4}`), look+"f[''] + f['a b']")
	add("with what moves the cursor", "", map[string]any{"a": "\x1b[2J\r\x00\u202e\u009b", "\x1b[31m": 1}, look+"print(f.a)\nprint(f)\nprint('%r' % f)")
	add("that is printed as it is", "", "\x1b]0;x\x07\n\n\r|", look+"print(f)")
	add("that an error tells", `\\x1b\[2J`, map[string]any{"a": "\x1b[2J"}, look+"fail(f.a)")
	add("whose fields an error tells", `has no \.b`, map[string]any{"\x1b[31m": 1}, look+"f.b")
	add("with a key that an error tells", `key "\\x1b`, map[string]any{"a": "\x1b[2J"}, look+"{}[f.a]")
	add("that becomes an argument", `want a prefix .*\\x1b`, map[string]any{"a": "\x1b[2J"}, look+"node.route.add(dst = f.a)")
	add("that is no text", "", raw(`{"a":"\ud800\udfff\udc00"}`), look+"print(f.a)")
	add("that is not JSON", `invalid character`, raw(`{"a":`+"\x00}"), look)
	return out
}

// sourceAttacks are on the scanner, the parser, the resolver and the compiler.
func sourceAttacks() []attack {
	var out []attack
	add := func(name, want, text string) {
		out = append(out, attack{name: "source: " + name, text: text, want: want})
	}
	const n = 100_000
	add("brackets", tooDeep, "x = "+long("[", n))
	add("closed brackets", tooDeep, "x = "+long("[", n)+long("]", n))
	add("parentheses", tooDeep, "x = "+long("(", n)+"1"+long(")", n))
	add("braces", tooDeep, "x = "+long("{1:", 60_000)+"1"+long("}", 60_000))
	add("calls", `undefined: f`, "x = f"+long("()", n))
	add("calls of len", `len: got 0 arguments`, "x = len"+long("()", n))
	add("indexes", `undefined: f`, "x = f"+long("[0]", 80_000))
	add("dots", `undefined: f`, "x = f"+long(".a", n))
	add("sums", "", "x = 1"+long("+1", n))
	add("minuses", tooDeep, "x = "+long("-", 200_000)+"1")
	add("nots", tooDeep, "x = "+long("not ", 60_000)+"1")
	add("conditions", tooDeep, "x = "+long("1 if 1 else ", 20_000)+"1")
	add("lambdas", tooDeep, "x = "+long("lambda:", 30_000)+"1")
	add("functions in functions", "", nested("def f():", 600))
	add("ifs in ifs", "", "def f():\n"+nestedIn("if 1:", 600))
	add("elifs", `|`+overAny, "def f(x):\n    if x:\n        pass\n"+long("    elif x:\n        pass\n", 9_000))
	add("comprehension of many clauses", `|`+overAny, "x = [1"+long(" for a in [1]", 15_000)+"]")
	add("comprehensions in each other", tooDeep, "x = "+long("[", 900)+"1"+long(" for a in [1]]", 900))
	add("many functions", "", lines(8_000, "def f%d(): pass"))
	add("many names", "", lines(18_000, "n%d = 1"))
	add("many arguments", `limit is 255`, "x = max("+long("1,", n)+")")
	add("many parameters", "", "def f("+listed(20_000, "p%d,")+"): pass")
	add("many keywords", `got def, want`, "x = dict("+listed(20_000, "k%d=1,")+").nope(")
	add("a large dict", "", "x = {"+listed(18_000, "%d:1,")+"}")
	add("a large number", `|`+overAny, "x = "+long("9", 250_000))
	add("a float beyond any", `invalid float`, "x = 1e"+long("9", 10_000))
	add("a name of 250 KB", "", long("n", 250_000)+" = 1")
	add("strings side by side", `got string literal`, "x = "+long("'' ", 80_000))
	add("a string that does not end", `unexpected newline`, "x = '"+long("x", n))
	add("a text that does not end", `unexpected EOF`, `x = """`+long("x\n", n))
	add("escapes", `code point`, `x = "`+long(`\U00110000`, 10_000)+`"`)
	add("bytes that are no text", `not text`, long("\xff\xfe", n))
	add("NUL bytes", `not text`, long("\x00", n))
	add("carriage returns", "", long("\r", 200_000))
	add("blank lines", "", long("\n", 250_000))
	add("comments", "", long("#\n", 120_000))
	add("backslashes", "", "x = "+long("\\\n", n)+"1")
	add("tabs", `not within a function`, "if 1:\n\tpass\n        pass\n")
	add("semicolons", `cannot reassign`, "x = 1"+long(";x=1", 60_000))
	add("assignments", `got '='`, long("x=", n)+"1")
	add("comparisons", `does not associate`, "x = 1"+long("<1", n))
	add("slices", "", "x = [1]"+long("[:]", 80_000))
	add("stars", `got '\*\*'`, "x = f("+long("*", n)+"a)")
	add("while", `while`, "while True:\n    pass")
	add("257 KB", `a file can have 262144`, long("#", 257<<10))
	add("20 MB", `a file can have 262144`, "x = 1"+long("+1", 10<<20))
	add("freezing shared tuples", overTime, "def f():\n    t = (1,)\n    for _ in range(60):\n        t = (t, t)\n    return t\nx = f()")
	add("a global that is deep", `|`+tooDeep, "def f():\n    t = []\n    for _ in range(700000):\n        t = [t]\n    return t\nx = f()")
	add("top level without end", overSteps, "x = [0 for _ in range(1 << 40) if False]")
	out = append(out, attack{
		name: "source: top level that prints", steps: 20_000, want: `limit steps = 20000`,
		text: "def f():\n    for _ in range(1 << 40):\n        print('x' * 1000)\nf()",
	})
	add("a builtin that is replaced", `non-function`, "def limits(): pass\nrunbook = 1")
	return out
}

// nested has n blocks that begin with head, each in the one before.
func nested(head string, n int) string {
	var b []byte
	for i := range n {
		b = append(b, long(" ", i)...)
		b = append(b, head+"\n"...)
	}
	return string(append(b, long(" ", n)+"pass\n"...))
}

func nestedIn(head string, n int) string {
	return regexp.MustCompile(`(?m)^`).ReplaceAllString(nested(head, n), " ")
}

func lines(n int, format string) string { return listed(n, format+"\n") }

func listed(n int, format string) string {
	var b []byte
	for i := range n {
		b = fmt.Appendf(b, format, i)
	}
	return string(b)
}
