package inventory

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"runbook/engine"
)

// FuzzSelect: a selection gives at least one node, in order and once each, or
// an error of kind Invalid with a place and without a node.
func FuzzSelect(f *testing.F) {
	inv := load(f, "testdata/good/fleet.yaml")
	for _, s := range []string{"all", "web and not web-3", "(web-*, db-?) or x[!a-c]", "web-[1:3]", "not all", "\xff[", "((", "web web", "[:]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		nodes, err := inv.Select(expr)
		if err != nil {
			var e *engine.Error
			if !errors.As(err, &e) || e.Code != engine.Invalid || e.Pos == "" || e.Hint == "" && e.Cause == "" || nodes != nil {
				t.Fatalf("%q: %v, %v", expr, nodes, err)
			}
			return
		}
		last := -1
		for _, n := range nodes {
			i := inv.index[n.Name]
			if i <= last {
				t.Fatalf("%q: %v", expr, namesOf(nodes))
			}
			last = i
		}
		if last < 0 {
			t.Fatalf("%q selects nothing and is no error", expr)
		}
		back, err := inv.Select("not not (" + expr + ")")
		if err == nil && !slices.Equal(namesOf(nodes), namesOf(back)) {
			t.Fatalf("%q: %v, %v", expr, namesOf(nodes), namesOf(back))
		}
	})
}

// noOrigin is a context in which an inventory takes its nodes from nowhere else:
// no program is run, no other file read.
func noOrigin(t *testing.T) context.Context {
	return context.WithValue(t.Context(), nested{}, maxIncludes)
}

// FuzzLoad: whatever the file holds, it is an inventory whose every node can be
// selected by name, or an error of kind Invalid with a place in it.
func FuzzLoad(f *testing.F) {
	b, err := os.ReadFile("testdata/good/fleet.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, s := range []string{"nodes: {a: }", "groups: {a: {groups: [a]}}", "a: &x [*x]", "<<: {}", "? {}\n: []", "nodes: {a: {vars: {x: !!binary y}}}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		src, err := input{file: "f.yaml", path: "/none/f.yaml", text: text}.source(noOrigin(t))
		var inv *Inventory
		if err == nil {
			inv, err = src.build()
		}
		if err != nil {
			var e *engine.Error
			if !errors.As(err, &e) || e.Code != engine.Invalid || e.Pos == "" || e.Cause == "" {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		for _, n := range inv.Nodes() {
			got, err := inv.Select(n.Name)
			if err != nil || len(got) != 1 || got[0].Name != n.Name || n.SSH.Host == "" || n.Become == "" {
				t.Fatalf("%q: %v %v", text, got, err)
			}
		}
	})
}
