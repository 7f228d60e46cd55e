package inventory

import (
	"context"
	"encoding/json"
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

// inventoryOrError checks what came of text: an inventory whose every node can be
// selected by name, or an error of kind Invalid with a place.
func inventoryOrError(t *testing.T, text []byte, src *source, err error) {
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
		if _, err := json.Marshal(n); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
}

// fuzzForm fuzzes the reader that in is for, from these files and texts on.
func fuzzForm(f *testing.F, in input, seeds ...string) {
	for _, s := range seeds {
		if b, err := os.ReadFile(s); err == nil {
			s = string(b)
		}
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		in.text = text
		src, err := in.source(noOrigin(t))
		inventoryOrError(t, text, src, err)
	})
}

// FuzzLoad: our own form, and whatever else a YAML file holds.
func FuzzLoad(f *testing.F) {
	fuzzForm(f, input{file: "f.yaml", path: "/none/f.yaml"}, "testdata/good/fleet.yaml",
		"nodes: {a: }", "groups: {a: {groups: [a]}}", "a: &x [*x]", "<<: {}", "? {}\n: []", "nodes: {a: {vars: {x: !!binary y}}}")
}

// FuzzAnsibleINI: Ansible's INI form.
func FuzzAnsibleINI(f *testing.F) {
	fuzzForm(f, input{file: "hosts.ini", path: "/none/hosts.ini"}, "testdata/ansible/ini/hosts.ini", "testdata/good/ansible-reach.ini",
		"[a:children]\na", "[", "a ansible_host={{b}} b={{a}}", "a:1 b=[[[", "[a:vars]\nx=")
}

// FuzzAnsibleYAML: Ansible's YAML form.
func FuzzAnsibleYAML(f *testing.F) {
	fuzzForm(f, input{file: "f.yml", path: "/none/f.yml"}, "testdata/ansible/yaml/hosts.yml", "testdata/good/ansible-vault.yml",
		"all: {hosts: {a: {x: &a {y: *a}}}}", "all: {children: {b: &b {children: *b}}}", "all: {hosts: {a: {<<: [{b: 1}]}}}")
}

// FuzzAnsibleJSON: what a script prints.
func FuzzAnsibleJSON(f *testing.F) {
	fuzzForm(f, input{file: "output of f", path: "/none/f", script: true},
		`{"_meta":{"hostvars":{"a":{"x":[1,{"y":null}]}}},"g":["a"],"h":{"children":["g"],"vars":{"z":1e999}}}`, "{}", "[]", `{"a":`)
}

// FuzzSSHConfig: an ssh_config that includes nothing.
func FuzzSSHConfig(f *testing.F) {
	for _, s := range []string{"Host a b\n", "host=\"a\"", "Match all\nHost * !x y", "Host a\\ b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h := &sshHosts{src: &source{file: "f"}}
		err := h.lines(text, "f", nil, maxIncludes)
		inventoryOrError(t, text, h.src, err)
	})
}
