package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"runbook/engine"
	"runbook/engine/journal"
)

// raise is a way to raise a limit from inside. In its texts NAME is the limit, LOW
// what it is set to and HIGH the most that there is, as a script writes them.
type raise struct {
	what string
	top  string // of the main file; the header is limits(NAME = LOW) where it has none
	run  string // the beginning of run(node, p)
	lib  string // lib.star
}

const lowHeader = "runbook(limits = limits(NAME = LOW), rollout = ROLLOUT)"

// values are what a header may try to give a limit that a policy holds.
var values = []string{
	"HIGH", "None", "True", "False", "0", "-1", "1.0", "1e18", `float("inf")`, `float("nan")`, "1 << 62", "1 << 63", "1 << 64", "-(1 << 63)", "1 << 4000",
	`"inf"`, `"-1"`, `"0"`, `""`, `"999999999h"`, `"-1h"`, `"9223372036854775807B"`, `"99999999999GB"`, `"-1B"`, `"1e9"`, `"0x7fffffff"`, `"HIGH"`,
	"[HIGH]", "(HIGH,)", `{"NAME": HIGH}`, "limits(NAME = HIGH)", "len", "lambda: HIGH", `param.int("x", default = 1)`, `param.string("x", default = "1h")`, "struct(N = 1)",
}

var raises = func() []raise {
	out := []raise{
		{what: "nothing is tried", top: lowHeader},
		{what: "a second header", top: lowHeader + "\nrunbook(limits = limits(NAME = HIGH))"},
		{what: "a second header without limits", top: lowHeader + "\nrunbook()"},
		{what: "a header for each of two values", top: "for n in [LOW, HIGH]:\n    runbook(limits = limits(NAME = n))"},
		{what: "limits again", top: lowHeader + "\nlimits(NAME = HIGH)"},
		{what: "rollout again", top: lowHeader + "\nrollout(waves = [\"100%\"], max_failures = 1000)"},
		{what: "the other order", top: "high = limits(NAME = HIGH)\n" + lowHeader},
		{what: "limits at run time", top: lowHeader, run: "limits(NAME = HIGH)"},
		{what: "runbook at run time", top: lowHeader, run: "runbook(limits = limits(NAME = HIGH))"},
		{what: "rollout at run time", top: lowHeader, run: "rollout(max_failures = 1000)"},
		{what: "runbook in attempt", top: lowHeader, run: "attempt(lambda: runbook(limits = limits(NAME = HIGH)))"},
		{what: "limits in a gate", top: lowHeader + "\ndef gate(fleet, p):\n    limits(NAME = HIGH)"},
		{what: "runbook in a gate", top: lowHeader + "\ndef gate(fleet, p):\n    runbook(limits = limits(NAME = HIGH))"},
		{what: "rollout before", top: lowHeader + "\ndef before(fleet, p):\n    rollout(max_failures = 1000)"},
		{what: "limits of the fleet", top: lowHeader + "\ndef before(fleet, p):\n    fleet.limits = limits(NAME = HIGH)"},
		{what: "a node of the fleet", top: lowHeader + "\ndef before(fleet, p):\n    fleet.nodes[0].vars[\"NAME\"] = HIGH"},
		{what: "nodes of the fleet", top: lowHeader + "\ndef gate(fleet, p):\n    fleet.nodes.clear()"},
		{what: "limits in attempt", top: lowHeader, run: "attempt(lambda: limits(NAME = HIGH))"},
		{what: "limits in retry", top: lowHeader, run: `retry(3, "1s", lambda: limits(NAME = HIGH))`},
		{what: "runbook in retry", top: lowHeader, run: `retry(3, "1s", lambda: runbook(limits = limits(NAME = HIGH)))`},
		{what: "a header in a function", top: lowHeader + "\ndef more():\n    runbook(limits = limits(NAME = HIGH))\nmore()"},
		{what: "a header in a function only", top: "def more():\n    runbook(limits = limits(NAME = HIGH))\nmore()"},
		{what: "a header in a lambda", top: lowHeader + "\n[f() for f in [lambda: runbook(limits = limits(NAME = HIGH))]]"},
		{what: "a header in sorted", top: lowHeader + "\nsorted([1, 2], key = lambda x: runbook(limits = limits(NAME = HIGH)) or x)"},
		{what: "a header in a loaded file", top: `load("lib.star", "x")` + "\n" + lowHeader, lib: "runbook(limits = limits(NAME = HIGH))\nx = 1"},
		{what: "limits in a loaded file", top: `load("lib.star", "x")` + "\n" + lowHeader, lib: "x = limits(NAME = HIGH)"},
		{what: "a loaded function that declares", top: `load("lib.star", "more")` + "\n" + lowHeader + "\nmore()", lib: "def more():\n    runbook(limits = limits(NAME = HIGH))"},
		{what: "a loaded function that declares at run time", top: `load("lib.star", "more")` + "\n" + lowHeader, run: "more()", lib: "def more():\n    runbook(limits = limits(NAME = HIGH))"},
		{what: "names loaded over runbook", top: `load("lib.star", limits = "more")` + "\n" + lowHeader, lib: "def more(**kw):\n    return None"},
		{what: "one name in two files", top: `load("lib.star", "x")` + "\n" + lowHeader, lib: `load("book.star", "run")` + "\nx = 1"},
		{what: "a keyword twice", top: "runbook(limits = limits(NAME = LOW, NAME = HIGH))"},
		{what: "a keyword and a spread", top: `runbook(limits = limits(NAME = LOW, **{"NAME": HIGH}))`},
		{what: "limits and a spread", top: `runbook(limits = limits(NAME = LOW), **{"limits": limits(NAME = HIGH)})`},
		{what: "spread twice", top: `runbook(**{"limits": limits(**{"NAME": LOW})})` + "\n" + `runbook(**{"limits": limits(**{"NAME": HIGH})})`},
		{what: "by position", top: "runbook(limits(NAME = HIGH))"},
		{what: "a value by position", top: "runbook(limits = limits(HIGH))"},
		{what: "a dict for limits", top: `runbook(limits = {"NAME": HIGH})`},
		{what: "None for limits", top: lowHeader + "\nrunbook(limits = None)"},
		{what: "rollout for limits", top: "runbook(limits = rollout(max_failures = 1000))"},
		{what: "limits for rollout", top: "runbook(limits = limits(NAME = LOW), rollout = limits(NAME = HIGH))"},
		{what: "a list of limits", top: "runbook(limits = [limits(NAME = LOW), limits(NAME = HIGH)])"},
		{what: "limits added", top: "runbook(limits = limits(NAME = LOW) + limits(NAME = HIGH))"},
		{what: "limits united", top: "runbook(limits = limits(NAME = LOW) | limits(NAME = HIGH))"},
		{what: "no space and other case", top: lowHeader + "\nLIMITS = limits(NAME = HIGH)\nRUNBOOK = {\"limits\": LIMITS}"},
		{what: "globals of that name", top: lowHeader + "\nNAME = HIGH"},
		{what: "a parameter of that name", top: `runbook(params = {"NAME": param.string("x", default = "HIGH")}, limits = limits(NAME = LOW), rollout = ROLLOUT)`},
		{what: "a parameter limits", top: `runbook(params = {"limits": param.string("x", default = "NAME=HIGH")}, limits = limits(NAME = LOW), rollout = ROLLOUT)`},
		{what: "limits as a parameter", top: `runbook(params = {"x": limits(NAME = HIGH)}, limits = limits(NAME = LOW))`},
		{what: "a parameter that is set", top: lowHeader, run: "p.NAME = HIGH"},
		{what: "limits of the parameters", top: lowHeader, run: "p.limits = limits(NAME = HIGH)"},
		{what: "limits of the node", top: lowHeader, run: "node.limits = limits(NAME = HIGH)"},
		{what: "variables of the node", top: lowHeader, run: `node.vars["NAME"] = HIGH`},
		{what: "groups of the node", top: lowHeader, run: `node.groups.append("NAME")`},
		{what: "limits of the node that are called", top: lowHeader, run: "node.limits(NAME = HIGH)"},
		{what: "a print", top: lowHeader, run: `print("limit NAME = HIGH")`},
		{what: "a print of a frame", top: lowHeader, run: `print("{\"type\":\"limits\",\"limits\":{\"NAME\":{\"value\":HIGH}}}\n\x00\x00\x00\x01")`},
		{what: "a print at load", top: lowHeader + "\n" + `print(limits(NAME = HIGH))`},
		{what: "an error that says so", top: lowHeader, run: `fail("limit NAME = HIGH (policy /etc/runbook/policy.yaml:1:1)")`},
		{what: "limits shadowed", top: "def limits(**kw):\n    return None\n" + lowHeader},
		{what: "runbook shadowed after", top: lowHeader + "\ndef runbook(**kw):\n    return None"},
		{what: "limits wrapped", top: "old = limits\ndef limits(**kw):\n    return old(NAME = HIGH)\n" + lowHeader},
		{what: "a local of that name", top: lowHeader, run: "limits = lambda **kw: kw\n    limits(NAME = HIGH)"},
		{what: "the header out of order", top: "def f():\n    return limits(NAME = HIGH)\n" + lowHeader + "\nx = f()"},
		{what: "much computing at load", top: lowHeader + "\nx = [limits(NAME = HIGH) for _ in range(1000)]"},
	}
	for _, change := range []string{
		"l.NAME = HIGH", `l["NAME"] = HIGH`, "l.N = HIGH", "l.update(NAME = HIGH)", `l.update({"NAME": HIGH})`, "l += limits(NAME = HIGH)", "l |= limits(NAME = HIGH)",
		"l.append(HIGH)", `setattr(l, "NAME", HIGH)`, "dict(l)", "l.clear()", "l(NAME = HIGH)", "l = limits(NAME = HIGH)", "[l for l in [limits(NAME = HIGH)]]",
	} {
		out = append(out,
			raise{what: change + " after the header", top: "l = limits(NAME = LOW)\nrunbook(limits = l, rollout = ROLLOUT)\ndef change(l):\n    " + change + "\nchange(l)"},
			raise{what: change + " at run time", top: "l = limits(NAME = LOW)\nrunbook(limits = l, rollout = ROLLOUT)\ndef change(l):\n    " + change, run: "change(l)"})
	}
	for _, v := range values {
		out = append(out, raise{what: "the value " + v, top: "runbook(limits = limits(NAME = " + v + "), rollout = ROLLOUT)"})
	}
	return out
}()

// TestNoLimitIsRaisedFromInside tries each of raises on every limit: one that
// the header sets, and one that a policy or the command line has set below what the header says. Each
// try is an error about the try, or it leaves the limit as it was, and that stops the run.
func TestNoLimitIsRaisedFromInside(t *testing.T) {
	t.Parallel() // it computes where others wait
	j := testJournal(t)
	tried, stopped := 0, map[engine.Limit]int{}
	for _, info := range engine.LimitTable {
		for _, by := range []string{"header", "policy", "--limit"} {
			t.Run(string(info.Name)+" of "+by, func(t *testing.T) {
				for _, r := range raises {
					value := strings.HasPrefix(r.what, "the value ")
					if by == "header" && (value || !strings.Contains(r.top, "LOW")) || by != "header" && (by == "--limit") != value {
						continue // the header says so itself, or the other of flag and policy tries it
					}
					tried++
					if tryRaise(t, j, info, by, r) {
						stopped[info.Name]++
					}
				}
			})
		}
		if least := 20; stopped[info.Name] < least && info.Name != engine.LimitDuration {
			t.Errorf("%s stopped %d runs, want %d", info.Name, stopped[info.Name], least)
		}
	}
	t.Logf("%d ways on %d limits: %d tried, none raises one; how many runs each has stopped: %v", len(raises), len(engine.LimitTable), tried, stopped)
}

// tryRaise tries r on a limit that by has set, and reports whether the limit stopped it.
func tryRaise(t *testing.T, j *journal.Journal, info engine.LimitInfo, by string, r raise) bool {
	t.Helper()
	h := hits[info.Name]
	low, err := info.Parse(h.low)
	if err != nil {
		t.Fatal(err)
	}
	if info.Name == engine.LimitDuration {
		h.delay = 0 // what stops it takes seconds: here it is enough what holds
	}
	lowText := written(info, h.low)
	if by != "header" {
		lowText = "HIGH"
	}
	fill := strings.NewReplacer("LOW", lowText, "NAME", string(info.Name), "HIGH", written(info, info.Show(info.Max)),
		"ROLLOUT", fmt.Sprintf("rollout(max_failures = %d)", h.failuresAllowed()))
	fillAll := func(s string) string { return fill.Replace(fill.Replace(s)) } // LOW may have become HIGH
	tr := newTrial(t, j, h, map[string]string{
		"book.star": fillAll(r.top) + "\n\ndef run(node, p):\n    " + fillAll(r.run) + "\n    " + h.body + "\n",
		"lib.star":  fillAll(r.lib) + "\n",
	})
	switch by {
	case "policy":
		tr.ceilings, _ = policyOf(t, tr.dir, info.Name, h.low)
	case "--limit":
		if tr.flags, err = (ceilings{given: []string{string(info.Name) + "=" + h.low}}).parse(); err != nil {
			t.Fatal(err)
		}
	}
	if h.twice {
		tr.run(t) //nolint:errcheck // the second is the one that counts
	}
	limits, err := tr.run(t)
	if limits != nil && limits.Of(info.Name).N > low {
		t.Errorf("%s: the limit is %s, and was %s", r.what, info.Show(limits.Of(info.Name).N), info.Show(low))
	}
	if err == nil {
		if info.Name != engine.LimitDuration {
			t.Errorf("%s: the limit stops nothing", r.what)
		}
		return false
	}
	e := engine.AsError(err)
	hit := strings.Contains(err.Error(), fmt.Sprintf("limit %s = ", info.Name))
	if hit || e.Code == engine.Unreachable && h.dead > 0 { // the node that does not answer is the worse error
		return hit
	}
	if (e.Code != engine.Invalid || !strings.Contains(e.Pos, filepath.Base("book.star"))) && !strings.Contains(e.Pos, "lib.star") {
		t.Errorf("%s: ended by something else: code %d: %v", r.what, e.Code, err)
	}
	return false
}
