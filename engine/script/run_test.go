package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"runbook/engine"
)

func TestCalls(t *testing.T) {
	h, err := runText(t, Config{}, `
runbook()
def helper(node):
    node.route.add("10.20.0.0/16", table = 254, via = "10.98.0.1")
def run(node, p):
    helper(node)
    node.route.add(via = "10.98.0.1", dst = "10.20.0.0/16", table = "main", dev = None)
    print("changed:", node.facts().os)
    print("a\nb\x1b[2J")
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.calls) != 3 || string(h.calls[0].Args) != string(h.calls[1].Args) {
		t.Fatalf("calls %+v", h.calls)
	}
	c := h.calls[0]
	if c.Name != "route.add" || c.Pos != "books/main.star:4:19" || string(c.Args) != `{"dst":"10.20.0.0/16","via":"10.98.0.1","table":"main"}` {
		t.Errorf("call %+v %s", c, c.Args)
	}
	if op, ok := c.Op.(routeAdd); !ok || op.Via.String() != "10.98.0.1" {
		t.Errorf("operation %#v", c.Op)
	}
	if want := []string{"changed: debian", "a", `b\x1b[2J`}; !slices.Equal(h.prints, want) {
		t.Errorf("printed %q, want %q", h.prints, want)
	}
}

// TestErrorIsTheSame checks that an operation's error comes back as itself.
func TestErrorIsTheSame(t *testing.T) {
	for op, want := range map[string]error{"refuse": errRefused, "drift": errDrift} {
		for _, call := range []string{"node." + op + "()", "retry(3, '2s', node." + op + ")", "[f() for f in [node." + op + "]]"} {
			h, err := runText(t, Config{}, "runbook()\ndef run(node, p):\n    "+call+"\n")
			if err != want {
				t.Errorf("%s: %v, want %v", call, err, want)
			}
			if strings.HasPrefix(call, "retry") && op == "refuse" && (len(h.calls) != 3 || len(h.slept) != 2 || h.slept[0] != 2*time.Second) {
				t.Errorf("%s: %d calls, slept %v", call, len(h.calls), h.slept)
			}
			if op == "drift" && len(h.calls) != 1 {
				t.Errorf("%s: %d calls", call, len(h.calls))
			}
		}
	}
	h, err := runText(t, Config{}, "runbook()\ndef run(node, p):\n    attempt(node.drift)\n    node.facts()\n")
	if err != errDrift || len(h.calls) != 1 {
		t.Errorf("attempt: %v, %d calls", err, len(h.calls))
	}
	var refused *engine.NodeError
	_, err = runText(t, Config{}, "runbook()\ndef run(node, p):\n    attempt(node.refuse)\n    node.refuse()\n")
	if !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
}

func TestRetry(t *testing.T) {
	h := &host{}
	n := 0
	h.do = func(context.Context, engine.Call) (any, error) { n++; return map[string]int{"n": n}, nil }
	p, err := start(t, Config{}, source(`
runbook()
def ready(node):
    n = node.facts().n
    expect(n >= 4, "only %d" % n)
    return n
def run(node, p):
    expect(retry(10, "3s", lambda: ready(node)) == 4, "what it returns")
    retry(2, "1s", lambda: expect(False, "never"))
`))
	if err != nil {
		t.Fatal(err)
	}
	e := wantError(t, p.Run(t.Context(), web1, h), engine.Unreachable)
	if e.Cause != "never" || n != 4 || fmt.Sprint(h.slept) != "[3s 3s 3s 1s]" {
		t.Errorf("%v after %d calls, slept %v", e, n, h.slept)
	}
}

func TestUsageAndSteps(t *testing.T) {
	p, err := start(t, Config{}, source(`
runbook(limits = limits(steps = 50000))
def run(node, p):
    for _ in range(1000):
        node.facts()
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context(), web1, &host{}); err != nil {
		t.Fatal(err)
	}
	one := p.Usage()
	if one.Calls != 1000 || one.Steps < 5000 || one.Steps > 15_000 {
		t.Errorf("usage %+v", one)
	}
	if p.Run(t.Context(), web1, &host{}); p.Usage().Steps > 2*one.Steps {
		t.Errorf("two runs have used %d steps, one %d: what is leased is not used", p.Usage().Steps, one.Steps)
	}
	var failed error
	runs := 2
	for ; failed == nil && runs < 100; runs++ {
		failed = p.Run(t.Context(), web1, &host{})
	}
	e := wantError(t, failed, engine.LimitHit)
	if !strings.Contains(e.Cause, "limit steps = 50000 (books/main.star:2:24)") || e.Hint == "" || !strings.HasPrefix(e.Pos, "books/main.star:") {
		t.Error(e)
	}
	if want := int(50_000 / one.Steps); runs < want || runs > want+2 {
		t.Errorf("%d runs until the limit, each of %d steps", runs, one.Steps)
	}
}

// TestManyNodes runs thousands of nodes at a time, all of which wait for their
// answers together.
func TestManyNodes(t *testing.T) {
	const n = 3000
	p, err := start(t, Config{}, source(`
runbook(limits = limits(steps = 1000000))
shared = {"a": [1, 2, 3]}
def run(node, p):
    got = node.echo({"name": node.name, "shared": shared["a"]})
    expect(got.name == node.name, "%s got %s" % (node.name, got.name))
    expect(node.name != "node-77", "this one fails")
`))
	if err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup // until all have asked
	waiting.Add(n)
	var failures atomic.Int32
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			h := &gathering{waiting: &waiting}
			err := p.Run(t.Context(), engine.NodeInfo{Name: fmt.Sprintf("node-%d", i)}, h)
			if (i == 77) != (err != nil) {
				t.Errorf("node-%d: %v", i, err)
			}
			if err != nil {
				failures.Add(1)
			}
		})
	}
	all.Wait()
	if failures.Load() != 1 {
		t.Errorf("%d failures", failures.Load())
	}
	if u := p.Usage(); u.Calls != n {
		t.Errorf("%d calls", u.Calls)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.runs) != 0 || len(p.slots) != 0 {
		t.Errorf("%d runs and %d turns are left", len(p.runs), len(p.slots))
	}
}

// gathering answers when all nodes have asked.
type gathering struct {
	host
	waiting *sync.WaitGroup
}

func (g *gathering) Do(_ context.Context, c engine.Call) (any, error) {
	g.waiting.Done()
	g.waiting.Wait()
	return c.Op.(echo).Value, nil
}

func TestCancel(t *testing.T) {
	p, err := start(t, Config{}, source(`
runbook(limits = limits(steps = 100000000000))
def run(node, p):
    if node.name == "waits":
        node.facts()
    for _ in range(1 << 40):
        pass
`))
	if err != nil {
		t.Fatal(err)
	}
	limit := &engine.Error{Code: engine.LimitHit, Cause: "the run's time is over"}
	for _, name := range []string{"computes", "waits"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		h := &host{do: func(ctx context.Context, c engine.Call) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		time.AfterFunc(30*time.Millisecond, func() { cancel(limit) })
		begun := time.Now()
		err := p.Run(ctx, engine.NodeInfo{Name: name}, h)
		if name == "computes" && err != error(limit) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "waits" {
			wantError(t, err, engine.Interrupted)
		}
		if d := time.Since(begun); d > 2*time.Second {
			t.Errorf("%s: took %s", name, d)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	wantError(t, p.Run(ctx, web1, &host{}), engine.LimitHit)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	wantError(t, p.Run(ctx, web1, &host{}), engine.Interrupted)

	// What was canceled has ended there too.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		left := len(p.runs)
		p.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d runs go on in the evaluator", left)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verdict != nil {
		t.Errorf("the evaluator was killed: %v", p.verdict)
	}
}

// TestDeadlineIsOfComputing checks that a node may take its time.
func TestDeadlineIsOfComputing(t *testing.T) {
	t.Parallel()
	p, err := start(t, Config{Deadline: time.Second}, source("runbook()\ndef run(node, p):\n    node.facts()\n    node.facts()\n"))
	if err != nil {
		t.Fatal(err)
	}
	h := &host{do: func(context.Context, engine.Call) (any, error) { time.Sleep(1200 * time.Millisecond); return nil, nil }}
	if err := p.Run(t.Context(), web1, h); err != nil {
		t.Error(err)
	}
}

// TestCloseWhileRunning checks that Close ends runs and leaves no process.
func TestCloseWhileRunning(t *testing.T) {
	p, err := start(t, Config{}, source("runbook()\ndef run(node, p):\n    max(range(1 << 62))\n"))
	if err != nil {
		t.Fatal(err)
	}
	pid := p.proc.cmd.Process.Pid
	time.AfterFunc(20*time.Millisecond, func() { p.Close() })
	wantError(t, p.Run(t.Context(), web1, &host{}), engine.Internal)
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); runtime.GOOS == "linux" && err == nil {
		t.Error("the process is still there")
	}
	wantError(t, p.Run(t.Context(), web1, &host{}), engine.Internal)
}

func TestStartCanceled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := Start(ctx, Config{Ops: testOps}, source("max(range(1 << 62))\nrunbook()"))
	wantError(t, err, engine.LimitHit)
}

// TestConfined checks what the evaluator has of this process: nothing.
func TestConfined(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this test needs the /proc of Linux")
	}
	t.Setenv("SECRET", "do not hand down")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	clearCloexec(t, r) // as if whoever started us had left it open
	p, err := start(t, Config{Command: released(t), Limits: quarterGB}, source("runbook()\ndef run(node, p):\n    pass\n"))
	if err != nil {
		t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d/", p.proc.cmd.Process.Pid)
	if env, err := os.ReadFile(proc + "environ"); err != nil || len(env) > 0 {
		t.Errorf("environment %q, %v", env, err)
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	pipes := 0
	for _, fd := range fds {
		target, _ := os.Readlink(proc + "fd/" + fd.Name())
		if strings.HasPrefix(target, "pipe:") {
			pipes++
		} else if !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/sys/fs/cgroup/") { // Go's own
			t.Errorf("file %s is %s", fd.Name(), target)
		}
	}
	if pipes != 3 {
		t.Errorf("%d pipes, want 3", pipes)
	}
	limits, err := os.ReadFile(proc + "limits")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Max data size +268435456 ", "Max open files +0 +0 ", "Max file size +0 +0 ", "Max cpu time +3600 ", "Max core file size +0 +0 "} {
		if !regexp.MustCompile(want).Match(limits) {
			t.Errorf("limits are without %q\n%s", want, limits)
		}
	}
	// Later, the controller can change what the evaluator cannot.
	lower := engine.Limits{engine.LimitMemory: {N: 128 << 20}}
	if err := p.Limit(lower); err != nil {
		t.Fatal(err)
	}
	if limits, err = os.ReadFile(proc + "limits"); err != nil || !regexp.MustCompile("Max data size +134217728 ").Match(limits) {
		t.Errorf("limits %s, %v", limits, err)
	}
}

const benchmarked = `
runbook(limits = limits(steps = 100000000000))
def run(node, p):
    for _ in range(int(node.vars["n"])):
        node.route.add(dst = "10.20.0.0/16", via = "10.98.0.1", dev = "eth1")
`

// answers does nothing, fast.
type answers struct{}

func (answers) Do(context.Context, engine.Call) (any, error) {
	return map[string]any{"changed": true}, nil
}
func (answers) Print(string, string) error                       { return nil }
func (answers) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func BenchmarkCall(b *testing.B) {
	p, err := start(b, Config{}, source(benchmarked))
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if err := p.Run(b.Context(), engine.NodeInfo{Name: "x", Vars: map[string]any{"n": b.N}}, answers{}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkNode is a whole node with one call, many of them at a time.
func BenchmarkNode(b *testing.B) {
	p, err := start(b, Config{}, source(benchmarked))
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := p.Run(b.Context(), engine.NodeInfo{Name: "x", Vars: map[string]any{"n": 1}}, answers{}); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkStart(b *testing.B) {
	src := source(benchmarked)
	for b.Loop() {
		p, err := Start(b.Context(), Config{Ops: testOps}, src)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		p.Close()
		b.StartTimer()
	}
}
