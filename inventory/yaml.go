package inventory

import (
	"context"
	"math"
	"net/netip"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"

	"runbook/internal/yamlfile"
)

// This file reads the YAML form of an inventory into a source. It walks the
// syntax tree, so that everything that is wrong has its place in the file.

// reader reads one file.
type reader struct {
	yamlfile.Reader
	in  input
	src *source
}

type (
	field    = yamlfile.Field
	handlers = yamlfile.Handlers
)

// readOwn reads an inventory in our own form. What it takes nodes from is read
// before all else: the file adds to that, wherever it says so.
func readOwn(ctx context.Context, in input, body ast.Node) (*source, error) {
	r := &reader{Reader: yamlfile.Reader{File: in.file}, in: in, src: &source{file: in.file}}
	if err := r.origin(ctx, body); err != nil {
		return nil, err
	}
	skip := func(field) error { return nil }
	err := r.Fields(body, "an inventory", handlers{
		"defaults":   r.defaults,
		"groups":     r.groups,
		"nodes":      r.nodes,
		"from":       skip,
		"command":    skip,
		"timeout":    skip,
		"ssh_config": skip,
	})
	if err != nil {
		return nil, err
	}
	return r.src, nil
}

// name returns the name of a node or a group that n is.
func (r *reader) name(n ast.Node, what string) (named, error) {
	text, ok := n.(*ast.StringNode)
	if !ok {
		return named{}, r.Mistyped(n, what, "a name")
	}
	out := named{text.Value, r.Pos(text.Token)}
	if bad := badName(out.name); bad != "" {
		return named{}, invalid(out.pos, "", "%s: %s", what, bad)
	}
	return out, nil
}

// names returns the names of which n is a list, each once. With ranges, an item
// may stand for several.
func (r *reader) names(n ast.Node, what string, ranges bool) ([]named, error) {
	items, err := r.List(n, what)
	if err != nil {
		return nil, err
	}
	var out []named
	first := map[string]string{}
	for _, item := range items {
		names := []named{{}}
		if text, ok := item.(*ast.StringNode); ok && ranges && isRange(text.Value) {
			names, err = r.expanded(text, what)
		} else {
			names[0], err = r.name(item, what)
		}
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if at, twice := first[n.name]; twice {
				return nil, invalid(n.pos, "", "%s: %s is listed twice, first at %s", what, n.name, at)
			}
			first[n.name] = n.pos
		}
		out = append(out, names...)
	}
	return out, nil
}

func (r *reader) expanded(text *ast.StringNode, what string) ([]named, error) {
	pos := r.Pos(text.Token)
	list, err := expand(text.Value)
	if err != nil {
		return nil, invalid(pos, "", "%s: %v", what, err)
	}
	out := make([]named, 0, len(list))
	for _, name := range list {
		if bad := badName(name); bad != "" {
			return nil, invalid(pos, "", "%s: %s", what, bad)
		}
		out = append(out, named{name, pos})
	}
	return out, nil
}

func (r *reader) defaults(f field) error {
	return r.Fields(f.Value, "defaults", r.settings(&r.src.defaults.settings, "defaults"))
}

func (r *reader) groups(f field) error {
	list, err := r.Mapping(f.Value, "groups")
	if err != nil {
		return err
	}
	for _, f := range list {
		if bad := badName(f.Name); bad != "" {
			return invalid(f.Pos, "", "groups: %s", bad)
		}
		g, what := r.src.group(named{f.Name, f.Pos}), "group "+f.Name
		hs := r.settings(&g.settings, what)
		hs["nodes"] = func(f field) error {
			nodes, err := r.names(f.Value, "nodes of "+what, true)
			for _, n := range nodes {
				r.src.node(n)
				if !g.holds(n.name) {
					g.nodes = append(g.nodes, n)
				}
			}
			return err
		}
		hs["groups"] = func(f field) error {
			children, err := r.names(f.Value, "groups of "+what, false)
			g.children = append(g.children, children...)
			return err
		}
		if err := r.Fields(f.Value, what, hs); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) nodes(f field) error {
	list, err := r.Mapping(f.Value, "nodes")
	if err != nil {
		return err
	}
	for _, f := range list {
		if isRange(f.Name) {
			return invalid(f.Pos, "name the range in a group, and say there what its nodes share", "nodes: %s is a range, and this is about one node", f.Name)
		}
		if bad := badName(f.Name); bad != "" {
			return invalid(f.Pos, "", "nodes: %s", bad)
		}
		n, what := r.src.node(named{f.Name, f.Pos}), "node "+f.Name
		hs := r.settings(&n.settings, what)
		hs["host"] = func(f field) (err error) {
			n.ssh.Host, err = r.host(f.Value, "host of "+what)
			return err
		}
		hs["groups"] = func(f field) error {
			groups, err := r.names(f.Value, "groups of "+what, false)
			n.groups = append(n.groups, groups...)
			return err
		}
		if err := r.Fields(f.Value, what, hs); err != nil {
			return err
		}
	}
	return nil
}

// settings returns what reads the settings that every level can have into to.
func (r *reader) settings(to *settings, what string) handlers {
	return handlers{
		"vars":   func(f field) error { return r.vars(f.Value, to, what) },
		"ssh":    func(f field) error { return r.ssh(f.Value, &to.ssh, what) },
		"become": func(f field) error { return r.become(f.Value, &to.become, what) },
	}
}

func (r *reader) become(n ast.Node, to *Become, what string) error {
	text, ok := n.(*ast.StringNode)
	if !ok || text.Value != string(BecomeSudo) && text.Value != string(BecomeNone) {
		return r.Mistyped(n, "become of "+what, "sudo or none")
	}
	*to = Become(text.Value)
	return nil
}

func (r *reader) ssh(n ast.Node, to *SSH, what string) error {
	what = "ssh of " + what
	text := func(to *string) func(field) error {
		return func(f field) (err error) {
			*to, err = r.word(f.Value, f.Name+" in "+what)
			return err
		}
	}
	paths := func(to *[]string) func(field) error {
		return func(f field) (err error) {
			*to, err = r.paths(f.Value, f.Name+" in "+what)
			return err
		}
	}
	return r.Fields(n, what, handlers{
		"user":        text(&to.User),
		"proxy_jump":  text(&to.ProxyJump),
		"identity":    paths(&to.Identity),
		"known_hosts": paths(&to.KnownHosts),
		"port": func(f field) error {
			return r.port(f.Value, &to.Port, what)
		},
		"config": func(f field) (err error) {
			if s, ok := f.Value.(*ast.StringNode); ok && s.Value == NoConfig {
				to.Config = NoConfig
				return nil
			}
			to.Config, err = r.path(f.Value, "config in "+what)
			return err
		},
		"host": func(f field) error {
			return invalid(f.Pos, "write host: under the node, beside its ssh:", "host stands in %s", what)
		},
	})
}

func (r *reader) port(n ast.Node, to *int, what string) error {
	const want = "a number from 1 to 65535"
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return r.Mistyped(n, "port in "+what, want)
	}
	v, err := r.Integer(i, "port in "+what)
	if err != nil {
		return err
	}
	if v < 1 || v > math.MaxUint16 {
		return r.Mistyped(n, "port in "+what, want)
	}
	*to = int(v)
	return nil
}

// word returns the text that n is. It may end up as an argument of ssh, so it
// can neither look like an option nor have spaces in it.
func (r *reader) word(n ast.Node, what string) (string, error) {
	text, ok := n.(*ast.StringNode)
	if !ok {
		return "", r.Mistyped(n, what, "text")
	}
	if !isWord(text.Value) {
		return "", r.Mistyped(n, what, `a word without spaces that does not begin with "-"`)
	}
	return text.Value, nil
}

func isWord(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) })
}

func (r *reader) host(n ast.Node, what string) (string, error) {
	s, err := r.word(n, what)
	if err != nil {
		return "", err
	}
	if _, err := netip.ParseAddr(s); err == nil || nameForm.MatchString(s) {
		return s, nil
	}
	hint := ""
	if strings.ContainsAny(s, "@:") {
		hint = "a user and a port belong in ssh: {user: …, port: …}; an IPv6 address has no brackets"
	}
	return "", invalid(r.Place(n), hint, "%s: %q is neither an address nor a name", what, s)
}

// paths returns the path that n is, or of which it is a list.
func (r *reader) paths(n ast.Node, what string) ([]string, error) {
	items := []ast.Node{n}
	if s, ok := n.(*ast.SequenceNode); ok {
		if items = s.Values; len(items) == 0 {
			return nil, r.Mistyped(n, what, "a path or more") // it would look as if nothing were said
		}
	}
	var out []string
	for _, i := range items {
		p, err := r.path(i, what)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// path returns the absolute path that n means.
func (r *reader) path(n ast.Node, what string) (string, error) {
	text, ok := n.(*ast.StringNode)
	if !ok {
		return "", r.Mistyped(n, what, "text, a path")
	}
	p := text.Value
	if p == "" || strings.ContainsFunc(p, unicode.IsControl) {
		return "", r.Mistyped(n, what, "a path")
	}
	p, err := homePath(p)
	if err != nil {
		return "", invalid(r.Place(n), "write the path in full", "%s: %v", what, err)
	}
	if !filepath.IsAbs(p) {
		p = filepath.Join(r.in.dir(), p)
	}
	return filepath.Clean(p), nil
}
