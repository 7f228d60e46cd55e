package inventory

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// This file reads the YAML form of an inventory into a source. It walks the
// syntax tree, so that everything that is wrong has its place in the file.

// reader reads one file.
type reader struct {
	file string // as errors name it
	dir  string // that relative paths are relative to
	src  source
}

// field is a key of a mapping and what it holds.
type field struct {
	named
	value ast.Node
}

// handlers is what can be a key of a mapping.
type handlers map[string]func(field) error

// readYAML reads text, which is that of file and lies in the folder dir.
func readYAML(file, dir string, text []byte) (*source, error) {
	r := &reader{file: file, dir: dir, src: source{file: file}}
	body, err := r.parse(text)
	if err != nil {
		return nil, err
	}
	err = r.fields(body, "an inventory", handlers{
		"defaults": r.defaults,
		"groups":   r.groups,
		"nodes":    r.nodes,
	})
	if err != nil {
		return nil, err
	}
	return &r.src, nil
}

// unquotedRange is a range that YAML takes for a list, see [reader.parse].
var unquotedRange = regexp.MustCompile(`[A-Za-z0-9_.-]\[\w+:\w+`)

// parse returns the tree of text, nil where it is empty.
func (r *reader) parse(text []byte) (body ast.Node, err error) {
	if !utf8.Valid(text) {
		return nil, invalid(r.file+":1:1", "", "the file is not UTF-8 text")
	}
	defer func() {
		// The library has panicked on input that is not YAML: that is the
		// file's fault too, and no reason for a stack trace.
		if p := recover(); p != nil {
			body, err = nil, invalid(r.file+":1:1", "", "the file is not YAML: %v", p)
		}
	}()
	// Keys that come twice are found later, with better words.
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	var at yaml.Error
	switch {
	case errors.As(err, &at):
		t := at.GetToken()
		e := invalid(r.file+":1:1", "", "%s", at.GetMessage())
		if t != nil {
			e.Pos = r.pos(t)
			lines := strings.Split(string(text), "\n")
			if n := t.Position.Line; n >= 1 && n <= len(lines) && unquotedRange.MatchString(lines[n-1]) {
				e.Hint = `YAML wants a range quoted inside a list in brackets: ["web-[2:12]"]`
			}
		}
		return nil, e
	case err != nil:
		return nil, invalid(r.file+":1:1", "", "%v", err)
	}
	for _, d := range file.Docs {
		switch {
		case d.Body == nil:
		case body != nil:
			return nil, invalid(r.place(d.Body), "", "a second document begins here: an inventory is one")
		default:
			body = d.Body
		}
	}
	return body, nil
}

func (r *reader) pos(t *token.Token) string {
	if t == nil || t.Position == nil {
		return r.file + ":1:1"
	}
	return fmt.Sprintf("%s:%d:%d", r.file, t.Position.Line, t.Position.Column)
}

// place is where n begins.
func (r *reader) place(n ast.Node) string {
	if m, ok := n.(ast.MapNode); ok { // whose own token is the first colon
		if i := m.MapRange(); i.Next() {
			return r.pos(i.Key().GetToken())
		}
	}
	return r.pos(n.GetToken())
}

// kind is what people call n.
func kind(n ast.Node) string {
	switch n := n.(type) {
	case ast.MapNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode, nil:
		return "nothing"
	case *ast.StringNode:
		return fmt.Sprintf("the text %q", n.Value)
	case *ast.LiteralNode:
		return "a block of text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.BoolNode:
		return n.GetToken().Value
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor, which is not read here"
	case *ast.TagNode:
		return "a tag, which is not read here"
	case *ast.DirectiveNode:
		return "a directive, which is not read here"
	}
	return "something else"
}

// mistyped is the error for a value that should have been something else.
func (r *reader) mistyped(n ast.Node, what, want string) error {
	hint := ""
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		if strings.HasPrefix(want, "text") || strings.HasPrefix(want, "a name") {
			hint = fmt.Sprintf("quote it: %q", n.GetToken().Value)
		}
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		hint = "say it once, in defaults or in a group"
	}
	return invalid(r.place(n), hint, "%s: want %s, got %s", what, want, kind(n))
}

// mapping returns what n, a mapping or nothing, holds, in order.
func (r *reader) mapping(n ast.Node, what string) ([]field, error) {
	switch n.(type) {
	case nil, *ast.NullNode:
		return nil, nil
	case ast.MapNode:
	default:
		return nil, r.mistyped(n, what, "a mapping")
	}
	var out []field
	first := map[string]string{}
	for i := n.(ast.MapNode).MapRange(); i.Next(); {
		var key ast.Node = i.Key()
		text, ok := key.(*ast.StringNode)
		if !ok {
			return nil, r.mistyped(key, "a key of "+what, "text")
		}
		f := field{named{text.Value, r.pos(text.Token)}, i.Value()}
		if at, twice := first[f.name]; twice {
			return nil, invalid(f.pos, "", "%s has %s twice, first at %s", what, f.name, at)
		}
		first[f.name] = f.pos
		out = append(out, f)
	}
	return out, nil
}

// fields has the handlers read n's fields in order. Any other key is an error.
func (r *reader) fields(n ast.Node, what string, hs handlers) error {
	list, err := r.mapping(n, what)
	if err != nil {
		return err
	}
	for _, f := range list {
		h, ok := hs[f.name]
		if !ok {
			known := slices.Sorted(maps.Keys(hs))
			hint := strings.TrimSpace(didYouMean(f.name, known) + " " + what + " can have " + strings.Join(known, ", "))
			return invalid(f.pos, hint, "%s has no key %q", what, f.name)
		}
		if err := h(f); err != nil {
			return err
		}
	}
	return nil
}

// name returns the name of a node or a group that n is.
func (r *reader) name(n ast.Node, what string) (named, error) {
	text, ok := n.(*ast.StringNode)
	if !ok {
		return named{}, r.mistyped(n, what, "a name")
	}
	out := named{text.Value, r.pos(text.Token)}
	if bad := badName(out.name); bad != "" {
		return named{}, invalid(out.pos, "", "%s: %s", what, bad)
	}
	return out, nil
}

// list returns the items of n, a list or nothing.
func (r *reader) list(n ast.Node, what string) ([]ast.Node, error) {
	switch n := n.(type) {
	case *ast.NullNode:
		return nil, nil
	case *ast.SequenceNode:
		return n.Values, nil
	}
	return nil, r.mistyped(n, what, "a list")
}

// names returns the names of which n is a list, each once. With ranges, an item
// may stand for several.
func (r *reader) names(n ast.Node, what string, ranges bool) ([]named, error) {
	items, err := r.list(n, what)
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
	pos := r.pos(text.Token)
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
	return r.fields(f.value, "defaults", r.settings(&r.src.defaults, "defaults"))
}

func (r *reader) groups(f field) error {
	list, err := r.mapping(f.value, "groups")
	if err != nil {
		return err
	}
	for _, f := range list {
		if bad := badName(f.name); bad != "" {
			return invalid(f.pos, "", "groups: %s", bad)
		}
		g, what := r.src.group(f.named), "group "+f.name
		hs := r.settings(&g.settings, what)
		hs["nodes"] = func(f field) (err error) {
			if g.nodes, err = r.names(f.value, "nodes of "+what, true); err != nil {
				return err
			}
			for _, n := range g.nodes {
				r.src.node(n)
			}
			return nil
		}
		hs["groups"] = func(f field) (err error) {
			g.children, err = r.names(f.value, "groups of "+what, false)
			return err
		}
		if err := r.fields(f.value, what, hs); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) nodes(f field) error {
	list, err := r.mapping(f.value, "nodes")
	if err != nil {
		return err
	}
	for _, f := range list {
		if isRange(f.name) {
			return invalid(f.pos, "name the range in a group, and say there what its nodes share", "nodes: %s is a range, and this is about one node", f.name)
		}
		if bad := badName(f.name); bad != "" {
			return invalid(f.pos, "", "nodes: %s", bad)
		}
		n, what := r.src.node(f.named), "node "+f.name
		hs := r.settings(&n.settings, what)
		hs["host"] = func(f field) (err error) {
			n.ssh.Host, err = r.host(f.value, "host of "+what)
			return err
		}
		hs["groups"] = func(f field) (err error) {
			n.groups, err = r.names(f.value, "groups of "+what, false)
			return err
		}
		if err := r.fields(f.value, what, hs); err != nil {
			return err
		}
	}
	return nil
}

// settings returns what reads the settings that every level can have into to.
func (r *reader) settings(to *settings, what string) handlers {
	return handlers{
		"vars":   func(f field) error { return r.vars(f.value, to, what) },
		"ssh":    func(f field) error { return r.ssh(f.value, &to.ssh, what) },
		"become": func(f field) error { return r.become(f.value, &to.become, what) },
	}
}

func (r *reader) become(n ast.Node, to *Become, what string) error {
	text, ok := n.(*ast.StringNode)
	if !ok || text.Value != string(BecomeSudo) && text.Value != string(BecomeNone) {
		return r.mistyped(n, "become of "+what, "sudo or none")
	}
	*to = Become(text.Value)
	return nil
}

func (r *reader) ssh(n ast.Node, to *SSH, what string) error {
	what = "ssh of " + what
	text := func(to *string) func(field) error {
		return func(f field) (err error) {
			*to, err = r.word(f.value, f.name+" in "+what)
			return err
		}
	}
	paths := func(to *[]string) func(field) error {
		return func(f field) (err error) {
			*to, err = r.paths(f.value, f.name+" in "+what)
			return err
		}
	}
	return r.fields(n, what, handlers{
		"user":        text(&to.User),
		"proxy_jump":  text(&to.ProxyJump),
		"identity":    paths(&to.Identity),
		"known_hosts": paths(&to.KnownHosts),
		"port": func(f field) error {
			return r.port(f.value, &to.Port, what)
		},
		"config": func(f field) (err error) {
			if s, ok := f.value.(*ast.StringNode); ok && s.Value == NoConfig {
				to.Config = NoConfig
				return nil
			}
			to.Config, err = r.path(f.value, "config in "+what)
			return err
		},
		"host": func(f field) error {
			return invalid(f.pos, "write host: under the node, beside its ssh:", "host stands in %s", what)
		},
	})
}

func (r *reader) port(n ast.Node, to *int, what string) error {
	const want = "a number from 1 to 65535"
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return r.mistyped(n, "port in "+what, want)
	}
	v, err := r.integer(i, "port in "+what)
	if err != nil {
		return err
	}
	if v < 1 || v > math.MaxUint16 {
		return r.mistyped(n, "port in "+what, want)
	}
	*to = int(v)
	return nil
}

// word returns the text that n is. It may end up as an argument of ssh, so it
// can neither look like an option nor have spaces in it.
func (r *reader) word(n ast.Node, what string) (string, error) {
	text, ok := n.(*ast.StringNode)
	if !ok {
		return "", r.mistyped(n, what, "text")
	}
	if s := text.Value; s == "" || s[0] == '-' || strings.ContainsFunc(s, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }) {
		return "", r.mistyped(n, what, `a word without spaces that does not begin with "-"`)
	}
	return text.Value, nil
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
	return "", invalid(r.place(n), hint, "%s: %q is neither an address nor a name", what, s)
}

// paths returns the path that n is, or of which it is a list.
func (r *reader) paths(n ast.Node, what string) ([]string, error) {
	items := []ast.Node{n}
	if s, ok := n.(*ast.SequenceNode); ok {
		if items = s.Values; len(items) == 0 {
			return nil, r.mistyped(n, what, "a path or more") // it would look as if nothing were said
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
		return "", r.mistyped(n, what, "text, a path")
	}
	p := text.Value
	if p == "" || strings.ContainsFunc(p, unicode.IsControl) {
		return "", r.mistyped(n, what, "a path")
	}
	if p[0] == '~' {
		if p != "~" && !strings.HasPrefix(p, "~/") {
			return "", invalid(r.place(n), "write the path in full", "%s: %s is in another user's home, which is not looked up", what, p)
		}
		home, err := os.UserHomeDir()
		if err != nil {
			return "", invalid(r.place(n), "", "%s: %s needs a home: %v", what, p, err)
		}
		p = filepath.Join(home, p[1:])
	}
	if !filepath.IsAbs(p) {
		p = filepath.Join(r.dir, p)
	}
	return filepath.Clean(p), nil
}
