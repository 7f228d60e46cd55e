package reference

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.starlark.net/syntax"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
	"runbook/rehearse"
)

func all(t *testing.T) []Entry {
	t.Helper()
	out, err := All()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Every operation is told of, and every function of the language, in words of scripts.
func TestAll(t *testing.T) {
	goName := regexp.MustCompile(`\b(Pg|Route|Link|Addr|Rule|Neigh|Bouncer)[A-Z]\w+\b|\[[A-Z]\w*\]`)
	told := map[string]bool{}
	for _, e := range all(t) {
		if e.Call == "" {
			continue
		}
		told[e.Name] = true
		if e.Short == "" || e.Text == "" || len(e.Short) > 200 {
			t.Errorf("%s: %q", e.Name, e.Short)
		}
		for _, text := range []string{e.Text, fmt.Sprint(e.Args)} {
			if m := goName.FindString(text); m != "" {
				t.Errorf("%s is told of in words of Go: %s", e.Name, m)
			}
		}
	}
	for _, name := range append(slices.Concat(builtins.Operations.Names(), rehearse.Operations.Names()), "runbook", "limits", "rollout", "param.TYPE", "expect", "fail", "attempt", "retry", "observe", "struct", "node.pg", "pg.connect") {
		if !told[name] {
			t.Errorf("nothing is told of %s", name)
		}
	}
}

// Every example can be read by Starlark.
func TestExamples(t *testing.T) {
	n := 0
	for _, e := range all(t) {
		var code strings.Builder
		lines := strings.Split(e.Text, "\n")
		for i, l := range lines {
			example, is := strings.CutPrefix(l, "\t")
			if !is {
				continue
			}
			code.WriteString(example + "\n")
			head, _, _ := strings.Cut(example, "#")
			if strings.HasSuffix(strings.TrimSpace(head), ":") && (i+1 == len(lines) || !strings.HasPrefix(lines[i+1], "\t ")) { // of which only the head is shown
				code.WriteString("    pass\n")
			}
		}
		if code.Len() == 0 {
			if strings.HasPrefix(e.Call, "node.") || strings.HasPrefix(e.Call, "t.") {
				t.Errorf("%s has no example", e.Name)
			}
			continue
		}
		n++
		if _, err := (&syntax.FileOptions{TopLevelControl: true, GlobalReassign: true}).Parse(e.Name, code.String(), 0); err != nil {
			t.Errorf("%v\n%s", err, code.String())
		}
	}
	if n < 30 {
		t.Errorf("%d examples", n)
	}
}

// What operations of servers return is told in their text, or in that of another to which it refers: all fields of
// the results that their cases have.
func TestFieldsOfServers(t *testing.T) {
	text := map[string]string{}
	for _, e := range all(t) {
		text[e.Name] = e.Text
	}
	var untold func(t *testing.T, name string, v any)
	untold = func(t *testing.T, name string, v any) {
		said := text[name]
		for _, other := range regexp.MustCompile(`\bpg\.[a-z_]+`).FindAllString(said, -1) {
			said += text[other]
		}
		switch v := v.(type) {
		case []any:
			for _, x := range v {
				untold(t, name, x)
			}
		case map[string]any:
			for field, x := range v {
				if !regexp.MustCompile(`\b` + field + `\b`).MatchString(said) {
					t.Errorf("the text does not name the field %s of a result", field)
				}
				untold(t, name, x)
			}
		}
	}
	for _, name := range builtins.Operations.Names() {
		domain, _, _ := strings.Cut(name, ".")
		if domain != "pg" && domain != "bouncer" || name == "pg.query" || name == "bouncer.show" { // whose fields are the columns
			continue
		}
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile("../../builtins/testdata/" + name + ".json")
			var cases []struct {
				Also  resource.State
				Args  json.RawMessage
				Error string
			}
			if err == nil {
				err = json.Unmarshal(raw, &cases)
			}
			if err != nil {
				t.Fatal(err)
			}
			results := 0
			for _, c := range cases {
				if c.Error != "" {
					continue
				}
				op, err := builtins.Operations.Decode(name, c.Args)
				if err != nil {
					t.Fatal(err)
				}
				pass := engine.NewPrediction(&engine.NodePlan{Node: "node-1"}, engine.Limits{}, sim.Over(sim.New(c.Also)), func(engine.Event) {})
				got, err := pass.Do(t.Context(), engine.Call{Name: name, Args: c.Args, Op: op, Pos: "x.star:1:1"})
				if err != nil {
					continue // it takes a fleet
				}
				b, _ := json.Marshal(got)
				var v any
				if err := json.Unmarshal(b, &v); err != nil {
					t.Fatal(err)
				}
				results++
				untold(t, name, v)
			}
			if results == 0 && name != "pg.dead" && name != "pg.reap_dead" {
				t.Error("no case has a result")
			}
		})
	}
}

// The fields that are told of are those that scripts are given.
func TestFields(t *testing.T) {
	state := sim.LabNode("node-1", 1)
	for _, r := range []resource.Resource{resource.Neigh{Dev: "eth1", MAC: "02:00:00:00:00:09", Permanent: true}, resource.Nexthop{ID: 7}} {
		if n, is := r.(resource.Neigh); is {
			n.Addr = resource.All[resource.Addr](state)[0].Prefix.Addr().Next()
			r = n
		}
		state[r.Key()] = r
	}
	for _, e := range all(t) {
		if e.Call != "" {
			continue
		}
		pass := engine.NewPrediction(&engine.NodePlan{Node: "node-1"}, engine.Limits{}, sim.Over(sim.New(state)), func(engine.Event) {})
		name := e.Name + ".list"
		op, err := builtins.Operations.Decode(name, json.RawMessage("{}"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := pass.Do(t.Context(), engine.Call{Name: name, Args: json.RawMessage("{}"), Op: op, Pos: "x.star:1:1"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var list []map[string]any
		if err := json.Unmarshal(b, &list); err != nil || len(list) == 0 {
			t.Fatalf("%s: %v: %s", name, err, b)
		}
		var fields []string
		for _, f := range e.Fields {
			fields = append(fields, f.Name)
		}
		slices.Sort(fields)
		if given := slices.Sorted(maps.Keys(list[0])); !slices.Equal(fields, given) {
			t.Errorf("a %s has %v, and is told to have %v", e.Name, given, fields)
		}
	}
}
