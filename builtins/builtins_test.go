package builtins_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"runbook/builtins"
	"runbook/engine"
	"runbook/engine/resource"
	"runbook/node/sim"
)

// testCase is one case of an operation: testdata/NAME.json holds a list of them.
type testCase struct {
	Name   string          `json:"name"`
	Also   resource.State  `json:"also"`   // what node-1 of a lab holds besides
	Args   json.RawMessage `json:"args"`   // of the call
	Error  string          `json:"error"`  // a regular expression for what is wrong, or
	Diff   []string        `json:"diff"`   // what is changed, and
	Result any             `json:"result"` // what the script gets: of an object, these fields
}

func TestOperations(t *testing.T) {
	for _, name := range builtins.Operations.Names() {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal("every operation has its cases:", err)
			}
			var cases []testCase
			if err := json.Unmarshal(b, &cases); err != nil {
				t.Fatal(err)
			}
			if len(cases) == 0 {
				t.Fatal("no cases")
			}
			for _, c := range cases {
				t.Run(c.Name, func(t *testing.T) { c.run(t, name) })
			}
		})
	}
}

// The table of the README has every operation, with its arguments in their order.
func TestReadmeHasTheOperations(t *testing.T) {
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, m := range regexp.MustCompile("`node\\.([a-z]+(?:\\.[a-z_]+)?)\\(([^()`]*)\\)`").FindAllStringSubmatch(string(b), -1) {
		told[m[1]] = m[2]
	}
	for _, m := range regexp.MustCompile("`node\\.([a-z]+)\\(server\\)\\.([a-z_]+)\\(([^()`]*)\\)`").FindAllStringSubmatch(string(b), -1) {
		told[m[1]+"."+m[2]] = strings.TrimSuffix("server, "+m[3], ", ")
	}
	for _, name := range builtins.Operations.Names() {
		var args []string
		for _, a := range engine.Args(builtins.Operations[name]) {
			args = append(args, a.Name)
		}
		if got, there := told[name]; !there || got != strings.Join(args, ", ") {
			t.Errorf("node.%s(%s): the README has %q", name, strings.Join(args, ", "), got)
		}
		delete(told, name)
	}
	for name := range told {
		t.Errorf("the README has node.%s, which there is not", name)
	}
}

func (c testCase) run(t *testing.T, name string) {
	result, plan, err := c.predict(t, name)
	if c.Error != "" {
		if err == nil || !regexp.MustCompile(c.Error).MatchString(err.Error()) {
			t.Fatalf("got error %v\nwant %s", err, c.Error)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var diff []string
	for _, s := range plan.Steps {
		for _, ch := range s.Edit.Diff() {
			diff = append(diff, ch.Lines()...)
		}
	}
	if strings.Join(diff, "\n") != strings.Join(c.Diff, "\n") {
		t.Errorf("diff:\n%s\nwant:\n%s", strings.Join(diff, "\n"), strings.Join(c.Diff, "\n"))
	}
	if !contains(result, c.Result) {
		got, _ := json.Marshal(result)
		want, _ := json.Marshal(c.Result)
		t.Errorf("result: %s\nwant: %s", got, want)
	}
}

// predict makes the call in a prediction, with its result as a script would see it.
func (c testCase) predict(t *testing.T, name string) (any, *engine.NodePlan, error) {
	op, err := builtins.Operations.Decode(name, c.Args)
	if err != nil {
		return nil, nil, err
	}
	state := sim.LabNode("node-1", 1)
	for k, r := range c.Also {
		state[k] = r
	}
	plan := &engine.NodePlan{Node: "node-1"}
	pass := engine.NewPrediction(plan, engine.Limits{}, sim.Over(sim.New(state)), func(engine.Event) {})
	got, err := pass.Do(t.Context(), engine.Call{Name: name, Args: c.Args, Op: op, Pos: "x.star:1:1"})
	if err != nil {
		return nil, nil, err
	}
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v, plan, nil
}

// contains reports whether got is want; of an object, only want's fields count.
func contains(got, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		for k, v := range w {
			field, has := g[k]
			ok = ok && has && contains(field, v)
		}
		return ok
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			ok = ok && contains(g[i], w[i])
		}
		return ok
	default:
		return reflect.DeepEqual(got, want)
	}
}
