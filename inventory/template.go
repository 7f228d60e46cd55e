package inventory

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// This file puts variables into text, where that is all a template asks for:
// "{{ inventory_hostname }}.example.com". A filter, a condition, an expression are
// not evaluated: what needs one cannot be known here.

// reference is a template that is a variable and nothing else.
var reference = regexp.MustCompile(`\{\{-?\s*([A-Za-z_][A-Za-z0-9_]*)\s*-?\}\}`)

// maxLinks is how many templates may lead to each other.
const maxLinks = 10

// plain returns v with what its templates ask for, or why that cannot be known.
func (s *scope) plain(v any, depth int) (any, string) {
	switch v := v.(type) {
	case verbatim:
		return string(v), ""
	case unread:
		return nil, string(v)
	case string:
		if !strings.Contains(v, "{{") && !strings.Contains(v, "{%") && !strings.Contains(v, "{#") {
			return v, ""
		}
		return s.filled(v, depth)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var why string
			if out[i], why = s.plain(v[i], depth); why != "" {
				return nil, why
			}
		}
		return out, ""
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			var why string
			if out[k], why = s.plain(v[k], depth); why != "" {
				return nil, why
			}
		}
		return out, ""
	}
	return v, ""
}

// filled fills in a template. One that is a single variable has that one's type.
func (s *scope) filled(text string, depth int) (any, string) {
	if depth > maxLinks {
		return nil, "a template that leads to itself"
	}
	const other = "a template that is more than the name of a variable"
	places := reference.FindAllStringSubmatchIndex(text, -1)
	var out strings.Builder
	last := 0
	for _, p := range places {
		v, why := s.lookUp(text[p[2]:p[3]], depth+1)
		if why != "" {
			return nil, why
		}
		if p[0] == 0 && p[1] == len(text) {
			return v, ""
		}
		between := text[last:p[0]]
		if strings.Contains(between, "{{") || strings.Contains(between, "{%") || strings.Contains(between, "{#") || text[p[0]+2] == '-' || text[p[1]-3] == '-' {
			return nil, other
		}
		out.WriteString(between)
		last = p[1]
		switch v := v.(type) {
		case string:
			out.WriteString(v)
		case int64:
			out.WriteString(strconv.FormatInt(v, 10))
		default:
			return nil, "a template with a variable that is neither text nor a whole number"
		}
	}
	rest := text[last:]
	if strings.Contains(rest, "{{") || strings.Contains(rest, "{%") || strings.Contains(rest, "{#") {
		return nil, other
	}
	return out.String() + rest, ""
}

// lookUp returns the value of a variable, or of what Ansible says of every host.
func (s *scope) lookUp(name string, depth int) (any, string) {
	if p, ok := s.vars[name].(placed); ok {
		return s.plain(p.value, depth)
	}
	switch name {
	case "inventory_hostname":
		return s.m.name, ""
	case "inventory_hostname_short":
		short, _, _ := strings.Cut(s.m.name, ".")
		return short, ""
	case "inventory_file":
		return s.files[s.m], ""
	case "inventory_dir":
		return filepath.Dir(s.files[s.m]), ""
	}
	return nil, "a template with " + name + ", which no variable is"
}
