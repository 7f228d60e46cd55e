package policy

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"runbook/engine"
	"runbook/internal/spell"
	"runbook/internal/yamlfile"
)

// This file reads the YAML of a policy. What it does not know is an error: a
// rule that was mistyped must not be a rule that is not there.

type (
	field    = yamlfile.Field
	handlers = yamlfile.Handlers
)

// reader reads one policy.
type reader struct {
	yamlfile.Reader
	p *Policy
}

// Parse reads text, which is that of the file at path.
func Parse(path string, text []byte) (*Policy, error) {
	r := reader{yamlfile.Reader{File: path}, &Policy{Path: path}}
	body, err := r.Parse(text)
	if err != nil {
		return nil, err
	}
	var keys []field
	if body != nil {
		if keys, err = r.Mapping(body, "a policy"); err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return nil, yamlfile.Invalid(path+":1:1", "", "the policy is empty: it would allow everything")
	}
	err = r.Fields(body, "a policy", handlers{
		"limits":               r.limits,
		"operations":           r.operations,
		"windows":              r.windows,
		"freezes":              r.each(r.freeze),
		"confirm":              func(f field) error { return r.patterns(f, &r.p.confirm) },
		"untouched":            r.each(r.quota),
		"forbid_repeat_anyway": func(f field) error { return r.flag(f, &r.p.ForbidRepeat) },
		"require_reason":       func(f field) error { return r.flag(f, &r.p.RequireReason) },
	})
	if err != nil {
		return nil, err
	}
	return r.p, nil
}

func (r reader) limits(f field) error {
	list, err := r.Mapping(f.Value, "limits")
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return yamlfile.Invalid(f.Pos, "leave it out, or say what is limited: nodes: 50", "limits has no entry: it would limit nothing")
	}
	r.p.Limits = engine.Limits{}
	for _, f := range list {
		info, known := engine.Limit(f.Name).Info()
		if !known {
			var names []string
			for _, i := range engine.LimitTable {
				names = append(names, string(i.Name))
			}
			hint := strings.TrimSpace(spell.Question(spell.Near(f.Name, names, 2)) + " they are " + strings.Join(names, ", "))
			return yamlfile.Invalid(f.Pos, hint, "there is no limit %q", f.Name)
		}
		text, err := r.scalar(f)
		if err != nil {
			return err
		}
		n, err := info.Parse(text)
		if err != nil {
			return yamlfile.Invalid(r.Place(f.Value), "", "limits: %v", err)
		}
		r.p.Limits[info.Name] = engine.Bound{N: n, Source: "policy " + f.Pos}
	}
	return nil
}

// scalar is the text of a value that may be written with or without quotes.
func (r reader) scalar(f field) (string, error) {
	switch n := f.Value.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.IntegerNode:
		i, err := r.Integer(n, f.Name)
		return strconv.FormatInt(i, 10), err
	}
	return "", r.Mistyped(f.Value, f.Name, "a number, or text such as 30m")
}

func (r reader) operations(f field) error {
	r.p.closed = true // also where the list is empty: nothing is allowed then
	return r.each(r.allowance)(f)
}

// each reads a list of mappings.
func (r reader) each(read func(what string, n ast.Node) error) func(field) error {
	return func(f field) error {
		items, err := r.List(f.Value, f.Name)
		if err != nil {
			return err
		}
		for _, item := range items {
			if err := read("an entry of "+f.Name, item); err != nil {
				return err
			}
		}
		return nil
	}
}

func (r reader) allowance(what string, n ast.Node) error {
	var a allowance
	err := r.Fields(n, what, handlers{
		"allow": func(f field) error { return r.patterns(f, &a.allow) },
		"users": func(f field) error { return r.texts(f, &a.users) },
		"on":    func(f field) error { return r.patterns(f, &a.on) },
		"argv":  func(f field) error { return r.patterns(f, &a.argv) },
	})
	if err != nil {
		return err
	}
	if a.allow == nil {
		return yamlfile.Invalid(r.Place(n), "", "%s needs allow: [route.*]", what)
	}
	r.p.operations = append(r.p.operations, a)
	return nil
}

// windows wants at least one: an empty list would look as if nothing were allowed at any time.
func (r reader) windows(f field) error {
	if err := r.each(r.window)(f); err != nil || len(r.p.windows) > 0 {
		return err
	}
	return yamlfile.Invalid(f.Pos, "leave it out, or allow no operations: operations: []", "windows has no entry: want when changes may be made")
}

func (r reader) window(what string, n ast.Node) error {
	w := window{zone: time.UTC, pos: r.Place(n)}
	given := map[string]bool{}
	clock := func(to *time.Duration) func(field) error {
		return r.text(func(s string) (err error) {
			*to, err = clockTime(s)
			return err
		}, given)
	}
	err := r.Fields(n, what, handlers{
		"days": func(f field) error {
			var names []string
			if err := r.texts(f, &names); err != nil {
				return err
			}
			for _, name := range names {
				d, ok := weekdays[strings.ToLower(name)]
				if !ok {
					return yamlfile.Invalid(r.Place(f.Value), "", "days: %q is none of sun, mon, tue, wed, thu, fri, sat", name)
				}
				w.days = append(w.days, d)
			}
			return nil
		},
		"from": clock(&w.from),
		"to":   clock(&w.to),
		"zone": r.text(zoned(&w.zone), given),
	})
	switch {
	case err != nil:
		return err
	case !given["from"] || !given["to"]:
		return yamlfile.Invalid(w.pos, "", `%s needs from: "09:00" and to: "17:00"`, what)
	case w.from == w.to:
		return yamlfile.Invalid(w.pos, "", "%s ends when it begins", what)
	}
	r.p.windows = append(r.p.windows, w)
	return nil
}

func (r reader) freeze(what string, n ast.Node) error {
	f := freeze{pos: r.Place(n)}
	zone := time.UTC
	var from, to string
	given := map[string]bool{}
	keep := func(to *string) func(field) error {
		return r.text(func(s string) error { *to = s; return nil }, given)
	}
	err := r.Fields(n, what, handlers{
		"from": keep(&from), "to": keep(&to), "why": keep(&f.why),
		"zone": r.text(zoned(&zone), given),
	})
	if err != nil {
		return err
	}
	if !given["from"] || !given["to"] {
		return yamlfile.Invalid(f.pos, "", "%s needs from: and to:", what)
	}
	if f.from, err = moment(from, zone, false); err == nil {
		f.to, err = moment(to, zone, true)
	}
	switch {
	case err != nil:
		return yamlfile.Invalid(f.pos, "", "%s: %v", what, err)
	case !f.from.Before(f.to):
		return yamlfile.Invalid(f.pos, "", "%s ends before it begins", what)
	}
	r.p.freezes = append(r.p.freezes, f)
	return nil
}

func (r reader) quota(what string, n ast.Node) error {
	q := quota{pos: r.Place(n)}
	given := map[string]bool{}
	err := r.Fields(n, what, handlers{
		"group": r.text(func(s string) error { q.group = s; return nil }, given),
		"at_least": func(f field) error {
			text, err := r.scalar(f)
			if err != nil {
				return err
			}
			number, percent := strings.CutSuffix(text, "%")
			q.percent = percent
			if q.least, err = strconv.Atoi(number); err != nil || q.least < 0 || percent && q.least > 100 {
				return yamlfile.Invalid(r.Place(f.Value), "", `at_least: want a number of nodes, or a percentage such as "50%%", got %q`, text)
			}
			given["at_least"] = true
			return nil
		},
	})
	if err != nil {
		return err
	}
	for _, key := range []string{"group", "at_least"} {
		if !given[key] {
			return yamlfile.Invalid(q.pos, "", "%s needs %s:", what, key)
		}
	}
	r.p.untouched = append(r.p.untouched, q)
	return nil
}

// text reads a text with take, and notes that it was given.
func (r reader) text(take func(string) error, given map[string]bool) func(field) error {
	return func(f field) error {
		s, ok := f.Value.(*ast.StringNode)
		if !ok {
			return r.Mistyped(f.Value, f.Name, "text")
		}
		given[f.Name] = true
		if err := take(s.Value); err != nil {
			return yamlfile.Invalid(r.Place(f.Value), "", "%s: %v", f.Name, err)
		}
		return nil
	}
}

// texts reads a text, or a list of them. An empty list would look as if it said something.
func (r reader) texts(f field, to *[]string) error {
	items := []ast.Node{f.Value}
	if s, ok := f.Value.(*ast.SequenceNode); ok {
		items = s.Values
	}
	if len(items) == 0 {
		return r.Mistyped(f.Value, f.Name, "text, or a list of it")
	}
	for _, item := range items {
		s, ok := item.(*ast.StringNode)
		if !ok || s.Value == "" {
			return r.Mistyped(item, f.Name, "text")
		}
		*to = append(*to, s.Value)
	}
	return nil
}

// patterns is texts in which * and ? and [a-z] stand for others.
func (r reader) patterns(f field, to *[]string) error {
	if err := r.texts(f, to); err != nil {
		return err
	}
	for _, p := range *to {
		if _, err := path.Match(p, ""); err != nil {
			return yamlfile.Invalid(r.Place(f.Value), "", "%s: %q is not a pattern", f.Name, p)
		}
	}
	return nil
}

func (r reader) flag(f field, to *bool) error {
	b, ok := f.Value.(*ast.BoolNode)
	if !ok {
		return r.Mistyped(f.Value, f.Name, "true or false")
	}
	*to = b.Value
	return nil
}

// Describe is what p says, a line for each thing.
func (p *Policy) Describe() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(p.Limits)) {
		info, _ := name.Info()
		out = append(out, fmt.Sprintf("limit %s = %s", name, info.Show(p.Limits[name].N)))
	}
	if p.closed && len(p.operations) == 0 {
		out = append(out, "nothing may be changed")
	}
	for _, a := range p.operations {
		line := "allow " + strings.Join(a.allow, ", ")
		for _, part := range []struct {
			word string
			list []string
		}{{" argv ", a.argv}, {" on ", a.on}, {" for ", a.users}} {
			if part.list != nil {
				line += part.word + strings.Join(part.list, ", ")
			}
		}
		out = append(out, line)
	}
	for _, w := range p.windows {
		out = append(out, "window "+w.String())
	}
	for _, f := range p.freezes {
		out = append(out, fmt.Sprintf("freeze %s to %s%s", f.from.Format(timeForm), f.to.Format(timeForm), f.reason()))
	}
	if p.confirm != nil {
		out = append(out, "somebody is asked about "+strings.Join(p.confirm, ", "))
	}
	for _, q := range p.untouched {
		unit := " nodes"
		if q.percent {
			unit = "%"
		}
		out = append(out, fmt.Sprintf("within an hour at least %d%s of %s stay untouched", q.least, unit, q.group))
	}
	if p.ForbidRepeat {
		out = append(out, "--repeat-anyway is forbidden")
	}
	if p.RequireReason {
		out = append(out, "a run must give a reason")
	}
	return out
}
