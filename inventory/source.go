package inventory

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"runbook/engine"
	"runbook/internal/yamlfile"
)

// This file is the model between the reader of a format and an [Inventory]: a
// reader fills in a source, whatever it reads, and build resolves it.

// source is what an inventory says, unresolved.
type source struct {
	file     string
	defaults level
	groups   table[group]
	nodes    table[member]
	ansible  *ansible // nil: it is in our own form
	warnings []string
}

// level is what is said at one level: of all nodes, of a group, of a node.
type level struct {
	settings
	beside settings // in files beside the inventory: Ansible's group_vars and host_vars
}

// settings is what can be said at each level. What is zero was not said.
type settings struct {
	vars    map[string]any // while an Ansible inventory is read, each value is a placed
	ssh     SSH
	become  Become
	problem *engine.Error
}

// group is what a file says of one group.
type group struct {
	named
	level
	nodes    []named // listed in it
	children []named
	priority int64 // Ansible's, among groups of one depth

	parents []*group        // set by build
	depth   int             // 1 + the largest of its parents'; 0 while unknown
	listed  map[string]bool // the names in nodes, where many are looked up
}

// member is what a file says of one node.
type member struct {
	named
	level
	groups []named
}

// named is a name and its place in the file.
type named struct {
	name string
	pos  string // file:line:col
}

// table keeps what has a name in the order in which it was first named.
type table[T any] struct {
	list   []*T
	byName map[string]*T
}

// get returns the T called name, made by new where it is named for the first time.
func (t *table[T]) get(name string, make func() *T) *T {
	if v, ok := t.byName[name]; ok {
		return v
	}
	if t.byName == nil {
		t.byName = map[string]*T{}
	}
	v := make()
	t.byName[name] = v
	t.list = append(t.list, v)
	return v
}

// group returns the group that n names.
func (s *source) group(n named) *group {
	return s.groups.get(n.name, func() *group { return &group{named: n} })
}

// node returns the node that n names.
func (s *source) node(n named) *member {
	return s.nodes.get(n.name, func() *member { return &member{named: n} })
}

// nameChars are the characters of names.
const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	reserved = []string{"all", "and", "or", "not"}
)

func isReserved(name string) bool { return slices.Contains(reserved, strings.ToLower(name)) }

// badName says what is wrong with the name of a node or a group, or "".
func badName(name string) string {
	switch {
	case isReserved(name):
		return fmt.Sprintf("%q is a word of selections and cannot be a name", name)
	case len(name) > 253: // the longest name in DNS
		return "a name has at most 253 characters"
	case !nameForm.MatchString(name):
		return fmt.Sprintf(`%q is not a name: want letters, digits, "_", "." and "-", and none of the last two first`, name)
	}
	return ""
}

// override gives s what o says.
func (s *settings) override(o settings) {
	for k, v := range o.vars {
		if s.vars == nil {
			s.vars = map[string]any{}
		}
		s.vars[k] = v
	}
	to, from := &s.ssh, o.ssh
	to.Host = cmp.Or(from.Host, to.Host)
	to.Port = cmp.Or(from.Port, to.Port)
	to.User = cmp.Or(from.User, to.User)
	to.ProxyJump = cmp.Or(from.ProxyJump, to.ProxyJump)
	to.Config = cmp.Or(from.Config, to.Config)
	if from.Identity != nil {
		to.Identity = from.Identity
	}
	if from.KnownHosts != nil {
		to.KnownHosts = from.KnownHosts
	}
	s.become = cmp.Or(o.become, s.become)
	if o.problem != nil {
		s.problem = o.problem
	}
}

// build resolves what s says.
func (s *source) build() (*Inventory, error) {
	if len(s.nodes.list) == 0 {
		hint := "name them under nodes: or in a group's nodes:"
		if s.ansible != nil {
			hint = "in an Ansible inventory, hosts stand in groups"
		}
		return nil, &engine.Error{Code: engine.Invalid, Pos: s.file + ":1:1", Cause: "the inventory has no nodes", Hint: hint}
	}
	inv := &Inventory{path: s.file, index: map[string]int{}, groups: map[string][]int{}}
	for _, g := range s.groups.list {
		inv.names = append(inv.names, g.name)
		inv.groups[g.name] = nil
	}
	err := s.resolve(func(m *member, groups []*group, said settings) {
		n := Node{Name: m.name, Pos: m.pos, Vars: said.vars, SSH: said.ssh, Problem: said.problem}
		n.SSH.Host = cmp.Or(n.SSH.Host, m.name)
		n.Become = cmp.Or(said.become, BecomeNone)
		for _, g := range groups {
			n.Groups = append(n.Groups, g.name)
			inv.groups[g.name] = append(inv.groups[g.name], len(inv.nodes))
		}
		slices.Sort(n.Groups)
		inv.index[m.name] = len(inv.nodes)
		inv.nodes = append(inv.nodes, n)
	})
	if err != nil {
		return nil, err
	}
	inv.warnings = s.warnings
	return inv, nil
}

// resolve calls f for each node, with its groups, the weakest first, and all that is said of it.
func (s *source) resolve(f func(*member, []*group, settings)) error {
	for _, n := range s.nodes.list {
		if g, ok := s.groups.byName[n.name]; ok {
			return invalid(n.pos, "", "%s is a node here and a group at %s", n.name, g.pos)
		}
	}
	if err := s.link(); err != nil {
		return err
	}
	if err := s.measure(); err != nil {
		return err
	}
	direct, err := s.memberships()
	if err != nil {
		return err
	}
	rank := map[*group]int{} // the place in the file
	for i, g := range s.groups.list {
		rank[g] = i
	}
	for _, m := range s.nodes.list {
		groups := ancestors(direct[m])
		slices.SortFunc(groups, func(a, b *group) int {
			if s.ansible != nil {
				return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.priority, b.priority), cmp.Compare(a.name, b.name))
			}
			return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(rank[a], rank[b]))
		})
		said := s.said(m, groups)
		if s.ansible != nil {
			said = s.ansible.reach(m, said.vars)
		}
		f(m, groups, said)
	}
	if s.ansible != nil {
		s.warnings = append(s.warnings, s.ansible.notes.lines()...)
	}
	return nil
}

// said is all that is said of m, what counts most last: what a file says of all,
// of groups, what files beside it say of all, of groups, then what both say of m itself.
func (s *source) said(m *member, groups []*group) settings {
	var all settings
	all.override(s.defaults.settings)
	for _, g := range groups {
		all.override(g.settings)
	}
	all.override(s.defaults.beside)
	for _, g := range groups {
		all.override(g.beside)
	}
	all.override(m.settings)
	all.override(m.beside)
	return all
}

// link gives each group its parents.
func (s *source) link() error {
	for _, g := range s.groups.list {
		for _, c := range g.children {
			child, err := s.known(c)
			if err != nil {
				return err
			}
			child.parents = append(child.parents, g)
		}
	}
	return nil
}

// known returns the group that n refers to.
func (s *source) known(n named) (*group, error) {
	if g, ok := s.groups.byName[n.name]; ok {
		return g, nil
	}
	names := make([]string, 0, len(s.groups.list))
	for _, g := range s.groups.list {
		names = append(names, g.name)
	}
	hint, define := didYouMean(n.name, names), "a group is defined under groups:, if only as "+n.name+":"
	if s.ansible != nil {
		define = "a group is defined by a section of its own: [" + n.name + "]"
	}
	switch _, ok := s.nodes.byName[n.name]; {
	case ok && s.ansible != nil:
		hint = n.name + " is a host"
	case ok:
		hint = n.name + " is a node; nodes stand under nodes:"
	}
	return nil, invalid(n.pos, cmp.Or(hint, define), "there is no group %q", n.name)
}

// measure gives each group its depth, and finds groups inside themselves. It
// takes away groups without parents, then those whose parents are all gone:
// what is left is in a circle, or below one.
func (s *source) measure() error {
	missing := map[*group]int{}
	var ready []*group
	for _, g := range s.groups.list {
		if missing[g] = len(g.parents); len(g.parents) == 0 {
			ready = append(ready, g)
		}
	}
	for len(ready) > 0 {
		g := ready[0]
		ready = ready[1:]
		g.depth = 1
		for _, p := range g.parents {
			g.depth = max(g.depth, p.depth+1)
		}
		for _, c := range g.children {
			child := s.groups.byName[c.name]
			if missing[child]--; missing[child] == 0 {
				ready = append(ready, child)
			}
		}
	}
	for _, g := range s.groups.list {
		if g.depth == 0 {
			return circle(g)
		}
	}
	return nil
}

// circle is the error for the circle that g is in or below.
func circle(g *group) error {
	unmeasured := func(p *group) bool { return p.depth == 0 }
	up := []*group{g}
	for {
		last := up[len(up)-1]
		p := last.parents[slices.IndexFunc(last.parents, unmeasured)]
		start := slices.Index(up, p)
		if up = append(up, p); start < 0 {
			continue
		}
		up = up[start:]
		slices.Reverse(up)
		var names []string
		for _, g := range up {
			names = append(names, g.name)
		}
		// The place is where the first of them lists the second.
		i := slices.IndexFunc(up[0].children, func(c named) bool { return c.name == names[1] })
		return invalid(up[0].children[i].pos, "", "group %s is inside itself: %s", names[0], strings.Join(names, " > "))
	}
}

// memberships returns the groups that each node is in by name, once each.
func (s *source) memberships() (map[*member][]*group, error) {
	direct := map[*member][]*group{}
	add := func(m *member, g *group) {
		if !slices.Contains(direct[m], g) {
			direct[m] = append(direct[m], g)
		}
	}
	for _, g := range s.groups.list {
		for _, n := range g.nodes {
			add(s.nodes.byName[n.name], g)
		}
	}
	for _, m := range s.nodes.list {
		for _, n := range m.groups {
			g, err := s.known(n)
			if err != nil {
				return nil, err
			}
			add(m, g)
		}
	}
	return direct, nil
}

// ancestors returns groups and all that hold them.
func ancestors(groups []*group) []*group {
	seen := map[*group]bool{}
	todo := slices.Clone(groups)
	for len(todo) > 0 {
		g := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !seen[g] {
			seen[g] = true
			todo = append(todo, g.parents...)
		}
	}
	return slices.Collect(maps.Keys(seen))
}

// invalid is an error at a place in a file or in a selection.
var invalid = yamlfile.Invalid
