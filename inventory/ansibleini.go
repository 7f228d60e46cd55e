package inventory

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"runbook/inventory/python"
)

// This file reads Ansible's INI form, line by line:
//
//	alone ansible_host=192.0.2.1     hosts before the first section
//	[web]                            hosts: a name or a range, and variables
//	web-[1:3] rack=a
//	[web:vars]                       variables of a group
//	ntp=192.0.2.9
//	[site:children]                  groups that it holds
//	web
//
// Values are Python's literals where they look like such, else text.

var (
	sectionForm = regexp.MustCompile(`^\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?$`)
	groupForm   = regexp.MustCompile(`^([^:\]\s]+)\s*(?:#.*)?$`)
)

// iniReader reads one text.
type iniReader struct {
	*ansible
	in     input
	line   int
	indent int // bytes before the first word of the line
	raw    string

	kind  string // of the section: hosts, vars, children
	what  named  // its group
	group *group // nil: all
	level *level

	undeclared []named // groups that have variables, and no other section yet
}

// pos is the place of the byte at of the line, without its indent.
func (r *iniReader) pos(at int) string {
	return fmt.Sprintf("%s:%d:%d", r.in.file, r.line, utf8.RuneCountInString(r.raw[:r.indent+at])+1)
}

// ini reads in.
func (a *ansible) ini(in input) error {
	if !utf8.Valid(in.text) {
		return invalid(in.file+":1:1", "", "the file is not UTF-8 text")
	}
	r := &iniReader{ansible: a, in: in, kind: "hosts", level: &a.src.defaults} // as if after [all]
	for line := range bytes.Lines(bytes.TrimPrefix(in.text, []byte("\ufeff"))) {
		r.line++
		r.raw = string(line)
		text := strings.TrimSpace(r.raw)
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		r.indent = strings.Index(r.raw, text)
		if i := strings.IndexFunc(text, func(c rune) bool { return c != '\t' && unicode.IsControl(c) }); i >= 0 {
			return invalid(r.pos(i), "", "the line has a control character, %q", firstRune(text[i:]))
		}
		if err := r.read(text); err != nil {
			return err
		}
	}
	for _, n := range r.undeclared {
		return invalid(n.pos, didYouMean(n.name, groupNames(a.src, n.name)), "[%s:vars] is about a group that nothing else names", n.name)
	}
	return nil
}

func groupNames(s *source, without string) []string {
	var out []string
	for _, g := range s.groups.list {
		if g.name != without {
			out = append(out, g.name)
		}
	}
	return out
}

// read reads one line that says something.
func (r *iniReader) read(text string) error {
	if m := sectionForm.FindStringSubmatch(text); m != nil {
		return r.section(m[1], m[2])
	}
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") && !isRange(text) {
		return invalid(r.pos(0), "want [GROUP], [GROUP:vars] or [GROUP:children]", "%s is no section: the name of a group has no spaces and no colon", text)
	}
	switch r.kind {
	case "vars":
		return r.variable(text)
	case "children":
		m := groupForm.FindStringSubmatch(text)
		if m == nil {
			return invalid(r.pos(0), "", "[%s:children] lists groups, a name on each line, not %q", r.what.name, text)
		}
		return r.child(r.group, named{m[1], r.pos(0)})
	}
	return r.hostLine(text)
}

// section begins a section.
func (r *iniReader) section(name, kind string) error {
	if kind == "" {
		kind = "hosts"
	}
	at := r.pos(1)
	if kind != "hosts" && kind != "vars" && kind != "children" {
		return invalid(r.pos(2+len(name)), didYouMean(kind, []string{"hosts", "vars", "children"}), "[%s:%s]: a section has hosts, vars or children", name, kind)
	}
	known := r.src.groups.byName[name] != nil || name == allGroup
	if kind == "vars" && !known {
		r.undeclared = append(r.undeclared, named{name, at})
	}
	if kind != "vars" {
		for i, n := range r.undeclared {
			if n.name == name {
				r.undeclared = append(r.undeclared[:i:i], r.undeclared[i+1:]...)
				break
			}
		}
	}
	var err error
	r.what, r.kind = named{name, at}, kind
	r.level, r.group, err = r.ansible.level(r.what)
	return err
}

// variable reads a line of a section of variables. All after the sign is its value.
func (r *iniReader) variable(text string) error {
	name, value, ok := strings.Cut(text, "=")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return invalid(r.pos(0), "", "[%s:vars] has lines NAME=VALUE, not %q", r.what.name, text)
	}
	r.level.set(name, placed{literal(strings.TrimSpace(value)), r.pos(0)})
	return nil
}

// hostLine reads a host or a range, and its variables.
func (r *iniReader) hostLine(text string) error {
	words, err := python.Split(text, true)
	if err != nil {
		return invalid(r.pos(0), "", "%v", err)
	}
	if len(words) == 0 {
		return nil
	}
	vars := map[string]placed{}
	for _, w := range words[1:] {
		name, value, ok := strings.Cut(w.Text, "=")
		if !ok || name == "" {
			return invalid(r.pos(w.At), "a value with spaces needs quotes: NAME=\"a b\"", "after a host come variables, NAME=VALUE without spaces round the sign, not %q", w.Text)
		}
		vars[name] = placed{literal(value), r.pos(w.At)}
	}
	return r.hosts(r.group, named{words[0].Text, r.pos(words[0].At)}, r.in.path, vars)
}

// literal is the value that Ansible makes of text.
func literal(text string) any {
	v := python.Literal(text)
	if why, ok := v.(python.Unread); ok {
		return unread(why)
	}
	return v
}
