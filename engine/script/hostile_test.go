package script

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"runbook/engine"
)

type hostileScript struct {
	name, text string
	cause      string // part of the error's cause
	code       engine.Code
	pos        string // how the error's position begins
}

// hostile returns what no limit inside Starlark stops, and some of what one
// does. It is no variable: the evaluators of these tests would make it, too.
func hostile() []hostileScript {
	return []hostileScript{
		{"huge list", "def run(node, p):\n    node.facts()\n    x = [0] * (1 << 30 - 1)\n    y = [0] * (1 << 29)\n    z = x + y\n", "", engine.LimitHit, "books/main.star"},
		{"list of a gigabyte", "def run(node, p):\n    node.facts()\n    [0] * ((1 << 30) - 1)\n", memory, engine.LimitHit, "books/main.star:2:"},
		{"huge string", "def run(node, p):\n    'x' * ((1 << 30) - 1)\n", memory, engine.LimitHit, "books/main.star:1:"},
		{"doubling", "def run(node, p):\n    s = 'x'\n    for _ in range(40):\n        s += s\n", memory, engine.LimitHit, "books/main.star"},
		{"impossible size", "def run(node, p):\n    node.facts()\n    list(range(1 << 62))\n", "larger than memory", engine.LimitHit, "books/main.star:2:"},
		{"enumerate", "def run(node, p):\n    enumerate(range(1 << 40))\n", "", engine.LimitHit, "books/main.star"},
		{"sorted", "def run(node, p):\n    sorted(range(1 << 31))\n", memory, engine.LimitHit, "books/main.star"},
		{"deep data", deep, "", engine.LimitHit, "books/main.star:"},
		{"at the top level", "x = [0] * ((1 << 30) - 1)\n", memory, engine.LimitHit, "books/main.star"},
		{"source of calls", "x = f" + strings.Repeat("()", 100_000), "", engine.Invalid, "books/main.star:1:"},
		{"source too long", "x = f" + strings.Repeat("()", 3_000_000), "bytes", engine.Invalid, "books/main.star"},
		{"source of sums", "x = 1" + strings.Repeat("+1", 30_000), "", engine.OK, "books/main.star"},
		{"source of brackets", "x = " + strings.Repeat("[", 200_000), "", engine.Invalid, "books/main.star"},
		{"loop", "def run(node, p):\n    for _ in range(1 << 40):\n        pass\n", "after 100000000 steps, but limit steps = 100000000 (the default)", engine.LimitHit, "books/main.star:2:"},
		{"loop at the top level", "[0 for _ in range(1 << 40) if False]", "limit steps", engine.LimitHit, "books/main.star:1:"},
		{"tuple hash", "def run(node, p):\n    t = (1,)\n    for _ in range(60):\n        t = (t, t)\n    node.facts()\n    {t: 1}\n", deadline, engine.LimitHit, "books/main.star:5:"},
		{"freeze", "def f():\n    t = (1,)\n    for _ in range(60):\n        t = (t, t)\n    return t\nx = f()\n", deadline, engine.LimitHit, "books/main.star"},
		{"max", "def run(node, p):\n    max(range(1 << 62))\n", deadline, engine.LimitHit, "books/main.star:1:"},
		{"long number", "def run(node, p):\n    int('9' * 100000000)\n", deadline, engine.LimitHit, "books/main.star:1:"},
		{"error text", "def run(node, p):\n    t = ('x',)\n    for _ in range(18):\n        t = (t, t)\n    {}[t]\n", "key ", engine.Invalid, "books/main.star:5:"},
		{"print", "def run(node, p):\n    for _ in range(1 << 40):\n        print('x' * 100000)\n", "limit steps", engine.LimitHit, "books/main.star:"},
		{"big argument", "def run(node, p):\n    node.echo('x' * 5000000)\n", "an operation can take", engine.LimitHit, "books/main.star:2:"},
		{"big result", "def run(node, p):\n    node.echo('x' * 3000000)\n", "can take", engine.LimitHit, "books/main.star:2:"},
		{"deep hash", "def run(node, p):\n    node.facts()\n    t = ()\n    for _ in range(1000000):\n        t = (t,)\n    {t: 1}\n", "nests values or expressions too deeply", engine.LimitHit, "books/main.star:"},
		{"many functions", chain(700), "functions call functions more than 500 deep", engine.Invalid, "books/main.star:"},
	}
}

const deep = "def run(node, p):\n    node.facts()\n    l = []\n    for _ in range(3000000):\n        l = [l]\n    str(l)\n"

// chain has functions that call each other, the last of which loops.
func chain(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "def f%d():\n    for _ in range(100000):\n        pass\n", n)
	for i := n - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "def f%d(): f%d()\n", i, i+1)
	}
	return b.String() + "def run(node, p):\n    f0()\n"
}

// quarterGB is a limit on memory that is reached soon.
var quarterGB = engine.Limits{engine.LimitMemory: {N: 256 << 20, Source: "--limit"}}

const (
	deadline = "ran for 300ms without asking"
	memory   = "more memory, but limit memory = 256MB (--limit)"
)

// TestHostile checks that each of them ends as an ordinary error with a
// position, whatever it does to the evaluator.
func TestHostile(t *testing.T) {
	for _, tt := range hostile() {
		t.Run(tt.name, func(t *testing.T) {
			text, steps := tt.text+"\nrunbook()\n", "100000000"
			if tt.name == "print" {
				steps = "20000"
			}
			if tt.name != "loop" { // which has the default
				text = tt.text + "\nrunbook(limits = limits(steps = " + steps + "))\n"
			}
			if !strings.Contains(text, "def run(") {
				text += "def run(node, p):\n    pass\n"
			}
			cfg := Config{Deadline: time.Minute, Limits: quarterGB, Command: released(t)}
			if tt.cause == deadline {
				cfg.Deadline = 300 * time.Millisecond
			}
			begun := time.Now()
			h, err := runText(t, cfg, text)
			t.Logf("%s: %.300v", time.Since(begun).Round(time.Millisecond), err)
			if tt.code == engine.OK {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := wantError(t, err, tt.code)
			if !strings.Contains(e.Cause, tt.cause) {
				t.Errorf("cause %q, want it to have %q", e.Cause, tt.cause)
			}
			if !strings.HasPrefix(e.Pos, tt.pos) {
				t.Errorf("position %q, want %s", e.Pos, tt.pos)
			}
			if len(e.Error()) > 2*maxText || strings.Contains(e.Error(), "goroutine ") {
				t.Errorf("the error has %d bytes: %.500s", len(e.Error()), e.Error())
			}
			if len(h.prints) > maxPrints+1 {
				t.Errorf("%d lines were printed", len(h.prints))
			}
		})
	}
}

// TestOtherRunsGoOn checks that a run that fails by itself leaves the others.
func TestOtherRunsGoOn(t *testing.T) {
	p, err := start(t, Config{}, source("runbook()\ndef run(node, p):\n    expect(node.name != 'web-1', 'not this one')\n"))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, p.Run(context.Background(), web1, &host{}), engine.Unreachable)
	if err := p.Run(context.Background(), engine.NodeInfo{Name: "web-2"}, &host{}); err != nil {
		t.Error(err)
	}
}

// TestAfterDeath checks that runs after the evaluator's death get its reason.
func TestAfterDeath(t *testing.T) {
	t.Parallel()
	p, err := start(t, Config{Deadline: time.Second}, source("runbook()\ndef run(node, p):\n    max(range(1 << 62))\n"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e := wantError(t, p.Run(context.Background(), web1, &host{}), engine.LimitHit)
		if e.Node != "web-1" {
			t.Errorf("node %q", e.Node)
		}
	}
	p.Close()
	p.Close()
}

// sleeper is a host that sleeps as long as it is told.
type sleeper struct {
	host
	asleep chan struct{}
}

func (s *sleeper) Sleep(ctx context.Context, d time.Duration) error {
	close(s.asleep)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// TestDeathEndsSleep: what a run has changed waits to be put back, so that nobody
// sleeps on for a script that is dead.
func TestDeathEndsSleep(t *testing.T) {
	t.Parallel()
	p, err := start(t, Config{}, source("runbook()\ndef run(node, p):\n    retry(2, '1h', lambda: fail('x'))\n"))
	if err != nil {
		t.Fatal(err)
	}
	h := &sleeper{asleep: make(chan struct{})}
	go func() {
		<-h.asleep
		p.proc.kill()
	}()
	begun := time.Now()
	e := wantError(t, p.Run(t.Context(), web1, h), engine.Internal)
	if took := time.Since(begun); took > 30*time.Second || !strings.Contains(e.Cause, "was killed") || !strings.HasPrefix(e.Pos, "books/main.star:3:") {
		t.Errorf("after %s: %v", took, e)
	}
	if !p.Ended() {
		t.Error("it has not ended")
	}
}
