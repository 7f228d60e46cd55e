package tui_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"runbook/engine"
	"runbook/engine/resource"
	"runbook/tui"
)

// constants are the values of the constants of a type, in a file of engine.
func constants(t *testing.T, file, of string) (out []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../engine/"+file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) == 0 || fmt.Sprint(v.Type) != of {
			return true
		}
		s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
		return true
	})
	if len(out) < 5 {
		t.Fatalf("%s has %d constants of %s", file, len(out), of)
	}
	return out
}

// quiet is what lines do not tell of: the plan is printed whole, and questions and answers are on the terminal already.
var quiet = map[engine.EventKind]bool{engine.EventPredict: true, engine.EventPlanned: true, engine.EventQuestion: true, engine.EventAnswer: true}

// Every kind of event is told as a line and as JSON, and is documented with every field that there is.
func TestEveryEventIsTold(t *testing.T) {
	doc, err := os.ReadFile("../docs/EVENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := func(what string) {
		t.Helper()
		if !strings.Contains(string(doc), "`"+what+"`") {
			t.Errorf("docs/EVENTS.md does not tell of %s", what)
		}
	}
	for _, kind := range constants(t, "event.go", "EventKind") {
		documented(kind)
		e := engine.Event{
			Kind: engine.EventKind(kind), Run: "r", Wave: 1, Node: "web-1", State: engine.NodeDone, Op: "route.add 10.20.0.0/16", Text: "text",
			Diff: resource.Compare(resource.State{}, resource.Of(route("10.98.0.1"))), For: 1, Nodes: 1, Value: new(float64),
			States: map[engine.NodeState][]string{engine.NodeDone: {"web-1"}},
		}
		var lines, objects bytes.Buffer
		tui.Lines(&lines, tui.Style{})(e)
		tui.JSONLines(&objects)(e)
		if strings.TrimSpace(lines.String()) == "" != quiet[engine.EventKind(kind)] {
			t.Errorf("lines tell of %s: %q", kind, lines.String())
		}
		var back map[string]any
		if err := json.Unmarshal(objects.Bytes(), &back); err != nil || back["event"] != kind || strings.Count(objects.String(), "\n") != 1 {
			t.Errorf("%s is %q in JSON: %v", kind, objects.String(), err)
		}
	}
	for _, state := range constants(t, "event.go", "NodeState") {
		documented(state)
		var lines bytes.Buffer
		tui.Lines(&lines, tui.Style{})(engine.Event{Kind: engine.EventEnd, Run: "r", States: map[engine.NodeState][]string{engine.NodeState(state): {"web-1"}}})
		if !strings.Contains(lines.String(), state) || !strings.Contains(lines.String(), "web-1") {
			t.Errorf("a node that is %s is not in the table at the end:\n%s", state, lines.String())
		}
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[engine.Event](), reflect.TypeFor[engine.Outlook](), reflect.TypeFor[engine.WaveOutlook](), reflect.TypeFor[engine.Next](), reflect.TypeFor[engine.Error]()} {
		for i := range typ.NumField() {
			if name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); name != "-" {
				documented(name)
			}
		}
	}
}
