package script

import (
	"context"
	"strings"
	"testing"
	"time"

	"runbook/engine"
)

// TestHostile runs what no limit inside Starlark stops. Each must end as an
// ordinary error with a position, whatever it does to the evaluator.
func TestHostile(t *testing.T) {
	deep := `
def run(node, p):
    node.facts()
    l = []
    for _ in range(3000000):
        l = [l]
    str(l)
`
	tests := []struct {
		name, text string
		cause      string // part of the error's cause
		code       engine.Code
		pos        string // how the error's position begins; "": books/main.star
	}{
		{"huge list", "def run(node, p):\n    node.facts()\n    x = [0] * (1 << 30 - 1)\n    y = [0] * (1 << 29)\n    z = x + y\n", "", engine.LimitHit, ""},
		{"list of a gigabyte", "def run(node, p):\n    node.facts()\n    [0] * ((1 << 30) - 1)\n", "more than 256 MB", engine.LimitHit, "books/main.star:2:"},
		{"huge string", "def run(node, p):\n    'x' * ((1 << 30) - 1)\n", "more than 256 MB", engine.LimitHit, "books/main.star:1:"},
		{"doubling", "def run(node, p):\n    s = 'x'\n    for _ in range(40):\n        s += s\n", "more than 256 MB", engine.LimitHit, ""},
		{"impossible size", "def run(node, p):\n    node.facts()\n    list(range(1 << 62))\n", "larger than memory", engine.LimitHit, "books/main.star:2:"},
		{"enumerate", "def run(node, p):\n    enumerate(range(1 << 40))\n", "", engine.LimitHit, ""},
		{"sorted", "def run(node, p):\n    sorted(range(1 << 31))\n", "more than 256 MB", engine.LimitHit, ""},
		{"deep data", deep, "", engine.LimitHit, "books/main.star:"},
		{"at the top level", "x = [0] * ((1 << 30) - 1)\n", "more than 256 MB", engine.LimitHit, "books/main.star"},
		{"source of calls", "x = f" + strings.Repeat("()", 100_000), "", engine.Invalid, "books/main.star:1:"},
		{"source too long", "x = f" + strings.Repeat("()", 3_000_000), "bytes", engine.Invalid, "books/main.star"},
		{"source of sums", "x = 1" + strings.Repeat("+1", 120_000), "", engine.OK, ""},
		{"source of brackets", "x = " + strings.Repeat("[", 200_000), "", engine.Invalid, "books/main.star"},
		{"loop", "def run(node, p):\n    for _ in range(1 << 40):\n        pass\n", "after 100000000 steps, but limit steps = 100000000 (the default)", engine.LimitHit, "books/main.star:2:"},
		{"loop at the top level", "[0 for _ in range(1 << 40) if False]", "limit steps", engine.LimitHit, "books/main.star:1:"},
		{"tuple hash", "def run(node, p):\n    t = (1,)\n    for _ in range(60):\n        t = (t, t)\n    node.facts()\n    {t: 1}\n", "ran for 300ms without asking", engine.LimitHit, "books/main.star:5:"},
		{"freeze", "def f():\n    t = (1,)\n    for _ in range(60):\n        t = (t, t)\n    return t\nx = f()\n", "ran for 300ms without asking", engine.LimitHit, "books/main.star"},
		{"max", "def run(node, p):\n    max(range(1 << 62))\n", "ran for 300ms without asking", engine.LimitHit, "books/main.star:1:"},
		{"long number", "def run(node, p):\n    int('9' * 100000000)\n", "ran for 300ms without asking", engine.LimitHit, "books/main.star:1:"},
		{"error text", "def run(node, p):\n    t = ('x',)\n    for _ in range(18):\n        t = (t, t)\n    {}[t]\n", "key ", engine.Invalid, "books/main.star:5:"},
		{"print", "def run(node, p):\n    for _ in range(1 << 40):\n        print('x' * 100000)\n", "limit steps", engine.LimitHit, "books/main.star:"},
		{"big argument", "def run(node, p):\n    node.echo('x' * 5000000)\n", "more than 4 MB", engine.Invalid, "books/main.star:2:"},
		{"big result", "def run(node, p):\n    node.echo('x' * 3000000)\n", "can take", engine.LimitHit, "books/main.star:2:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := tt.text + "\nrunbook(limits = limits(steps = 100000000))\n"
			if tt.name == "loop" {
				text = tt.text + "\nrunbook()\n"
			}
			if !strings.Contains(text, "def run(") {
				text += "def run(node, p):\n    pass\n"
			}
			if tt.name == "print" {
				text = strings.Replace(text, "100000000)", "20000)", 1)
			}
			if raceEnabled && strings.Contains(tt.cause+tt.name, "MB") || raceEnabled && tt.cause == "" {
				t.Skip("without a limit of memory")
			}
			cfg := Config{Deadline: 300 * time.Millisecond}
			if !strings.Contains(tt.cause, "300ms") {
				cfg.Deadline = 20 * time.Second
			}
			begun := time.Now()
			h, err := runText(t, cfg, text)
			t.Logf("%s: %v", time.Since(begun).Round(time.Millisecond), err)
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
			pos := tt.pos
			if pos == "" {
				pos = "books/main.star"
			}
			if !strings.HasPrefix(e.Pos, pos) {
				t.Errorf("position %q, want %s", e.Pos, pos)
			}
			if len(e.Error()) > 10_000 || strings.Contains(e.Error(), "goroutine ") {
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
	p, err := start(t, Config{Deadline: 100 * time.Millisecond}, source("runbook()\ndef run(node, p):\n    max(range(1 << 62))\n"))
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
