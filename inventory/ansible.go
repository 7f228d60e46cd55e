package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"runbook/engine"
)

// This file holds what the readers of Ansible's inventories fill in, whatever their
// form, and Ansible's own rules on it. What Ansible says of a host are variables,
// also how it is reached; ansiblereach.go makes settings of them, once all are together.

// ansible reads an Ansible inventory into a source.
type ansible struct {
	src   *source
	files map[*member]string // the file that each host was in first
	ports map[*member]string // that its name came with there
	inAll []named            // groups that all is said to hold
	notes notes
}

// placed is the value of a variable, and where it stands. It is text, a number, …
// as in [Node].Vars, or has in it a verbatim or an unread.
type placed struct {
	value any
	pos   string
}

type (
	verbatim string // text in which nothing is a template
	unread   string // a value that cannot be known here: why
)

func newAnsible(file string) *ansible {
	a := &ansible{src: &source{file: file}, files: map[*member]string{}, ports: map[*member]string{}}
	a.src.ansible = a
	return a
}

// read reads one input of the inventory.
func (a *ansible) read(in input, f form, body ast.Node) error {
	switch f {
	case ansibleINI:
		return a.ini(in)
	case ansibleJSON:
		return a.json(in)
	default:
		return a.yaml(in, body)
	}
}

const (
	allGroup  = "all"
	ungrouped = "ungrouped"
)

// level returns where variables of a group stand, and the group; nil where it is all.
func (a *ansible) level(n named) (*level, *group, error) {
	if n.name == allGroup {
		return &a.src.defaults, nil, nil
	}
	if bad := badName(n.name); bad != "" {
		return nil, nil, invalid(n.pos, "", "a group: %s", bad)
	}
	g := a.src.group(n)
	return &g.level, g, nil
}

// child puts the group c into the group g.
func (a *ansible) child(g *group, c named) error {
	switch {
	case c.name == allGroup:
		return invalid(c.pos, "", "all is no child of any group: it holds every group")
	case g == nil: // all, which holds every group
		a.inAll = append(a.inAll, c)
		return nil
	}
	if !slices.ContainsFunc(g.children, func(had named) bool { return had.name == c.name }) {
		g.children = append(g.children, c)
	}
	return nil
}

// hosts enters the hosts that a pattern means into a group, with their variables:
// name, name:port, or a range of such.
func (a *ansible) hosts(g *group, pattern named, file string, vars map[string]placed) error {
	names, port, err := hostPattern(pattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		m, err := a.host(g, named{name, pattern.pos}, file)
		if err != nil {
			return err
		}
		switch first, known := a.ports[m]; {
		case !known:
			if a.ports[m] = port; port != "" {
				n, _ := strconv.ParseInt(port, 10, 64) // a port that is too large is found with the others
				m.set("ansible_port", placed{n, pattern.pos})
			}
		case port != "" && port != first: // Ansible takes it from the first place only
			return invalid(pattern.pos, "write ansible_port="+port, "%s has another port here than at %s", name, m.pos)
		}
		for k, v := range vars {
			m.set(k, v)
		}
	}
	return nil
}

// host enters one host into a group.
func (a *ansible) host(g *group, n named, file string) (*member, error) {
	if bad := badName(n.name); bad != "" {
		hint := ""
		if _, err := netip.ParseAddr(strings.Trim(n.name, "[]")); err == nil {
			hint = "give it a name: NAME ansible_host=" + strings.Trim(n.name, "[]")
		}
		return nil, invalid(n.pos, hint, "a host: %s", bad)
	}
	m := a.src.node(n)
	if _, known := a.files[m]; !known {
		a.files[m] = file
	}
	if g != nil && !g.holds(n.name) {
		g.nodes = append(g.nodes, n)
	}
	return m, nil
}

// holds says whether a host is listed in g.
func (g *group) holds(name string) bool {
	if g.listed == nil {
		g.listed = map[string]bool{}
		for _, n := range g.nodes {
			g.listed[n.name] = true
		}
	}
	had := g.listed[name]
	g.listed[name] = true
	return had
}

// set gives s a variable.
func (s *settings) set(name string, v placed) {
	if s.vars == nil {
		s.vars = map[string]any{}
	}
	s.vars[name] = v
}

// hostPattern returns the names that a pattern stands for, and its port.
func hostPattern(p named) (names []string, port string, err error) {
	name := p.name
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, ']') && strings.IndexByte(name[:i], ':') <= strings.LastIndexByte(name, ']') {
		name, port = name[:i], name[i+1:]
		if port == "" || strings.Trim(port, "0123456789") != "" {
			return nil, "", invalid(p.pos, "", "%s: after the colon belongs a port, not %q", p.name, port)
		}
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil || !isRange(name) {
		return []string{name}, port, nil
	}
	names, err = expand(strings.ReplaceAll(name, "[:", "[0:"))
	if err != nil {
		return nil, "", invalid(p.pos, "", "%v", err)
	}
	return names, port, nil
}

// finish adds what lies beside the inventory, in the folder dir, and what Ansible
// has by itself: the group of the hosts that are in no other.
func (a *ansible) finish(dir string) (*source, error) {
	if err := a.settle(); err != nil {
		return nil, err
	}
	if err := a.beside(dir); err != nil {
		return nil, err
	}
	return a.src, nil
}

// settle makes the group ungrouped what Ansible has in it, and reads the priorities of groups.
func (a *ansible) settle() error {
	for _, c := range a.inAll {
		if _, err := a.src.known(c); err != nil {
			return err
		}
	}
	in := map[string]bool{}
	for _, g := range a.src.groups.list {
		if g.name != ungrouped {
			for _, n := range g.nodes {
				in[n.name] = true
			}
		}
		p, ok := g.vars["ansible_group_priority"].(placed)
		if !ok {
			g.priority = 1
			continue
		}
		if g.priority, ok = asInt(p.value); !ok {
			return invalid(p.pos, "", "ansible_group_priority of group %s: want a number, got %v", g.name, p.value)
		}
		delete(g.vars, "ansible_group_priority")
	}
	var rest []named
	for _, m := range a.src.nodes.list {
		if !in[m.name] {
			rest = append(rest, m.named)
		}
	}
	if g := a.src.groups.byName[ungrouped]; g != nil || len(rest) > 0 {
		at := a.src.file + ":1:1"
		if len(rest) > 0 {
			at = rest[0].pos
		}
		g = a.src.group(named{ungrouped, at})
		g.nodes, g.priority = rest, max(g.priority, 1)
	}
	return nil
}

// asInt is the number that a value is, or that its text is.
func asInt(v any) (int64, bool) {
	var n int64
	switch v := v.(type) {
	case int64:
		return v, true
	case string:
		if _, err := fmt.Sscanf(v, "%d", &n); err == nil && fmt.Sprint(n) == v {
			return n, true
		}
	}
	return 0, false
}

// notes are what people should know of an inventory that is no error: one line
// for each kind, with what it is about.
type notes struct {
	kinds []string
	about map[string][]string
	first map[string]string // where
	seen  map[string]bool
}

// add notes that a kind, a sentence with %s for what it is about, holds of name.
func (n *notes) add(kind, name, pos string) {
	if n.about == nil {
		n.about, n.first, n.seen = map[string][]string{}, map[string]string{}, map[string]bool{}
	}
	if n.seen[kind+"\x00"+name] {
		return
	}
	n.seen[kind+"\x00"+name] = true
	if n.first[kind] == "" {
		n.first[kind] = pos
		n.kinds = append(n.kinds, kind)
	}
	n.about[kind] = append(n.about[kind], name)
}

func (n *notes) lines() []string {
	var out []string
	for _, k := range n.kinds {
		slices.Sort(n.about[k])
		out = append(out, n.first[k]+": "+fmt.Sprintf(k, some(n.about[k], 5)))
	}
	return out
}

// problem is why a node cannot be reached.
func problem(m *member, pos, hint, format string, args ...any) *engine.Error {
	e := invalid(pos, hint, format, args...)
	e.Node = m.name
	return e
}
