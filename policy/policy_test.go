package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"runbook/engine"
)

const whole = `
limits: {nodes: 50, duration: 20m, memory: 256MB}
operations:
  - allow: [route.*, addr.add]
    users: [ann, bob]
    on: [web, "db-*"]
  - allow: exec
    argv: [systemctl, restart, "nginx*"]
windows:
  - {days: [mon, fri], from: "09:00", to: "17:00", zone: Europe/Berlin}
  - {days: [sat], from: "22:00", to: "04:00"}
freezes:
  - {from: 2026-12-20, to: 2027-01-03, why: year end}
confirm: [db]
untouched:
  - {group: db, at_least: 2}
  - {group: web, at_least: "50%"}
forbid_repeat_anyway: true
require_reason: true
`

func parse(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestOperations(t *testing.T) {
	s := Set{parse(t, whole)}
	web := engine.NodeInfo{Name: "web-1", Groups: []string{"web"}}
	for _, c := range []struct {
		user, op, args string
		node           engine.NodeInfo
		ok             bool
	}{
		{"ann", "route.add", `{}`, web, true},
		{"ann", "route.delete", `{}`, engine.NodeInfo{Name: "db-7"}, true},
		{"ann", "addr.add", `{}`, web, true},
		{"ann", "addr.delete", `{}`, web, false},
		{"eve", "route.add", `{}`, web, false},
		{"ann", "route.add", `{}`, engine.NodeInfo{Name: "lb-1", Groups: []string{"lb"}}, false},
		{"ann", "link.restart", `{}`, web, false},
		{"eve", "exec", `{"argv": ["systemctl", "restart", "nginx.service"]}`, web, true},
		{"eve", "exec", `{"argv": ["systemctl", "restart", "nginx", "--now"]}`, web, false},
		{"eve", "exec", `{"argv": ["systemctl", "restart"]}`, web, false},
		{"eve", "exec", `{"argv": "systemctl restart nginx"}`, web, false},
		{"eve", "exec", `{}`, web, false},
	} {
		err := s.Operation(c.user, c.node, c.op, json.RawMessage(c.args))
		if (err == nil) != c.ok {
			t.Errorf("%s, %s %s on %s: %v", c.user, c.op, c.args, c.node.Name, err)
		}
		if err != nil && (err.Code != engine.LimitHit || !strings.Contains(err.Cause, "p.yaml")) {
			t.Errorf("the error does not name its policy: %v", err)
		}
	}
	nothing := Set{parse(t, "operations: []")}
	if nothing.Operation("ann", web, "route.add", nil) == nil {
		t.Error("an empty list of operations allows one")
	}
	anything := Set{parse(t, "limits: {nodes: 3}")}
	if err := anything.Operation("ann", web, "route.add", nil); err != nil {
		t.Errorf("a policy that says nothing of operations forbids one: %v", err)
	}
}

func TestTimes(t *testing.T) {
	s := Set{parse(t, whole)}
	for when, want := range map[string]string{
		"2026-11-30T08:00:00Z":      "", // monday, 09:00 in Berlin
		"2026-11-30T07:59:59Z":      "outside of the change windows: mon,fri 09:00-17:00 Europe/Berlin; sat 22:00-04:00 UTC",
		"2026-11-30T16:00:00Z":      "outside",
		"2026-07-03T07:00:00Z":      "", // friday, in summer
		"2026-12-01T10:00:00Z":      "outside",
		"2026-12-05T22:00:00Z":      "", // saturday night,
		"2026-12-06T03:59:00Z":      "", // and on into sunday
		"2026-12-06T04:00:00Z":      "outside",
		"2026-12-05T03:00:00Z":      "outside", // the night before saturday
		"2026-12-21T10:00:00+01:00": "frozen until Mon 2027-01-04 00:00 UTC: year end",
		"2027-01-03T23:59:59Z":      "frozen",
		"2027-01-04T10:00:00+01:00": "",
	} {
		err := s.Now(at(when))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Cause, want) {
			t.Errorf("%s: %v, want %q", when, err, want)
		}
	}
}

func TestQuotas(t *testing.T) {
	var fleet []engine.NodeInfo
	for i := range 5 {
		fleet = append(fleet, engine.NodeInfo{Name: fmt.Sprintf("web-%d", i), Groups: []string{"web"}})
	}
	fleet = append(fleet, engine.NodeInfo{Name: "db-1", Groups: []string{"db"}})
	q := Set{parse(t, whole)}.Quotas(fleet)
	if len(q) != 2 || q[0].AtLeast != 2 || !slices.Equal(q[0].Nodes, []string{"db-1"}) || q[1].AtLeast != 3 || len(q[1].Nodes) != 5 {
		t.Errorf("got %+v", q)
	}
}

func TestWhatIsWrongHasItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"":                 "the policy is empty",
		"{}":               "the policy is empty",
		"null":             "the policy is empty",
		"windows: []":      "windows has no entry",
		"windows:":         "windows has no entry",
		"limits: {}":       "limits has no entry",
		"limits:":          "limits has no entry",
		`confirm: ["[db"]`: "is not a pattern",
		`freezes: [{from: 2026-12-20, to: 2026-12-21, zone: Local}]`: "want a time zone such as",
		"limit: {nodes: 3}":                                       "p.yaml:1:1: a policy has no key \"limit\"\n  hint: did you mean limits?",
		"limits: {node: 3}":                                       "p.yaml:1:10: there is no limit \"node\"\n  hint: did you mean nodes?",
		"limits: {nodes: 0}":                                      "nodes must be at least 1, got 0",
		"limits: {nodes: many}":                                   "nodes: want a number, got \"many\"",
		"limits: {nodes: 010}":                                    "is one number for some",
		"limits: {duration: 5}":                                   "duration: want a time such as \"30m\", got \"5\"",
		"limits: [nodes]":                                         "limits: want a mapping, got a list",
		"operations: {allow: x}":                                  "operations: want a list, got a mapping",
		"operations: [{users: x}]":                                "needs allow",
		"operations: [{allow: []}]":                               "allow: want text, or a list of it",
		`operations: [{allow: "["}]`:                              "is not a pattern",
		"operations: [{allow: x, user: ann}]":                     "did you mean users?",
		"windows: [{from: \"09:00\"}]":                            "needs from",
		"windows: [{from: \"9\", to: \"10:00\"}]":                 "want a time of the day such as \"09:30\", got \"9\"",
		"windows: [{from: \"09:00\", to: \"09:00\"}]":             "ends when it begins",
		"windows: [{from: \"09:00\", to: \"10:00\", zone: X}]":    "unknown time zone X",
		"windows: [{days: [moon], from: \"1:00\", to: \"2:00\"}]": "\"moon\" is none of",
		"freezes: [{from: 2026-12-20}]":                           "needs from: and to:",
		"freezes: [{from: 2026-12-20, to: 2026-12-19}]":           "ends before it begins",
		"freezes: [{from: soon, to: 2026-12-19}]":                 "want a day such as",
		"untouched: [{group: db}]":                                "needs at_least",
		"untouched: [{group: db, at_least: -1}]":                  "want a number of nodes",
		"untouched: [{group: db, at_least: 101%}]":                "want a number of nodes",
		"confirm: []":                                             "confirm: want text",
		"forbid_repeat_anyway: yes":                               "want true or false",
		"limits: {nodes: 3}\nlimits: {nodes: 4}":                  "limits twice",
		"a: [":                                                    "p.yaml:",
		"\xff":                                                    "not UTF-8",
	} {
		_, err := Parse("p.yaml", []byte(text))
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != engine.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	inventory := filepath.Join(dir, "inventory.yaml")
	beside, extra := filepath.Join(dir, FileName), filepath.Join(dir, "extra.yaml")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	none, err := Find(inventory, nil)
	if err != nil {
		t.Fatal(err)
	}
	write(beside, "limits: {nodes: 5}")
	write(extra, "limits: {nodes: 3, changes: 7}")
	s, err := Find(inventory, []string{extra})
	if err != nil || len(s) != len(none)+2 {
		t.Fatalf("found %d policies: %v", len(s), err)
	}
	if l := s.Limits(); l[engine.LimitNodes].N != 3 || l[engine.LimitNodes].Source != "policy "+extra+":1:10" || l[engine.LimitChanges].N != 7 {
		t.Errorf("limits %v", l)
	}
	if _, err := Find(inventory, []string{filepath.Join(dir, "missing.yaml")}); err == nil {
		t.Error("a policy that is named and not there stops nothing")
	}
	write(beside, "limits: {nodes: ")
	if _, err := Find(inventory, nil); err == nil {
		t.Error("a policy that cannot be parsed stops nothing")
	}
	if err := os.Remove(beside); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(beside, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(inventory, nil); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a policy that cannot be read stops nothing: %v", err)
	}
}

// drawn is a random policy.
func drawn(rt *rapid.T) *Policy {
	var b strings.Builder
	n := rapid.IntRange(1, 20).Draw(rt, "nodes")
	fmt.Fprintf(&b, "limits: {nodes: %d, changes: %d}\n", n, rapid.IntRange(0, 20).Draw(rt, "changes"))
	if rapid.Bool().Draw(rt, "closed") {
		b.WriteString("operations:\n")
		for range rapid.IntRange(1, 3).Draw(rt, "operations") {
			fmt.Fprintf(&b, "  - {allow: [%s], on: [%s]}\n",
				rapid.SampledFrom([]string{"route.*", "route.add", "link.*", `"*"`}).Draw(rt, "allow"),
				rapid.SampledFrom([]string{"web", "db", `"*-1"`}).Draw(rt, "on"))
		}
	}
	if rapid.Bool().Draw(rt, "window") {
		fmt.Fprintf(&b, "windows: [{from: %q, to: %q}]\n", fmt.Sprintf("%02d:00", rapid.IntRange(0, 11).Draw(rt, "from")), fmt.Sprintf("%02d:00", rapid.IntRange(12, 23).Draw(rt, "to")))
	}
	if rapid.Bool().Draw(rt, "confirm") {
		b.WriteString("confirm: [db]\n")
	}
	p, err := Parse("p.yaml", []byte(b.String()))
	if err != nil {
		rt.Fatal(err)
	}
	return p
}

// What a set allows does not depend on its order or on repetitions, and another policy never makes it looser.
func TestTheStrictestWins(t *testing.T) {
	nodes := []engine.NodeInfo{{Name: "web-1", Groups: []string{"web"}}, {Name: "db-1", Groups: []string{"db"}}, {Name: "db-2", Groups: []string{"db"}}}
	forbids := func(s Set) map[string]bool {
		out := map[string]bool{}
		for h := range 24 {
			out[fmt.Sprint("at ", h)] = s.Now(at(fmt.Sprintf("2026-11-30T%02d:30:00Z", h))) != nil
		}
		for _, n := range nodes {
			_, out["unasked "+n.Name] = s.Confirm(n)
			for _, op := range []string{"route.add", "route.delete", "link.restart"} {
				out[op+" "+n.Name] = s.Operation("ann", n, op, nil) != nil
			}
		}
		for _, l := range []engine.Limit{engine.LimitNodes, engine.LimitChanges} {
			for n := range int64(25) {
				b, set := s.Limits()[l]
				out[fmt.Sprint(l, n)] = set && n > b.N
			}
		}
		return out
	}
	rapid.Check(t, func(rt *rapid.T) {
		a, b, c := drawn(rt), drawn(rt), drawn(rt)
		abc := forbids(Set{a, b, c})
		for _, same := range []Set{{c, a, b}, {b, a, c, a}} {
			if got := forbids(same); fmt.Sprint(got) != fmt.Sprint(abc) {
				rt.Fatalf("in another order: %v, not %v", got, abc)
			}
		}
		for what, was := range forbids(Set{a, b}) {
			if was && !abc[what] {
				rt.Fatalf("a third policy allows %s", what)
			}
		}
		for what, was := range forbids(Set{c}) {
			if was && !abc[what] {
				rt.Fatalf("two more policies allow %s", what)
			}
		}
	})
}

// Whatever is in the file, reading it ends in a policy or in an error with its place.
func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("limits: {nodes: 0x10}")
	f.Add("windows: [{from: \"24:00\", to: \"00:00\"}]")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("p.yaml", []byte(text))
		var e *engine.Error
		if err != nil && (!errors.As(err, &e) || e.Code != engine.Invalid || e.Pos == "") {
			t.Errorf("an error without a place: %v", err)
		}
		if err == nil {
			p.Describe()
			Set{p}.Now(time.Now())
		}
	})
}
