package inventory

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"runbook/engine"
)

// This file reads what an inventory in our own form takes its nodes from:
//
//	from: hosts.ini                  another inventory, such as Ansible's
//	ssh_config: ~/.ssh/config        the hosts that it names
//	command: [./cloud.py, --prod]    what a program prints, in any of the forms
//	timeout: 5m                      how long that may take
//
// Their groups are groups of this file, and what they say of a node counts as said
// under nodes: here, unless it is said there.

// origin reads what body, the whole file, takes nodes from.
func (r *reader) origin(ctx context.Context, body ast.Node) error {
	fields, err := r.Mapping(body, "an inventory")
	if err != nil {
		return err
	}
	patience := commandTime
	said := map[string]field{}
	for _, f := range fields {
		said[f.Name] = f
	}
	if f, ok := said["timeout"]; ok {
		if patience, err = r.patience(f); err != nil {
			return err
		}
		if _, ok := said["command"]; !ok {
			return invalid(f.Pos, "", "timeout says how long a command may take, and there is no command")
		}
	}
	for _, name := range []string{"from", "ssh_config", "command"} {
		f, ok := said[name]
		if !ok {
			continue
		}
		depth, _ := ctx.Value(nested{}).(int)
		if depth >= maxIncludes {
			return invalid(f.Pos, "", "inventories take nodes from each other more than %d deep", maxIncludes)
		}
		ctx := context.WithValue(ctx, nested{}, depth+1)
		var src *source
		if name == "command" {
			src, err = r.command(ctx, f, patience)
		} else {
			src, err = r.other(ctx, f)
		}
		if err == nil {
			err = r.src.takeFrom(src)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) patience(f field) (time.Duration, error) {
	text, ok := f.Value.(*ast.StringNode)
	if !ok {
		return 0, r.Mistyped(f.Value, "timeout", "text, such as 30s or 5m")
	}
	d, err := time.ParseDuration(text.Value)
	if err != nil || d <= 0 {
		return 0, invalid(r.Place(f.Value), "", "timeout: want a time such as 30s or 5m, got %q", text.Value)
	}
	return d, nil
}

// nested is how many inventories have led to each other.
type nested struct{}

// other reads the inventory, or the ssh_config, that f names.
func (r *reader) other(ctx context.Context, f field) (*source, error) {
	path, err := r.path(f.Value, f.Name)
	if err != nil {
		return nil, err
	}
	if rel, err := filepath.Rel(r.in.dir(), path); err == nil && !strings.HasPrefix(rel, "..") && !filepath.IsAbs(r.in.file) {
		path = filepath.Join(filepath.Dir(r.in.file), rel) // errors name it as this file is named
	}
	if f.Name == "ssh_config" {
		path = SSHConfig + path
	}
	return open(ctx, path)
}

// command runs the program that f is, and reads what it prints.
func (r *reader) command(ctx context.Context, f field, patience time.Duration) (*source, error) {
	items, err := r.List(f.Value, "command")
	if err != nil {
		return nil, err
	}
	var argv []string
	for _, i := range items {
		s, ok := i.(*ast.StringNode)
		if !ok || strings.ContainsRune(s.Value, 0) {
			return nil, r.Mistyped(i, "command", "text")
		}
		argv = append(argv, s.Value)
	}
	if len(argv) == 0 || argv[0] == "" {
		return nil, r.Mistyped(f.Value, "command", "a program and its arguments")
	}
	if argv[0], err = r.program(f, argv[0]); err != nil {
		return nil, err
	}
	text, err := output(ctx, argv, r.in.dir(), patience)
	if err != nil {
		return nil, at(r.Place(f.Value), err)
	}
	out := input{file: "output of " + filepath.Base(argv[0]), path: r.in.path, text: text}
	src, err := out.source(ctx)
	if err != nil {
		return nil, err
	}
	return src, nil
}

// program finds a program: one with a slash in it lies where the inventory does.
func (r *reader) program(f field, name string) (string, error) {
	name, err := homePath(name)
	if err == nil && strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(r.in.dir(), name)
		}
		return name, nil
	}
	if err == nil {
		name, err = exec.LookPath(name)
	}
	if err != nil {
		return "", invalid(r.Place(f.Value), "one beside the inventory is ./NAME", "command: %v", err)
	}
	return name, nil
}

// takeFrom gives s the nodes and groups of src, with all that src says of each node.
func (s *source) takeFrom(src *source) error {
	for _, g := range src.groups.list {
		own := s.group(g.named)
		for _, n := range g.nodes {
			if !own.holds(n.name) {
				own.nodes = append(own.nodes, n)
			}
		}
		own.children = append(own.children, g.children...)
	}
	err := src.resolve(func(m *member, _ []*group, said settings) {
		own := s.node(m.named)
		own.override(said)
		own.groups = append(own.groups, m.groups...)
	})
	if err != nil {
		return err
	}
	s.warnings = append(s.warnings, src.warnings...)
	return nil
}

// at gives err a place, if it has none.
func at(pos string, err error) error {
	e := *engine.AsError(err)
	if e.Pos == "" {
		e.Pos = pos
	}
	return &e
}
