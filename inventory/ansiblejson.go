package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// This file reads the JSON that an Ansible script prints for --list: groups, each
// with hosts, vars and children, and under _meta the variables of every host.

// jsonText is a JSON text that is read token by token, for objects keep their
// order, and what is wrong has its place.
type jsonText struct {
	file string
	text []byte
	dec  *json.Decoder

	start int // of the last line that a place was in
	lines int // before it
}

// pos is the place of the byte at i, which is never before one that was asked for.
func (j *jsonText) pos(i int64) string {
	before := j.text[j.start:max(j.start, min(int(i), len(j.text)))]
	j.lines += bytes.Count(before, []byte("\n"))
	last := bytes.LastIndexByte(before, '\n') + 1
	j.start += last
	return fmt.Sprintf("%s:%d:%d", j.file, j.lines+1, utf8.RuneCount(before[last:])+1)
}

// next is the place of the next token.
func (j *jsonText) next() string {
	i := j.dec.InputOffset()
	for int(i) < len(j.text) && strings.IndexByte(" \t\r\n,:", j.text[i]) >= 0 {
		i++
	}
	return j.pos(i)
}

func (j *jsonText) token() (json.Token, error) {
	t, err := j.dec.Token()
	var at *json.SyntaxError
	switch {
	case errors.As(err, &at):
		return nil, invalid(j.pos(max(at.Offset-1, j.dec.InputOffset())), "", "the output is not JSON: %v", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, invalid(j.pos(int64(len(j.text))), "", "the output ends in the middle of its JSON")
	case err != nil:
		return nil, invalid(j.next(), "", "the output is not JSON: %v", err)
	}
	return t, nil
}

// object calls f for each key of the object that comes next.
func (j *jsonText) object(what string, f func(key named) error) error {
	return j.open('{', what, "an object", func() error {
		at := j.next()
		t, err := j.token()
		if err != nil {
			return err
		}
		return f(named{t.(string), at}) // a key of an object is text
	})
}

// list calls f for each item of the list that comes next.
func (j *jsonText) list(what string, f func() error) error {
	return j.open('[', what, "a list", f)
}

func (j *jsonText) open(delim json.Delim, what, want string, f func() error) error {
	at := j.next()
	t, err := j.token()
	if err != nil {
		return err
	}
	if t != delim {
		return invalid(at, "", "%s: want %s, got %s", what, want, jsonKind(t))
	}
	for j.dec.More() {
		if err := f(); err != nil {
			return err
		}
	}
	_, err = j.token()
	return err
}

func jsonKind(t json.Token) string {
	switch t := t.(type) {
	case json.Delim:
		return map[json.Delim]string{'{': "an object", '[': "a list"}[t]
	case string:
		return fmt.Sprintf("the text %q", t)
	case nil:
		return "null"
	}
	return fmt.Sprint(t)
}

// value reads the value that comes next.
func (j *jsonText) value(what string, depth int) (any, error) {
	at := j.next()
	if depth > maxDepth {
		return nil, invalid(at, "", "%s: nested more than %d deep", what, maxDepth)
	}
	t, err := j.token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n, nil
		}
		if f, err := t.Float64(); err == nil && !math.IsInf(f, 0) && strings.ContainsAny(t.String(), ".eE") {
			return f, nil
		}
		return unread("a number that is too large"), nil
	case json.Delim:
		if t == '[' {
			out := []any{}
			for j.dec.More() {
				v, err := j.value(what, depth+1)
				if err != nil {
					return nil, err
				}
				out = append(out, v)
			}
			_, err := j.token()
			return out, err
		}
		return j.mapping(what, depth)
	}
	return t, nil
}

// mapping reads the rest of an object, after its "{". Where Ansible writes what it
// cannot write as JSON, the value cannot be known.
func (j *jsonText) mapping(what string, depth int) (any, error) {
	out := map[string]any{}
	for j.dec.More() {
		key, err := j.token()
		if err != nil {
			return nil, err
		}
		if out[key.(string)], err = j.value(what, depth+1); err != nil { // a key of an object is text
			return nil, err
		}
	}
	if _, err := j.token(); err != nil {
		return nil, err
	}
	if _, vault := out["__ansible_vault"]; vault && len(out) == 1 {
		return unread("vault-encrypted"), nil
	}
	if v, unsafe := out["__ansible_unsafe"].(string); unsafe && len(out) == 1 {
		return verbatim(v), nil
	}
	return out, nil
}

// json reads what a script has printed.
func (a *ansible) json(in input) error {
	if !utf8.Valid(in.text) {
		return invalid(in.file+":1:1", "", "the output is not UTF-8 text")
	}
	j := &jsonText{file: in.file, text: in.text, dec: json.NewDecoder(bytes.NewReader(in.text))}
	j.dec.UseNumber()
	hostvars := false
	var vars []hostVars
	seen := map[string]bool{}
	err := j.object("the output", func(key named) error {
		if seen[key.name] {
			return invalid(key.pos, "", "the output has %s twice", key.name)
		}
		seen[key.name] = true
		if key.name != "_meta" {
			return a.jsonGroup(j, in, key)
		}
		return j.object("_meta", func(key named) error {
			if key.name != "hostvars" {
				_, err := j.value("_meta", 0)
				return err
			}
			hostvars = true
			return j.object("hostvars", func(host named) error {
				vars = append(vars, hostVars{host, map[string]placed{}})
				return j.vars(host.name, vars[len(vars)-1].vars)
			})
		})
	})
	if err != nil {
		return err
	}
	if j.dec.More() {
		return invalid(j.next(), "", "something stands after the JSON")
	}
	if !hostvars {
		return invalid(in.file+":1:1", `print "_meta": {"hostvars": {HOST: {…}}}, with nothing for a host that has none`, "the output has no _meta with hostvars, and asking the script for each host by itself is not done here")
	}
	return a.jsonHostVars(in, vars)
}

type hostVars struct {
	host named
	vars map[string]placed
}

// jsonHostVars gives hosts their variables. Ansible has no host that is in no
// group and in hostvars only; what a script says of one is a mistake of its.
func (a *ansible) jsonHostVars(in input, all []hostVars) error {
	for _, h := range all {
		m, ok := a.src.nodes.byName[h.host.name]
		if !ok {
			a.notes.add("variables of hosts that are in no group, not even in all, and so do not exist for Ansible: %s", h.host.name, h.host.pos)
			continue
		}
		for k, v := range h.vars {
			m.set(k, v)
		}
	}
	return nil
}

// vars reads the variables that come next.
func (j *jsonText) vars(what string, to map[string]placed) error {
	return j.object("variables of "+what, func(key named) error {
		v, err := j.value(key.name, 0)
		to[key.name] = placed{v, key.pos}
		return err
	})
}

// jsonGroup reads a group: its parts, or only a list of its hosts.
func (a *ansible) jsonGroup(j *jsonText, in input, n named) error {
	level, g, err := a.level(n)
	if err != nil {
		return err
	}
	hosts := func() error {
		return j.list("hosts of group "+n.name, func() error {
			host, err := j.name("a host of group " + n.name)
			if err == nil {
				_, err = a.host(g, host, in.path)
			}
			return err
		})
	}
	rest := bytes.TrimLeft(j.text[j.dec.InputOffset():], " \t\r\n:")
	if bytes.HasPrefix(rest, []byte("[")) {
		return hosts()
	}
	return j.object("group "+n.name, func(key named) error {
		switch key.name {
		case "hosts":
			return hosts()
		case "vars":
			vars := map[string]placed{}
			err := j.vars("group "+n.name, vars)
			for k, v := range vars {
				level.set(k, v)
			}
			return err
		case "children":
			return j.list("children of group "+n.name, func() error {
				c, err := j.name("a child of group " + n.name)
				if err != nil {
					return err
				}
				if _, _, err := a.level(c); err != nil {
					return err
				}
				return a.child(g, c)
			})
		}
		return invalid(key.pos, strings.TrimSpace(didYouMean(key.name, []string{"hosts", "vars", "children"})+" a group has hosts, vars and children"), "group %s has no key %q", n.name, key.name)
	})
}

// name reads a name.
func (j *jsonText) name(what string) (named, error) {
	at := j.next()
	t, err := j.token()
	if err != nil {
		return named{}, err
	}
	s, ok := t.(string)
	if !ok {
		return named{}, invalid(at, "", "%s: want a name, got %s", what, jsonKind(t))
	}
	return named{s, at}, nil
}
